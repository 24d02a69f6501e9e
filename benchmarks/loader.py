"""How fast batches come: our loader, a plain one, and the decoder with nothing around it, in turn in one run.

    python benchmarks/loader.py [--crops FOLDER] [--workers 2] [--batch-size 128] [--images 12000] [--turns 5]

The images are JPEG crops of 112x112 packed into one .rec file: those of FOLDER (one folder an identity, such as
`faceprint data align` writes), else those of LFW where FACEPRINT_TEST_DATA names it (aligned first, some minutes), else
generated faces. All read them in random order from the same file.

- `plain`: torch's DataLoader over single images: Pillow, a normalised float tensor each, its usual collation.
- `torch`: the same DataLoader over whole uint8 batches decoded by OpenCV, to tell what its passing of memory costs.
- `ours`: `faceprint.data.loader.Loader`, uint8 batches in shared memory.
- `decoder`: OpenCV in a tight loop over encoded images in memory, in as many processes at a time as there are workers.

Prints JSON. Ratios are medians over turns, each within its turn, so that other programs on the machine weigh on both
sides. `decoders_per_core` are one process each, and `differs_from_opencv` is the largest difference of a pixel.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from faceprint.data.align_folder import align_folder
from faceprint.data.benchmark import WARM_UP, decode_rate, loader_rate, rate
from faceprint.data.detectors import choose_detector
from faceprint.data.executors import Processes
from faceprint.data.folder import image_folder
from faceprint.data.loader import Loader
from faceprint.data.pixels import InputSpec
from faceprint.data.record_source import RecordSource
from faceprint.data.sampler import BatchOrder
from faceprint.data.source import Source
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.files import write_whole

SIZE = (112, 112)
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def opencv(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def pillow(data: bytes) -> Any:
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))


def simplejpeg(data: bytes) -> Any:
    import simplejpeg

    return simplejpeg.decode_jpeg(data, "RGB")


class PlainImages(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(pillow(self.source.encoded(index)).copy())
        return pixels.permute(2, 0, 1).float().div(255.0).sub(0.5).div(0.5), int(self.source.labels[index])


class TorchBatches(Dataset[Any]):
    """Whole uint8 batches, as ours, but in the shared memory that torch makes for each."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        images = np.empty((len(indices), *SIZE, 3), np.uint8)
        for row, index in enumerate(indices):
            images[row] = self.source[index][0]
        return torch.from_numpy(images), torch.from_numpy(self.source.labels[indices])


def as_it_is(batch: Any) -> Any:
    return batch


def plain_rate(source: Source, workers: int, batch_size: int, images: int) -> float:
    count = images // batch_size + WARM_UP
    order = BatchOrder(num_images=len(source), batch_size=batch_size, seed=1, first=0, last=count)
    return rate(iter(DataLoader(PlainImages(source), batch_sampler=order, num_workers=workers)), batch_size)


def torch_rate(source: Source, workers: int, batch_size: int, images: int) -> float:
    count = images // batch_size + WARM_UP
    order = BatchOrder(num_images=len(source), batch_size=batch_size, seed=1, first=0, last=count)
    batches = DataLoader(TorchBatches(source), batch_sampler=order, num_workers=workers, collate_fn=as_it_is)
    return rate(iter(batches), batch_size)


def pack(crops: str | None, folder: Path) -> tuple[RecordSource, str]:
    """The images as one .rec file in `folder`, and what they are."""
    photographs = os.environ.get("FACEPRINT_TEST_DATA")
    if crops is None and photographs:
        crops, model = str(folder / "crops"), Path(photographs) / "models" / "face_detection_yunet_2023mar.onnx"
        align_folder(
            Path(photographs) / "data" / "lfw",
            crops,
            detector=choose_detector("yunet", model),
            size=SIZE,
            executor=Processes(2),
        )
    source = image_folder(crops or write_faces(folder / "faces"))
    write_set(source, folder / "crops.rec", kind="record")
    return RecordSource(folder / "crops.rec"), crops or "generated faces"


