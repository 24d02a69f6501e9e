"""Which checkpoints are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceprint.training.checkpoint import CheckpointWriter, list_checkpoints, read_manifest


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("keep", "left"), [(1, [3, 9]), (2, [3, 8, 9]), (7, list(range(3, 10))), (9, list(range(1, 10)))]
)
def test_the_newest_and_the_best_are_kept(keep: int, left: list[int], background: bool, tmp_path: Path) -> None:
    """Steps 3 and 5 were evaluated equally well: the older one is the best."""
    figures = {2: 0.7, 3: 0.9, 5: 0.9, 6: 0.8}
    writer = CheckpointWriter(tmp_path, keep=keep, background=background)
    for step in range(1, 10):
        writer.start(step, {"x": lambda path: path.write_bytes(b"x")}, {"figure": figures.get(step)})
        assert writer.publish() is None
    saved = list_checkpoints(tmp_path)
    assert [read_manifest(path)["step"] for path in saved] == left
    assert [int(path.name[5:]) for path in saved] == left
