"""Several sets as one, and orders that keep to a few shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceprint.data import shards
from faceprint.data.local_order import LocalDraw, storage_of
from faceprint.data.mixed import mix
from faceprint.data.sampler import BatchOrder
from faceprint.data.shards import ShardWriter, shard_source
from faceprint.data.source import keep_identities
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError

A = SyntheticFaces(3, 4, size=(16, 16))
B = SyntheticFaces(4, 2, size=(16, 16), first_identity=1)
"""Numbers 1 to 4: two of them are in A."""


def test_separate_classes_come_one_after_the_other() -> None:
    both = mix([A, B], names=["a", "b"], by_name=False)
    assert len(both) == 20
    assert both.labels.tolist() == [*A.labels.tolist(), *(B.labels + 3).tolist()]
    assert both.class_names[2:4] == ["a/synthetic-000002", "b/synthetic-000001"]
    for index, (part, place) in {0: (A, 0), 11: (A, 11), 12: (B, 0), 19: (B, 7)}.items():
        assert both.encoded(index) == part.encoded(place)
        assert both.name(index) == part.name(place)
        assert both[index][1] == both.labels[index]
        assert np.array_equal(both[index][0], part[place][0])


def test_people_of_one_name_are_one_class() -> None:
    both = mix([A, B], names=["a", "b"], by_name=True)
    assert list(both.class_names) == [f"synthetic-{number:06d}" for number in range(5)]
    for index in range(20):
        part, place = (A, index) if index < 12 else (B, index - 12)
        assert both.class_names[both.labels[index]] == part.class_names[part.labels[place]]


def test_weights_say_how_often_an_image_is_drawn() -> None:
    both = mix([A, B], weights=[0.5, 2], by_name=False)
    assert both.images_per_epoch == [6, 16]
    epochs = [both.draw(3, epoch, np.arange(22)) for epoch in range(4)]
    for epoch in epochs:
        counts = np.bincount(epoch, minlength=20)
        assert counts[:12].sum() == 6
        assert (counts[12:] == 2).all()
    # Two epochs at half the weight are each image once.
    assert sorted(np.concatenate(epochs[:2])[np.concatenate(epochs[:2]) < 12]) == list(range(12))
    assert not np.array_equal(epochs[0], epochs[2])
    parts = [both.draw(3, 1, np.array(positions)) for positions in ([0, 1, 2], [21, 5])]
    assert np.concatenate(parts).tolist() == epochs[1][[0, 1, 2, 21, 5]].tolist()


@pytest.mark.parametrize("window", [1, 3, 100])
def test_windows_of_shards(window: int) -> None:
    counts = [5, 1, 9, 4, 4, 7, 2]
    storage = np.repeat(np.arange(7, dtype=np.int32), counts)
    draw = LocalDraw(storage, window)
    seen = set()
    for epoch in range(3):
        order = draw(5, epoch, np.arange(32))
        assert sorted(order) == list(range(32))
        seen.add(tuple(order))
        shuffled_positions = np.random.default_rng(0).permutation(32)
        assert draw(5, epoch, shuffled_positions).tolist() == order[shuffled_positions].tolist()
    assert len(seen) == 3
    # At any position no more than `window` shards are begun and not ended.
    lies = storage[draw(5, 0, np.arange(32))]
    places = [np.flatnonzero(lies == shard) for shard in range(7)]
    open_at = [sum(place[0] <= at <= place[-1] for place in places) for at in range(32)]
    assert max(open_at) <= window
    assert (max(open_at) > 1) == (window > 1)


def test_an_order_goes_on_in_the_middle_and_on_several_processes() -> None:
    both = mix([A, B], weights=[1.5, 0.7], by_name=False)

    def order(first: int, last: int, rank: int = 0, world: int = 1) -> list[list[int]]:
        images = sum(both.images_per_epoch)
        return list(
            BatchOrder(
                num_images=images, batch_size=4, seed=7, first=first, last=last, rank=rank, world=world, draw=both.draw
            )
        )

    whole = order(0, 12)
    assert order(5, 12) == whole[5:]
    assert [batch for pair in zip(order(0, 6, 0, 2), order(0, 6, 1, 2), strict=True) for batch in pair] == whole


def test_where_images_lie_is_known_of_shards_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "SHARD_IMAGES", 5)
    writer = ShardWriter(tmp_path, A.class_names, A.labels[:0])
    for index in range(12):
        writer.write(A.encoded(index), int(A.labels[index]), f"{index}.png")
    writer.finish()
    source = shard_source(tmp_path)
    assert storage_of(source).tolist() == [0] * 5 + [1] * 5 + [2] * 2
    assert storage_of(keep_identities(source, lambda name, _: name != "1")).tolist() == [0] * 4 + [1] * 2 + [2] * 2
    with pytest.raises(UserError, match=r"sampler\.window is for"):
        storage_of(A)
