"""From the `data` section of a configuration to a source of training images."""

from __future__ import annotations

import hashlib

from faceprint.config import (
    Data,
    Exclude,
    FolderData,
    ListData,
    MixedData,
    ParquetData,
    PartData,
    RecordData,
    ShardsData,
    SyntheticData,
)
from faceprint.data.folder import image_folder
from faceprint.data.lists import image_list
from faceprint.data.mixed import MixedSource, mix
from faceprint.data.pair_lists import person_of, read_pair_list
from faceprint.data.parquet import parquet_source
from faceprint.data.record_source import RecordSource
from faceprint.data.shards import shard_source
from faceprint.data.source import Source, keep_identities
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError


def build_source(data: Data, image_size: tuple[int, int]) -> Source:
    """The source that `data` describes. Raises `UserError` for one with fewer than two identities."""
    source = _mixed(data, image_size) if isinstance(data, MixedData) else _one(data, image_size)
    if len(source.class_names) < 2:
        raise UserError(f"training needs at least 2 identities, the data has {len(source.class_names)}")
    return source


def _mixed(data: MixedData, image_size: tuple[int, int]) -> MixedSource:
    names = [part.name for part in data.parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"data.parts: {', '.join(twice)}: two parts have this name; each needs its own")
    parts = [_one(part.data, image_size) for part in data.parts]
    weights = [part.weight for part in data.parts]
    return mix(parts, by_name=data.classes == "by_name", names=names, weights=weights)


def _one(data: PartData, image_size: tuple[int, int]) -> Source:
    if not isinstance(data, SyntheticData):
        return _choose(_stored(data), data)
    return SyntheticFaces(
        data.identities,
        data.images_per_identity,
        size=image_size,
        difficulty=data.difficulty,
        seed=data.seed,
        first_identity=data.first_identity,
    )


def epoch_images(source: Source) -> int:
    """Images in one pass over `source`: all, or as many as the weights of several sets make."""
    return sum(source.images_per_epoch) if isinstance(source, MixedSource) else len(source)


StoredData = FolderData | ListData | RecordData | ShardsData | ParquetData


def _stored(data: StoredData) -> Source:
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


def _choose(source: Source, data: StoredData) -> Source:
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
    return {person_of(image) for pair in pairs for image in (pair.first, pair.second)}


def fingerprint(source: Source) -> str:
    """SHA-256 over identities and labels, by which a resumed run knows its data again."""
    digest = hashlib.sha256(source.labels.tobytes())
    for name in source.class_names:
        digest.update(name.encode() + b"\n")
    return digest.hexdigest()