def write_faces(folder: Path) -> str:
    faces = SyntheticFaces(100, 20, size=SIZE)
    for index, label in enumerate(faces.labels):
        path = folder / faces.class_names[label] / f"{index}.jpg"
        write_whole(path, cv2.imencode(".jpg", faces[index][0][..., ::-1], JPEG)[1].tobytes())
    return str(folder)


def decoders(encoded: list[bytes]) -> dict[str, Any]:
    """Speed of each decoder on one core, in turn, and how far its pixels are from OpenCV's."""
    known: dict[str, Callable[[bytes], Any]] = {"opencv": opencv, "pillow": pillow}
    try:
        simplejpeg(encoded[0])
        known["simplejpeg"] = simplejpeg
    except ImportError:
        pass
    rates: dict[str, list[float]] = {name: [] for name in known}
    for _ in range(5):
        for name, decode in known.items():
            rates[name].append(decode_rate(encoded, processes=1, rounds=1, decode=decode))
    apart = {
        name: max(int(np.abs(decode(data).astype(int) - opencv(data)).max()) for data in encoded[:200])
        for name, decode in known.items()
    }
    return {
        "decoders_per_core": {name: round(statistics.median(values)) for name, values in rates.items()},
        "differs_from_opencv": apart,
    }


def private_megabytes(source: Source, workers: int, batch_size: int) -> float | None:
    """Memory that a worker has for itself, beside what it shares, after some batches; None where /proc does not say."""
    before = set(_children())
    order = BatchOrder(num_images=len(source), batch_size=batch_size, seed=2, first=0, last=40)
    batches = iter(Loader(source, order, InputSpec(size=SIZE), workers=workers, max_unreadable=0))
    for _, _batch in zip(range(20), batches, strict=False):
        pass
    try:
        pages = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in set(_children()) - before]
    except OSError:
        return None
    sizes = [
        sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty")) for text in pages
    ]
    return round(max(sizes) / 1024, 1) if sizes else None


def _children() -> list[str]:
    me = str(os.getpid())
    stats = {path.parent.name: path for path in Path("/proc").glob("[0-9]*/stat")}
    return [pid for pid, path in stats.items() if path.read_text().rpartition(")")[2].split()[1] == me]


def middle(name: str, turns: list[dict[str, float]], to: str | None = None) -> float:
    """The median over turns of the speed `name`, or of its ratio to the speed `to` in the same turn."""
    return statistics.median(turn[name] / (turn[to] if to else 1.0) for turn in turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, what = pack(args.crops, Path(folder))
        started = time.perf_counter()
        RecordSource(source.path)
        opened = time.perf_counter() - started
        encoded = [source.encoded(index) for index in range(min(4000, len(source)))]
        turns: list[dict[str, float]] = []
        for _ in range(args.turns):
            rounds = max(1, args.images // args.workers // len(encoded))
            turns.append(
                {
                    "plain": plain_rate(source, args.workers, args.batch_size, args.images // 2),
                    "torch": torch_rate(source, args.workers, args.batch_size, args.images),
                    "ours": loader_rate(source, InputSpec(size=SIZE), args.workers, args.batch_size, args.images),
                    "decoder": decode_rate(encoded, processes=args.workers, rounds=rounds, decode=opencv),
                }
            )
        print(
            json.dumps(
                {
                    "benchmark": "loader",
                    "images": len(source),
                    "source": what,
                    "mean_bytes": round(float(np.mean([len(data) for data in encoded]))),
                    "workers": args.workers,
                    "batch_size": args.batch_size,
                    "images_per_second": {name: round(middle(name, turns)) for name in turns[0]},
                    "ratio_to_plain": round(middle("ours", turns, "plain"), 2),
                    "share_of_decoder": round(middle("ours", turns, "decoder"), 3),
                    "torch_share_of_decoder": round(middle("torch", turns, "decoder"), 3),
                    "turns": [{name: round(value) for name, value in turn.items()} for turn in turns],
                    **decoders(encoded),
                    "worker_private_megabytes": private_megabytes(source, args.workers, args.batch_size),
                    "seconds_to_open": round(opened, 4),
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
