"""From the `data` section of a configuration to a source of training images."""

from __future__ import annotations

import hashlib
from pathlib import PurePath

from faceprint.config import Data, Exclude, FolderData, ListData, ParquetData, RecordData, ShardsData, SyntheticData
from faceprint.data.folder import image_folder
from faceprint.data.lists import image_list
from faceprint.data.pair_lists import read_pair_list
from faceprint.data.parquet import parquet_source
from faceprint.data.record_source import RecordSource
from faceprint.data.shards import shard_source
from faceprint.data.source import Source, keep_identities
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError


def build_source(data: Data, image_size: tuple[int, int]) -> Source:
    """The source that `data` describes. Raises `UserError` for one with fewer than two identities."""
    if isinstance(data, SyntheticData):
        source: Source = SyntheticFaces(
            data.identities,
            data.images_per_identity,
            size=image_size,
            difficulty=data.difficulty,
            seed=data.seed,
            first_identity=data.first_identity,
        )
    else:
        source = _choose(_stored(data), data)
    if len(source.class_names) < 2:
        raise UserError(f"training needs at least 2 identities, the data has {len(source.class_names)}")
    return source


def _stored(data: FolderData | ListData | RecordData | ShardsData | ParquetData) -> Source:
    match data:
        case FolderData():
            return image_folder(data.path)
        case ListData():
            return image_list(data.path, data.root)
        case RecordData():
            return RecordSource(data.path)
        case ShardsData():
            return shard_source(data.path)
        case ParquetData():
            return parquet_source(data.path, image_column=data.image_column, label_column=data.label_column)


def _choose(source: Source, data: FolderData | ListData | RecordData | ShardsData | ParquetData) -> Source:
    excluded = excluded_identities(data.exclude) if data.exclude else set[str]()
    chosen = keep_identities(source, lambda name, count: count >= data.min_images and name not in excluded)
    if len(chosen) == 0:
        raise UserError(
            f"{data.path}: none of the {len(source.class_names)} identities is left after"
            f" min_images={data.min_images} and exclude ({len(excluded)} names)"
        )
    return chosen


def excluded_identities(exclude: Exclude) -> set[str]:
    """The people named in those folds of the pairs file."""
    pairs = [pair for pair in read_pair_list(exclude.pairs) if exclude.folds is None or pair.fold in exclude.folds]
    if not pairs:
        raise UserError(f"{exclude.pairs}: has no pairs in folds {exclude.folds}")
    return {PurePath(image).parts[0] for pair in pairs for image in (pair.first, pair.second)}


def fingerprint(source: Source) -> str:
    """SHA-256 over identities and labels, by which a resumed run knows its data again."""
    digest = hashlib.sha256(source.labels.tobytes())
    for name in source.class_names:
        digest.update(name.encode() + b"\n")
    return digest.hexdigest()
