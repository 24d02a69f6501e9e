"""Batches by processes and by a Ray cluster: in order, each once, few ahead, and what becomes of lost workers."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from faceprint.data.executors import Processes, RayCluster
from faceprint.errors import UserError, WorkerDied


def square(number):
    return number * number, os.getpid()


def refuse(number):
    raise UserError(f"batch {number} is no good")


def drawn(numbers, record):
    for number in numbers:
        record.append(number)
        yield number


def die_once(folder, batch):
    """Note that the batch is begun; batch 25 kills its process the first time."""
    with Path(folder, f"{os.getpid()}.log").open("a") as file:
        file.write(f"{batch}\n")
    mark = Path(folder, "died")
    if batch == 25 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def always_die(batch):
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_worker_is_this_process_and_draws_as_it_goes():
    record = []
    outcomes = Processes(1).map_batches(square, drawn(range(5), record))
    assert next(outcomes) == (0, os.getpid())
    assert record == [0, 1]
    assert [value for value, _ in outcomes] == [1, 4, 9, 16]
    assert list(Processes(2).map_batches(square, [7])) == [(49, os.getpid())]
    assert list(Processes(2).map_batches(square, [])) == []


def test_processes_keep_the_order_and_draw_few_ahead():
    record = []
    outcomes = Processes(2).map_batches(square, drawn(range(100), record))
    first = next(outcomes)
    assert first[0] == 0
    assert len(record) <= 12
    rest = list(outcomes)
    assert [value for value, _ in rest] == [number * number for number in range(1, 100)]
    assert os.getpid() not in {process for _, process in [first, *rest]}


def test_a_lost_process_ends_the_work(tmp_path):
    with pytest.raises(WorkerDied, match="run the same again to go on, with fewer workers than 2"):
        list(Processes(2).map_batches(partial(die_once, str(tmp_path)), range(60)))
    with pytest.raises(UserError, match="batch 0 is no good"):
        list(Processes(2).map_batches(refuse, range(20)))


@pytest.mark.parametrize("make", [Processes, partial(RayCluster, "local")])
def test_no_workers_are_refused(make):
    with pytest.raises(UserError, match="workers 0: give 1 or more"):
        make(workers=0)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "host.invalid:6379", "ray://127.0.0.1:1", "a:99999"])
def test_addresses_where_nobody_answers(address):
    pytest.importorskip("ray")
    with pytest.raises(UserError, match="give HOST:PORT, auto or local"):
        list(RayCluster(address).map_batches(square, [1]))


def test_ray_does_each_batch_once_in_order(ray_cluster):
    record = []
    outcomes = ray_cluster.map_batches(square, drawn(range(100), record))
    first = next(outcomes)
    assert len(record) <= 14
    everything = [first, *outcomes]
    assert [value for value, _ in everything] == [number * number for number in range(100)]
    assert os.getpid() not in {process for _, process in everything}


def test_ray_loses_nothing_when_a_worker_is_killed_in_the_middle(ray_cluster, tmp_path):
    """The batch that the killed worker had in hand is begun twice, all others once, and each outcome comes once."""
    assert list(ray_cluster.map_batches(partial(die_once, str(tmp_path)), range(60))) == list(range(60))
    logs = list(tmp_path.glob("*.log"))
    assert sorted(int(line) for log in logs for line in log.read_text().split()) == sorted([*range(60), 25])
    assert len(logs) >= 3


def test_ray_gives_up_on_a_batch_that_kills_every_worker(ray_cluster):
    with pytest.raises(WorkerDied, match="a batch was lost with its worker 4 times"):
        list(ray_cluster.map_batches(always_die, range(2)))


def test_what_the_function_raises_comes_back_as_it_was(ray_cluster):
    with pytest.raises(UserError, match=r"^batch 0 is no good$"):
        list(ray_cluster.map_batches(refuse, range(3)))


def test_a_cluster_that_does_not_start_is_said(monkeypatch):
    """Ray raises a bare Exception where its own node takes more than 30 seconds to start."""
    ray = pytest.importorskip("ray")

    def start(*_, **__):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(UserError, match=r"no cluster at 'local' \(The current node timed out"):
        list(RayCluster("local").map_batches(square, [1]))


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray clusters need the package ray .*'faceprint\[ray\]'"):
        list(RayCluster("local").map_batches(square, [1]))
