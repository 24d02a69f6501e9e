"""`faceprint identify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.embed import cropped, embed_shown, find_images, open_model
from faceprint.cli.gallery import GalleryArgument
from faceprint.cli.model_options import (
    AlignOption,
    BatchSizeOption,
    DetectorOption,
    DeviceOption,
    InputOption,
    ModelArgument,
)
from faceprint.cli.output import JsonOption, err, print_table, write_json
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.inference.embedder import Embedder
    from faceprint.inference.gallery import Candidate, Gallery
    from faceprint.inference.model_card import StoredCalibration

NOBODY = "nobody who is enrolled"


def identify(
    model: ModelArgument,
    gallery: GalleryArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Aligned faces, and folders of them.")],
    top: Annotated[int, typer.Option(min=1, max=1000, help="Candidates shown for each image.")] = 1,
    threshold: Annotated[
        Optional[float],
        typer.Option(help="Similarity above which it is that person. Default: the one stored with the model."),
    ] = None,
    batch_size: BatchSizeOption = 64,
    align: AlignOption = False,
    detector_model: DetectorOption = None,
    overrides: InputOption = None,
    device: DeviceOption = "auto",
    json_target: JsonOption = None,
) -> None:
    """Who of a gallery is it? For each image the nearest people, by the nearest of their images, or nobody.

    All are compared, exactly. Without a threshold candidates are shown, and nothing is decided. One that was chosen for
    a FAR of pairs lets more strangers in, the more images there are to be compared with: how many is printed.

    Example: faceprint identify runs/first staff.gallery door.jpg --align --top 3
    """
    from faceprint.inference.gallery import open_gallery

    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"threshold {threshold}: a cosine, give -1 to 1")
    enrolled = open_gallery(gallery)
    if not len(enrolled):
        raise UserError(f"{gallery}: nobody is enrolled; add people by `faceprint gallery add`")
    paths = find_images(images)
    embedder = open_model(model, overrides, device)
    enrolled.check_model(embedder)
    limit = embedder.threshold if threshold is None else threshold
    calibration = _calibration(embedder, enrolled, threshold)
    faces = cropped(paths, embedder, detector_model) if align else paths
    vectors = embed_shown(embedder, faces, len(paths), flip=enrolled.maker.flip, batch_size=batch_size)
    found = enrolled.search(vectors, top, device=device)
    rows = [row for path, candidates in zip(paths, found, strict=True) for row in _rows(path, candidates, limit)]
    print_table(
        f"{gallery}: {_threshold_text(limit)}", ("person", "similarity", "image"), rows, json_target=json_target
    )
    if calibration is not None:
        _say_far(calibration, enrolled)
    write_json(
        {
            "gallery": str(gallery),
            "threshold": limit,
            "images": [_plain(path, candidates, limit) for path, candidates in zip(paths, found, strict=True)],
        },
        json_target,
    )


def _rows(path: Path, candidates: Sequence[Candidate], limit: float | None) -> list[tuple[str, str, str]]:
    nobody = [] if limit is None or candidates[0].similarity > limit else [(NOBODY, "")]
    lines = [*nobody, *((candidate.person, f"{candidate.similarity:.4f}") for candidate in candidates)]
    return [(*line, "" if place else str(path)) for place, line in enumerate(lines)]


def _threshold_text(limit: float | None) -> str:
    return "no threshold: nothing is decided" if limit is None else f"threshold {limit:.4f}"


def _calibration(embedder: Embedder, gallery: Gallery, threshold: float | None) -> StoredCalibration | None:
    """That of the stored threshold, where it is used. Raises `UserError` where the gallery was embedded otherwise."""
    calibration = embedder.card.calibration if embedder.card and threshold is None else None
    if calibration is not None and calibration.flip != gallery.maker.flip:
        raise UserError(
            f"the stored threshold was calibrated {'with' if calibration.flip else 'without'} --flip, the gallery was"
            " made otherwise; make it so, or give --threshold"
        )
    return calibration


def _say_far(calibration: StoredCalibration, gallery: Gallery) -> None:
    """What a FAR of pairs means for a search: the chances with all enrolled images add up at most."""
    share = min(1.0, calibration.far * len(gallery))
    err.print(
        f"the threshold is for a FAR of {calibration.far:g} in pairs: of strangers compared with {len(gallery):,}"
        f" images up to {100 * share:.3g} % are taken for somebody",
        markup=False,
    )


def _plain(path: Path, candidates: Sequence[Candidate], limit: float | None) -> dict[str, object]:
    decided = limit is not None and candidates[0].similarity > limit
    return {
        "image": str(path),
        "person": candidates[0].person if decided else None,
        "candidates": [candidate._asdict() for candidate in candidates],
    }
