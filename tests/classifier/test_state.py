from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import spawn
from safetensors.torch import save_file
from torch import Tensor

from faceprint.classifier import CentreOptimizer, PartialFC
from faceprint.classifier.state import change_classes, class_file, load_classes, read_classes_of, save_classes
from faceprint.errors import UserError
from faceprint.margins import CosFace, Softmax

C, D = 11, 4


def make(**options: Any) -> tuple[PartialFC, CentreOptimizer]:
    torch.manual_seed(0)
    classifier = PartialFC(D, C, CosFace(8.0, 0.1), **options)
    return classifier, classifier.make_optimizer(0.1)


def step(classifier: PartialFC, optimizer: CentreOptimizer) -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(6, D, generator=generator, requires_grad=True)
    classifier(embeddings, torch.arange(6)).backward()
    optimizer.step()
    optimizer.zero_grad()


def process(rank: int, world: int, folder: str, save: bool) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store{world}{save}"
    dist.init_process_group("gloo", store, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    classifier, optimizer = make()
    if save:
        torch.nn.init.constant_(classifier.centres, 1.0)
        classifier.centres.data.mul_(torch.arange(C)[classifier.first_class :][: classifier.num_local, None] + 1.0)
        optimizer.state[classifier.centres]["momentum"].copy_(-classifier.centres)
        save_classes(Path(folder), classifier, optimizer)
    else:
        load_classes(Path(folder), classifier, optimizer)
        momentum = optimizer.state[classifier.centres]["momentum"]
        torch.save((classifier.centres.detach(), momentum), f"{folder}/{world}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(("saved", "loaded"), [(3, 2), (2, 4), (4, 1)])
def test_saved_on_n_loaded_on_m(saved: int, loaded: int, tmp_path: Path) -> None:
    spawn(process, (saved, str(tmp_path), True), saved)
    spawn(process, (loaded, str(tmp_path), False), loaded)
    parts = [torch.load(tmp_path / f"{loaded}-{rank}.pt", weights_only=True) for rank in range(loaded)]
    logical = torch.arange(1.0, C + 1)[:, None].expand(C, D)
    assert torch.equal(torch.cat([centres for centres, _ in parts]), logical)
    assert torch.equal(torch.cat([momentum for _, momentum in parts]), -logical)


def test_the_next_step_is_the_same(tmp_path: Path) -> None:
    one = make(sub_centers=2)
    step(*one)
    save_classes(tmp_path, *one)
    other = make(sub_centers=2)
    torch.nn.init.zeros_(other[0].centres)
    load_classes(tmp_path, *other)
    for pair in (one, other):
        step(*pair)
    assert torch.equal(one[0].centres, other[0].centres)


def lagging() -> tuple[PartialFC, CentreOptimizer]:
    """Some of whose rows are behind dense SGD."""
    torch.manual_seed(0)
    classifier = PartialFC(D, 40, CosFace(8.0, 0.1), 0.2)
    torch.nn.init.normal_(classifier.centres)
    optimizer = classifier.make_optimizer(0.1, update="dense", weight_decay=0.05)
    for _ in range(5):
        step(classifier, optimizer)
    return classifier, optimizer


def test_rows_that_are_behind_go_on_from_a_checkpoint_to_the_last_bit(tmp_path: Path) -> None:
    """And who reads the file for its centres has them up to date."""
    classifier, optimizer = lagging()
    before = classifier.centres.detach().clone()
    file = class_file(classifier, optimizer)
    assert torch.equal(classifier.centres, before)
    save_file(file.tensors, tmp_path / file.name, file.metadata)

    other = PartialFC(D, 40, CosFace(8.0, 0.1), 0.2)
    other.draws.copy_(classifier.draws)
    other.seed = classifier.seed
    its_optimizer = other.make_optimizer(0.1, update="dense", weight_decay=0.05)
    load_classes(tmp_path, other, its_optimizer)
    for _ in range(3):
        step(classifier, optimizer)
        step(other, its_optimizer)
    assert torch.equal(classifier.centres, other.centres)

    for careless in (other.make_optimizer(0.1), None):
        with pytest.raises(UserError, match=r"rows wait for updates of classifier\.update=dense"):
            load_classes(tmp_path, other, careless)

    classifier, optimizer = lagging()
    optimizer.flush()
    assert not torch.equal(classifier.centres, before)
    assert torch.equal(read_classes_of(tmp_path / file.name)["centres"], classifier.centres)


@pytest.mark.parametrize("lag", ["", "[]", "[[1, 0]]", "[[[1, 0], [0]]]", "[" * 100_000, "[[[1, 0], [0, 1]]]", "3"])
def test_a_lag_that_makes_no_sense_is_refused(lag: str, tmp_path: Path) -> None:
    classifier, optimizer = lagging()
    file = class_file(classifier, optimizer)
    save_file(file.tensors, tmp_path / file.name, {**file.metadata, "lag": lag})
    before = classifier.centres.detach().clone()
    for read in (lambda: load_classes(tmp_path, classifier, optimizer), lambda: read_classes_of(tmp_path / file.name)):
        with pytest.raises(UserError, match=r"its lag is not a list of 2 x 2|lies in 0 \.\. 0"):
            read()
    assert torch.equal(classifier.centres, before)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no class centres"):
        load_classes(tmp_path, *make())
    classifier, optimizer = make()
    path = save_classes(tmp_path, classifier)
    assert path.name == "centres-0000000000-0000000011.safetensors"
    before = classifier.centres.detach().clone()
    with pytest.raises(UserError, match=r"has no optimizer\.momentum"):
        load_classes(tmp_path, classifier, optimizer)
    with pytest.raises(UserError, match="is of num_classes=11, this classifier has 12"):
        load_classes(tmp_path, PartialFC(D, 12, CosFace()))
    with pytest.raises(UserError, match="rows of shape"):
        load_classes(tmp_path, PartialFC(D + 1, C, CosFace()))
    with pytest.raises(UserError, match="sub_centers=1"):
        load_classes(tmp_path, PartialFC(D, C, CosFace(), sub_centers=2))
    (tmp_path / "centres-0000000011-0000000012.safetensors").write_bytes(b"not one")
    with pytest.raises(UserError, match="not a readable file"):
        load_classes(tmp_path, classifier)
    assert torch.equal(classifier.centres, before)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    spawn(process, (2, str(tmp_path), True), 2)
    sorted(tmp_path.glob("centres-*"))[1].unlink()
    with pytest.raises(UserError, match="6 rows of centres are in none of its 1 files"):
        load_classes(tmp_path, *make())


def test_a_range_of_classes_is_exported_and_found_again(tmp_path: Path) -> None:
    classifier, optimizer = make(sub_centers=2)
    step(classifier, optimizer)
    expected = classifier.centres.detach().clone()
    assert save_classes(tmp_path, classifier, optimizer, range(6, 11)).name.startswith("centres-0000000006-0000000011")
    with pytest.raises(UserError, match="12 rows of centres are in none of its 1 files"):
        load_classes(tmp_path, *make(sub_centers=2))
    save_classes(tmp_path, classifier, optimizer, range(6))
    other = make(sub_centers=2)
    torch.nn.init.zeros_(other[0].centres)
    load_classes(tmp_path, *other)
    assert torch.equal(other[0].centres, expected)
    for classes in (range(5, 12), range(3, 3), range(0, 4, 2)):
        with pytest.raises(UserError, match=r"this process has 0 \.\. 10"):
            save_classes(tmp_path, classifier, optimizer, classes)


def test_rows_of_a_missing_part_are_not_taken_from_the_next(tmp_path: Path) -> None:
    classifier, _ = make()
    for classes in (range(4), range(8, 11)):
        save_classes(tmp_path, classifier, None, classes)
    with pytest.raises(UserError, match="4 rows of centres are in none of its 2 files"):
        load_classes(tmp_path, classifier)


def test_classes_are_removed_and_added() -> None:
    classifier = PartialFC(D, C, Softmax(), sub_centers=2)
    torch.nn.init.normal_(classifier.centres)
    assert classifier.bias is not None
    torch.nn.init.normal_(classifier.bias)
    new = torch.tensor([[3.0, 0, 0, 0], [0, 4.0, 0, 3.0]])
    changed = change_classes(classifier, torch.tensor([4, 0]), new)
    assert changed.num_classes == 4
    old, now = classifier.centres.view(C, 2, D), changed.centres.view(4, 2, D)
    assert torch.equal(now[:2], old[[4, 0]])
    length = old[[4, 0]].norm(dim=2).mean()

    def direction(row: Tensor) -> Tensor:
        return row / row.norm() * length

    for sub in range(2):
        assert torch.allclose(now[2, sub], direction(new[0]))
        assert torch.allclose(now[3, sub], direction(new[1]))
    assert changed.bias is not None
    assert torch.equal(changed.bias[:2], classifier.bias[8:10])
    with pytest.raises(UserError, match=r"lie in 0 \.\. 10"):
        change_classes(classifier, torch.tensor([11]))
