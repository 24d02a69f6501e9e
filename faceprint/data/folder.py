"""Image folders: one folder an identity, images inside it."""

from __future__ import annotations

import os
from pathlib import Path

from faceprint.data.files import FileSource, make_file_source
from faceprint.data.images import IMAGE_SUFFIXES, images_below
from faceprint.errors import UserError


def image_folder(path: str | os.PathLike[str]) -> FileSource:
    """The images of `path/IDENTITY/**`, sorted by name; the first folder level is the identity.

    Files that are no images by their suffix, and images directly in `path`, are passed over and counted (`skipped`);
    hidden ones are passed over. Raises `UserError` for a missing folder, one without images, and one that cannot be
    listed.
    """
    root = Path(path)
    identities: list[str] = []
    paths: list[str] = []
    folders, loose = _identities(root)
    others = 0
    for identity in folders:
        found, more = images_below(root / identity)
        paths.extend(os.path.join(identity, name) for name in found)
        identities.extend([identity] * len(found))
        others += more
    if not paths:
        raise UserError(f"{root}: no images; expected {root}/IDENTITY/IMAGE with {', '.join(IMAGE_SUFFIXES)}")
    skipped = {"images in no folder of an identity": loose, "files that do not end as images do": others}
    return make_file_source(root, paths, identities, {what: count for what, count in skipped.items() if count})


def _identities(root: Path) -> tuple[list[str], int]:
    """The folders in `root`, sorted, and how many images lie beside them; hidden ones are neither."""
    try:
        entries = [entry for entry in os.scandir(root) if entry.name[0] != "."]
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{root}: no such folder; an image folder holds one folder an identity") from error
    except OSError as error:
        raise UserError(f"{root}: cannot be listed ({error.strerror or error})") from error
    return folders, sum(entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.is_dir() for entry in entries)
