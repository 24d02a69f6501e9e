"""Start and memory of a very large record file, and how fast records are read and a lost index is made. Prints JSON.

    python benchmarks/record_index.py [--records 10000000] [--identities 500000] [--folder /tmp]

Two sets of tiny records (40 bytes each) are written, one of each flavour: start-up reads the index and the labels, not
the images, so their size does not matter. `cold` is a first opening, which parses the `.idx` and reads labels
(`insightface`: from the identity records; `im2rec`: from the `.lst`, and from every record's header without one);
`cached` is a later one. A spawned worker opens the set and reads 20,000 random records: `worker_own_mib`
is what that adds to its own memory, `worker_resident_mib` counts the pages of the index too, which all processes
share. `scan` makes the index of 1 GiB of 4 KiB records without an `.idx`. Files are in the system's cache throughout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faceprint.data.record_source import RecordSource
from faceprint.data.recordio import RecordReader, RecordWriter

MAGIC, SIZE = 0xCED7230A, 40
TINY = np.dtype(
    {
        "names": ["magic", "length", "flag", "label", "id", "id2", "labels"],
        "formats": ["<u4", "<u4", "<u4", "<f4", "<u8", "<u8", ("<f4", (2,))],
    }
)
READS = 20_000


def write(path: Path, keys: np.ndarray, labels: np.ndarray, ranges: np.ndarray) -> Path:
    """Image records (flag 0), then records with two labels (flag 2)."""
    records = np.zeros(len(keys), TINY)
    images = len(labels)
    records["magic"], records["length"], records["id"] = MAGIC, SIZE - 8, keys
    records["label"][:images] = labels
    records["flag"][images:], records["labels"][images:] = 2, ranges
    records.tofile(path)
    with path.with_suffix(".idx").open("w") as file:
        for start in range(0, len(keys), 1 << 16):
            some = zip(
                keys[start : start + (1 << 16)].tolist(), range(start * SIZE, len(keys) * SIZE, SIZE), strict=False
            )
            file.writelines(f"{key}\t{offset}\n" for key, offset in some)
    return path


def write_insightface(path: Path, images: int, identities: int) -> Path:
    edges = np.linspace(1, images + 1, identities + 1).astype(np.int64)
    ranges = np.stack([edges[:-1], edges[1:]], 1)
    header = [[images + 1, images + 1 + identities]]
    keys = np.append(np.arange(1, images + identities + 1), 0)
    return write(path, keys, np.repeat(np.arange(identities), np.diff(edges)), np.append(ranges, header, 0))


def write_im2rec(path: Path, images: int, identities: int) -> Path:
    rng = np.random.default_rng(0)
    keys, labels = rng.permutation(images), rng.integers(0, identities, images)
    with path.with_suffix(".lst").open("w") as file:
        file.writelines(f"{key}\t{label:.6f}\timages/{key}.jpg\n" for key, label in zip(keys, labels, strict=True))
    return write(path, keys, labels, np.zeros((0, 2)))


def seconds(task: Callable[[], Any]) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    task()
    return {"seconds": round(time.perf_counter() - started, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}


def memory() -> dict[str, float]:
    text = Path("/proc/self/smaps_rollup").read_text()
    sizes = {name: int(size) / 1024 for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
    return {"own": sizes["Anonymous"], "resident": sizes["Rss"]}


def worker(path: Path) -> dict[str, float]:
    before, started = memory(), time.perf_counter()
    source = RecordSource(path)
    opened = time.perf_counter()
    for index in np.random.default_rng(1).integers(0, len(source), READS):
        source.encoded(int(index))
    after = memory()
    return {
        "worker_start_seconds": round(opened - started, 2),
        "worker_reads_per_second": round(READS / (time.perf_counter() - opened)),
        "worker_own_mib": round(after["own"] - before["own"], 1),
        "worker_resident_mib": round(after["resident"] - before["resident"], 1),
    }


def measure(path: Path) -> dict[str, Any]:
    result = {
        "idx_mib": round(path.with_suffix(".idx").stat().st_size / 2**20),
        "index_cold": seconds(lambda: RecordReader(path)),
        "labels_cold": seconds(lambda: RecordSource(path)),
        "cached": seconds(lambda: RecordSource(path)),
    }
    other = RecordSource(path)  # as the main process of a training: its pages are shared with the workers
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result |= pool.apply(worker, (path,))
    return result | {"images": len(other), "identities": len(other.class_names)}


def scan(path: Path) -> dict[str, Any]:
    with RecordWriter(path) as writer:
        for key in range(1 << 18):
            writer.write(bytes(4056), key % 1000)
    path.with_suffix(".idx").unlink()
    return {"scanned_gib": round(path.stat().st_size / 2**30, 2), "scan": seconds(lambda: RecordReader(path))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--identities", type=int, default=500_000)
    parser.add_argument("--folder", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        result: dict[str, Any] = {
            "insightface": measure(write_insightface(folder / "a.rec", arguments.records, arguments.identities))
        }
        path = write_im2rec(folder / "b.rec", arguments.records, arguments.identities)
        result["im2rec"] = measure(path)
        path.with_suffix(".lst").unlink()
        result["im2rec"]["labels_from_headers_cold"] = seconds(lambda: RecordSource(path))
        result["scan"] = scan(folder / "c.rec")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
