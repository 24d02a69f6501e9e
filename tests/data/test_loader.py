from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch

from faceprint.data.files import FileSource
from faceprint.data.folder import image_folder
from faceprint.data.images import ImageError
from faceprint.data.loader import Loader, _Encoded  # pyright: ignore[reportPrivateUsage]
from faceprint.data.pixels import InputSpec
from faceprint.data.sampler import BatchOrder, shuffled
from faceprint.data.source import Subset
from faceprint.errors import UserError


def order(first: int = 0, last: int = 6, *, num_images: int = 10, batch_size: int = 4, seed: int = 3) -> BatchOrder:
    return BatchOrder(num_images=num_images, batch_size=batch_size, seed=seed, first=first, last=last)


def test_every_image_is_seen_once_an_epoch_and_nothing_is_dropped() -> None:
    stream = [index for batch in order(0, 15) for index in batch]
    for epoch in range(6):
        assert sorted(stream[10 * epoch : 10 * epoch + 10]) == list(range(10))
        assert stream[10 * epoch : 10 * epoch + 10] == shuffled(3, epoch, 10, np.arange(10)).tolist()
    assert stream[:10] != stream[10:20]


def test_the_order_goes_on_anywhere() -> None:
    whole = list(order(0, 20))
    for start in range(20):
        assert list(order(start, 20)) == whole[start:]


def test_sets_smaller_than_a_batch_work() -> None:
    batches = list(order(0, 2, num_images=3, batch_size=8))
    assert [len(batch) for batch in batches] == [8, 8]
    assert sorted(batches[0][:3]) == [0, 1, 2]


def test_the_seed_changes_the_order() -> None:
    assert list(order(seed=1)) != list(order(seed=2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        path = tmp_path / f"p{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 6, 3), number, np.uint8))
    return tmp_path


SPEC = InputSpec(size=(8, 6))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_images_of_the_order(folder: Path, workers: int) -> None:
    source = image_folder(folder)
    loader = Loader(source, order(), SPEC, workers=workers, max_unreadable=0)
    for indices, batch in zip(order(), loader, strict=True):
        assert batch.images.shape == (4, 8, 6, 3)
        assert batch.images.dtype == torch.uint8
        assert batch.labels.tolist() == source.labels[indices].tolist()
        assert batch.images[:, 0, 0, 0].tolist() == [source[index][0][0, 0, 0] for index in indices]


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_counted_named_and_limited(folder: Path, workers: int) -> None:
    (folder / "p0" / "4.png").write_bytes(b"broken")
    source = image_folder(folder)
    loader = Loader(source, order(0, 5), SPEC, workers=workers, max_unreadable=0.1)
    assert all(len(batch.images) == 4 for batch in loader)
    assert list(loader.unreadable) == [str(folder / "p0" / "4.png")]
    assert "not an image" in loader.unreadable[str(folder / "p0" / "4.png")]
    strict = Loader(source, order(0, 5), SPEC, workers=workers, max_unreadable=0.05)
    with pytest.raises(
        UserError, match=r"1 of 10 images cannot be read, more than loader\.max_unreadable=0\.05.*4\.png"
    ):
        list(strict)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_wrong_size_ends_the_training_with_the_name(folder: Path, workers: int) -> None:
    cv2.imwrite(str(folder / "p0" / "2.png"), np.zeros((9, 6, 3), np.uint8))
    loader = Loader(image_folder(folder), order(0, 5), SPEC, workers=workers, max_unreadable=1)
    with pytest.raises(UserError, match=r"^\S*2\.png: got 9x6x3 uint8"):
        list(loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_out_of_range_is_named_with_its_image(folder: Path, workers: int) -> None:
    source = image_folder(folder)
    source.labels[source.labels == 1] = 7  # as in a record that disagrees with its index
    with pytest.raises(UserError, match=r"p1/\d\.png: its label is 7, and labels lie in 0 \.\. 1"):
        list(Loader(source, order(0, 5), SPEC, workers=workers, max_unreadable=0))


def test_a_label_out_of_range_is_named_where_a_device_decodes(folder: Path) -> None:
    source = image_folder(folder)
    source.labels[3] = -1
    fill = _Encoded(source)
    reply = fill(np.array([0, 3]), np.zeros((2, 0), np.uint8), np.zeros(2, np.int64))
    assert f"{source.name(3)}: its label is -1" in str(reply.mistake)
    assert fill(np.array([0, 1]), np.zeros((2, 0), np.uint8), np.zeros(2, np.int64)).mistake is None


def test_a_device_is_given_no_image_of_unknown_size(folder: Path) -> None:
    source = image_folder(folder)
    whole = Path(source.name(1)).read_bytes()
    Path(source.name(0)).write_bytes(cv2.imencode(".tiff", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    reply = _Encoded(source)(np.array([0, 1]), np.zeros((2, 0), np.uint8), np.zeros(2, np.int64))
    assert reply.encoded == [b"", whole]


def test_a_disk_that_is_gone_is_given_up_early(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image of a batch tries the next ones: of a set of millions that would be hours."""
    source = Subset(image_folder(folder), np.zeros(10**6, np.int64), np.zeros(10**6, np.int64), ["p"])
    read = Mock(side_effect=ImageError("gone"))
    monkeypatch.setattr(FileSource, "__getitem__", read)
    loader = Loader(source, order(), SPEC, workers=0, max_unreadable=1)
    with pytest.raises(UserError, match="none of 1,000 images in a row can be read: gone"):
        list(loader)
    assert read.call_count == 1000


def test_nothing_readable_is_an_error(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    loader = Loader(image_folder(folder), order(), SPEC, workers=0, max_unreadable=1)
    with pytest.raises(UserError, match=r"none of [0-9]+ images in a row can be read"):
        list(loader)
