"""Names of identities from the folders that their images were in."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from faceprint.data.source import Source, Subset


def with_names(source: Source) -> Source:
    """`source`, its identities named by the folders of their images where they have numbers only.

    So it is with lists and `.rec` files of im2rec, whose `.lst` keeps the paths. The numbers stay where an identity's
    images come from several folders, two identities share one, or a path is not known.
    """
    if not all(name.isdecimal() for name in source.class_names):
        return source
    folders: dict[int, str] = {}
    for index, label in enumerate(source.labels.tolist()):
        folder = PurePosixPath(source.stored_path(index).replace("\\", "/")).parent.name
        if not folder or folders.setdefault(label, folder) != folder:
            return source
    if len(set(folders.values())) < len(source.class_names):
        return source
    names = [folders[label] for label in range(len(source.class_names))]
    return Subset(source, np.arange(len(source)), source.labels, names)
