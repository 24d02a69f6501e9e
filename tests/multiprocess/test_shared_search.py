"""Two processes count what one does, MegaFace and MFR."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from processes import spawn

from faceprint.evaluation import products
from faceprint.evaluation.intervals import PersonDraws
from faceprint.evaluation.megaface import size_intervals
from faceprint.evaluation.megaface_counts import count_megaface, devkit_curves
from faceprint.evaluation.mfr import MfrList, all_to_all, one_to_other, score_mfr

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo's file store is not used on Windows")


def results() -> list[Any]:
    products._TILE["cpu"] = (32, 64)  # many tiles
    random = np.random.default_rng(0)
    ids = np.repeat(np.arange(40), 5)
    vectors = products.unit_rows(random.normal(size=(40, 16))[ids] + random.normal(size=(200, 16)), range(200))
    others = products.unit_rows(random.normal(size=(500, 16)), range(500))
    listed = MfrList(
        [str(row) for row in range(200)], ids, np.full(200, ""), np.arange(200) % 5 == 0, far=1e-3, mask_far=1e-2
    )
    counts = count_megaface(vectors, ids, others, far=1e-3, device="cpu")
    return [
        counts.ranks.tolist(),
        [vars(counts.devkit), vars(counts.full), devkit_curves(counts)],
        size_intervals(counts, 500, PersonDraws(40, 20)),
        all_to_all(vectors, ids, 1e-3, device="cpu"),
        one_to_other(vectors[::2], vectors[1::2], ids[::2], ids[1::2], 1e-3, device="cpu"),
        score_mfr(vectors, listed, device="cpu", draws=20),
    ]


def process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        Path(folder, f"{rank}.json").write_text(json.dumps(results()))
    finally:
        dist.destroy_process_group()


def test_two_count_what_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(products._TILE, "cpu", products._TILE["cpu"])
    spawn(process, (str(tmp_path),), 2)
    alone = json.loads(json.dumps(results()))
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == alone
