"""Two processes embed what one does: each writes its share into one set, whatever number began it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from processes import spawn as spawn_processes

from faceprint.data.images import ImageError
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation.embeddings import BLOCK, ImageSet, embed_set, open_embeddings
from faceprint.inference.embedder import Embedder

COUNT = 3 * BLOCK + 77


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 4, 3)).astype(np.uint8)


def readable(number: int) -> np.ndarray:
    if number in (5, COUNT - 1):
        raise ImageError(f"image {number}: broken")
    return pixels(number)


def embedder(views: SimpleNamespace | None = None) -> Embedder:
    weights = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)

    def features(batch: np.ndarray) -> np.ndarray:
        if views is not None:
            views.count += len(batch)
        return batch.reshape(len(batch), -1) @ weights

    spec = InputSpec(size=(4, 4))
    return Embedder(features=features, input=spec, embedding_dim=6, name="linear", content_hash=lambda: "weights")


def images(read: Any = pixels) -> ImageSet:
    return ImageSet([str(i) for i in range(COUNT)], read, lambda: "generated")


def process(rank: int, world: int, folder: str, cached: bool, read: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    views = SimpleNamespace(count=0)
    cache = Path(folder) / "cache" if cached else None
    told: dict[str, Any] = {}
    try:
        made = embed_set(embedder(views), images(read), cache=cache, skip_unreadable=read is readable)
        again = embed_set(embedder(views), images(read), cache=cache, skip_unreadable=True) if cached else made
        told = {"computed": made.computed, "again": again.computed, "hash": made.content_hash()}
    except UserError as error:
        told = {"error": str(error)}
    finally:
        dist.destroy_process_group()
    Path(folder, f"{rank}.json").write_text(json.dumps({**told, "views": views.count}))


def spawn(folder: Path, world: int, cached: bool, read: Any = pixels) -> list[dict[str, Any]]:
    (folder / "store").unlink(missing_ok=True)
    spawn_processes(process, (world, str(folder), cached, read), world)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo's file store is not used on Windows")


@pytest.mark.parametrize("cached", [True, False])
def test_two_are_as_good_as_one(tmp_path: Path, cached: bool) -> None:
    told = spawn(tmp_path, 2, cached, readable)
    alone = embed_set(embedder(), images(readable), skip_unreadable=True)
    assert len(alone.unreadable) == 2
    assert [each["hash"] for each in told] == [alone.content_hash()] * 2
    assert [each["computed"] for each in told] == [COUNT] * 2
    good = COUNT - len(alone.unreadable)
    assert sum(each["views"] for each in told) == 2 * good  # each image once, as it is and mirrored
    assert min(each["views"] for each in told) > 0.6 * good  # whole blocks, two each
    if cached:
        assert [each["again"] for each in told] == [0, 0]
        (folder,) = (tmp_path / "cache").iterdir()
        assert len(open_embeddings(folder, verify=True).unreadable) == len(alone.unreadable)


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    def stops(number: int) -> np.ndarray:
        if number == BLOCK + 3:
            raise KeyboardInterrupt
        return pixels(number)

    with pytest.raises(KeyboardInterrupt):
        embed_set(embedder(), images(stops), cache=tmp_path / "cache")
    told = spawn(tmp_path, 2, True)
    assert [each["computed"] for each in told] == [COUNT - BLOCK] * 2
    assert sum(each["views"] for each in told) == 2 * (COUNT - BLOCK)
    assert told[0]["hash"] == embed_set(embedder(), images()).content_hash()


def test_a_mistake_in_one_is_raised_in_both(tmp_path: Path) -> None:
    told = spawn(tmp_path, 2, True, wrong_size)
    assert told[0]["error"] == told[1]["error"]
    assert f"{COUNT - 1}: got 5x4x3" in told[0]["error"]


def wrong_size(number: int) -> np.ndarray:
    return np.zeros((5, 4, 3), np.uint8) if number == COUNT - 1 else pixels(number)
