"""Writes Parquet files as Hugging Face datasets keeps images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.extras import require

FILE_IMAGES = 8192
GROUP_IMAGES = 128


class ParquetWriter:
    """A `SetWriter` of Parquet files `train-00000.parquet` … in the folder `path`, or of the one file `path`.

    Columns `image` (struct of bytes and path) and `label` (int64, a ClassLabel with the names). Images are stored byte
    for byte, not compressed again, in row groups of 128 and files of 8,192. A file is gone on with by none, as its
    index stands at its end: a folder goes on behind its last whole file, a single file begins anew.
    """

    def __init__(self, path: Path, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        self._path, self._single = path, path.suffix == ".parquet"
        self._schema = hugging_face_schema(class_names)
        self._rows: list[tuple[bytes, int, str]] = []
        self._count = len(labels)
        self._file: Any = None

    def write(self, data: bytes, label: int, path: str) -> None:
        self._file = self._file or self._open()
        self._rows.append((data, label, path))
        self._count += 1
        if len(self._rows) == GROUP_IMAGES:
            self._write_group()
        if self._count % FILE_IMAGES == 0 and not self._single:
            self.finish()

    def checkpoint(self) -> Mapping[str, int] | None:
        return {} if self._file is None else None

    def finish(self) -> None:
        if self._file is not None:
            self._write_group()
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> Any:
        parquet: Any = require("pyarrow.parquet", "parquet", "Parquet files")
        number = self._count // FILE_IMAGES
        file = self._path if self._single else self._path / f"train-{number:05d}.parquet"
        # Images are compressed already, and no two are equal.
        return parquet.ParquetWriter(
            file, self._schema, compression="none", use_dictionary=False, write_page_checksum=True
        )

    def _write_group(self) -> None:
        arrow: Any = require("pyarrow", "parquet", "Parquet files")
        images = [{"bytes": data, "path": path} for data, _, path in self._rows]
        columns = {"image": images, "label": [label for _, label, _ in self._rows]}
        if self._rows:
            self._file.write_table(arrow.Table.from_pydict(columns, schema=self._schema))
        self._rows.clear()


def hugging_face_schema(class_names: Sequence[str]) -> Any:
    """The Arrow schema, with the metadata by which Hugging Face datasets knows images and names."""
    arrow: Any = require("pyarrow", "parquet", "Parquet files")
    features = {"image": {"_type": "Image"}, "label": {"names": list(class_names), "_type": "ClassLabel"}}
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return arrow.schema([("image", image), ("label", arrow.int64())], metadata)
