"""What was not taken into a set when it was opened: counted, to be shown."""

from __future__ import annotations

from collections import Counter

from faceprint.data.files import FileSource
from faceprint.data.mixed import MixedSource
from faceprint.data.parquet import ParquetSource
from faceprint.data.shards import ShardSource
from faceprint.data.source import Source, Subset


def skipped(source: Source) -> Counter[str]:
    """What was passed over where the data was read in, such as images without a label, and how much of it."""
    match source:
        case MixedSource():
            return sum(map(skipped, source.parts), Counter[str]())
        case Subset():
            return skipped(source.source)
        case FileSource() | ShardSource() | ParquetSource():
            return Counter(source.skipped)
        case _:
            return Counter()
