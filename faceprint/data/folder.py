"""Image folders: one folder an identity, images inside it."""

from __future__ import annotations

import os
from pathlib import Path

from faceprint.data.files import FileSource, make_file_source
from faceprint.data.images import IMAGE_SUFFIXES, images_below
from faceprint.errors import UserError


def image_folder(path: str | os.PathLike[str]) -> FileSource:
    """The images of `path/IDENTITY/**`, sorted by name; the first folder level is the identity.

    Files that are no images by their suffix, hidden ones, and images directly in `path` are passed over. Raises
    `UserError` for a missing folder, for one without images, and where one cannot be listed.
    """
    root = Path(path)
    identities: list[str] = []
    paths: list[str] = []
    for identity in _identities(root):
        found = images_below(root / identity)
        paths.extend(os.path.join(identity, name) for name in found)
        identities.extend([identity] * len(found))
    if not paths:
        raise UserError(f"{root}: no images; expected {root}/IDENTITY/IMAGE with {', '.join(IMAGE_SUFFIXES)}")
    return make_file_source(root, paths, identities)


def _identities(root: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{root}: no such folder; an image folder holds one folder an identity") from error
    except OSError as error:
        raise UserError(f"{root}: cannot be listed ({error.strerror or error})") from error
