"""`faceprint gallery`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.embed import cropped, embed_shown, find_images, open_model
from faceprint.cli.model_options import (
    AlignOption,
    BatchSizeOption,
    DetectorOption,
    DeviceOption,
    FlipOption,
    InputOption,
    ModelArgument,
)
from faceprint.cli.output import JsonOption, err, print_table, write_json
from faceprint.errors import UserError

app = typer.Typer(
    help="People who are enrolled, in one file: add, remove and list them. `faceprint identify` searches it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

GalleryArgument = Annotated[Path, typer.Argument(metavar="FILE.gallery", help="The gallery.")]


@app.command("add")
def add(
    model: ModelArgument,
    gallery: GalleryArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Folders with a folder a person; with --person, any images.")
    ],
    person: Annotated[
        Optional[str], typer.Option(help="Whose images these are. Default: their folders' names.")
    ] = None,
    flip: FlipOption = False,
    batch_size: BatchSizeOption = 64,
    align: AlignOption = False,
    detector_model: DetectorOption = None,
    overrides: InputOption = None,
    device: DeviceOption = "auto",
    json_target: JsonOption = None,
) -> None:
    """Enrol people: the embeddings of their images are kept, the images are not.

    A gallery that is not there yet is made, and belongs to this model from then on: another one is refused. An image
    that a person has already is embedded anew. Embeddings of faces are personal data, and so is the gallery.

    Example: faceprint gallery add runs/first staff.gallery crops
    """
    from faceprint.inference.gallery import check_gallery_name, new_gallery, open_gallery

    check_gallery_name(gallery)
    paths = find_images(images)
    people = [person or path.parent.name for path in paths]
    embedder = open_model(model, overrides, device)
    before = open_gallery(gallery) if gallery.exists() else new_gallery(embedder, flip=flip)
    before.check_model(embedder)
    if flip != before.maker.flip:
        raise UserError(f"{gallery} was made {'with' if before.maker.flip else 'without'} --flip; do so again")
    faces = cropped(paths, embedder, detector_model) if align else paths
    vectors = embed_shown(embedder, faces, len(paths), flip=flip, batch_size=batch_size)
    after = before.added(vectors, people, list(map(str, paths)))
    after.save(gallery)
    _say(gallery, after.people, json_target)


@app.command("remove")
def remove(
    gallery: GalleryArgument,
    people: Annotated[list[str], typer.Argument(metavar="PERSON", help="Who is taken out, with all their images.")],
    json_target: JsonOption = None,
) -> None:
    """Take people out of a gallery.

    Example: faceprint gallery remove staff.gallery Ann
    """
    from faceprint.inference.gallery import open_gallery

    after = open_gallery(gallery).removed(people)
    after.save(gallery)
    _say(gallery, after.people, json_target)


@app.command("list")
def list_people(gallery: GalleryArgument, json_target: JsonOption = None) -> None:
    """Who is enrolled, with how many images, and by which model.

    Example: faceprint gallery list staff.gallery
    """
    from faceprint.inference.gallery import open_gallery

    found = open_gallery(gallery)
    counts = sorted(Counter(found.people).items())
    title = f"{gallery}: by {found.maker.name}, {found.maker.content_hash}"
    print_table(title, ("person", "images"), [(name, f"{count:,}") for name, count in counts], json_target=json_target)
    write_json({"model": found.maker.model_dump(mode="json"), "people": dict(counts)}, json_target)


def _say(gallery: Path, people: Sequence[str], json_target: str | None) -> None:
    err.print(f"{len(people):,} images of {len(set(people)):,} people in {gallery}", markup=False)
    write_json({"gallery": str(gallery), "num_images": len(people), "num_people": len(set(people))}, json_target)
