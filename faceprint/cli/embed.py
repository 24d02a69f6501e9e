"""`faceprint embed`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceprint.cli.model_options import (
    AlignOption,
    BatchSizeOption,
    DetectorOption,
    DeviceOption,
    FlipOption,
    InputOption,
    ModelArgument,
)
from faceprint.cli.output import JsonOption, err, progress_bar, write_json
from faceprint.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from faceprint.inference.embedder import Embedder, Given


def embed(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, and folders of them.")],
    output: Annotated[Path, typer.Option(metavar="FILE.npz", help="The file to write.")],
    flip: FlipOption = False,
    batch_size: BatchSizeOption = 64,
    align: AlignOption = False,
    detector_model: DetectorOption = None,
    overrides: InputOption = None,
    device: DeviceOption = "auto",
    json_target: JsonOption = None,
) -> None:
    """Write the embeddings of aligned faces: path (N,) and embedding float32 (N, D), each of length 1.

    Folders are searched to any depth, in the order of names.

    Example: faceprint embed runs/first crops --output crops.npz
    """
    import numpy as np

    from faceprint.files import write_whole
    from faceprint.inference.output_file import check_output

    check_output(output, ".npz")
    paths = find_images(images)
    embedder = open_model(model, overrides, device)
    faces = cropped(paths, embedder, detector_model) if align else paths
    embeddings = embed_shown(embedder, faces, len(paths), flip=flip, batch_size=batch_size)
    content = io.BytesIO()
    np.savez(content, path=np.array([str(path) for path in paths]), embedding=embeddings)
    write_whole(output, content.getvalue())
    err.print(f"{len(paths):,} embeddings of {embedder.embedding_dim} dimensions in {output}", markup=False)
    write_json({"output": str(output), "num_images": len(paths), "embedding_dim": embedder.embedding_dim}, json_target)


def open_model(model: str, overrides: list[str] | None, device: str) -> Embedder:
    """`faceprint.load` with the texts of `--input`."""
    from faceprint.assignments import split_assignment
    from faceprint.inference import load

    return load(model, dict(map(split_assignment, overrides or [])), device)


def embed_shown(
    embedder: Embedder, faces: Iterable[Given], count: int, *, flip: bool, batch_size: int
) -> NDArray[np.float32]:
    """`Embedder.embed` of `count` faces, with a progress bar."""
    with progress_bar("embedding", "images") as progress:
        return embedder.embed(faces, flip=flip, batch_size=batch_size, progress=lambda done, _: progress(done, count))


def cropped(paths: list[Path], embedder: Embedder, detector_model: str | None) -> Iterator[Given]:
    """The faces of photographs in the network's size, one after the other."""
    from faceprint.data.detection import YuNet
    from faceprint.data.model_files import YUNET, find_model
    from faceprint.inference.crop import crop_face

    detector = YuNet(find_model(detector_model or YUNET.name))
    return (crop_face(path, detector, embedder.input.size) for path in paths)


def find_images(given: list[Path]) -> list[Path]:
    """The files given, and those below the folders given."""
    from faceprint.data.images import IMAGE_SUFFIXES, images_below

    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = [path / name for name in images_below(path)]
            if not inside:
                raise UserError(f"{path}: no images in it or below; they end in {', '.join(IMAGE_SUFFIXES)}")
            paths.extend(inside)
        elif path.is_file():
            paths.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return paths
