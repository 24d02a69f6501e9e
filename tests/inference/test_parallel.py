"""Parts of a batch side by side: every row once, in order, whatever the threads do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from faceprint.cores import num_cores
from faceprint.inference.parallel import side_by_side
from faceprint.inference.torch_features import torch_features


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 4, 5, 23])
def test_every_row_once_in_order(threads, rows):
    sizes = []

    def run(part):
        sizes.append(len(part))
        time.sleep(0.001 * (3 - len(part) % 3))  # later parts may be done first
        return part * 2

    given = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    found = side_by_side(run, threads=threads, largest=4)(given)
    assert np.array_equal(found, given * 2)
    assert max(sizes) <= 4
    assert sum(sizes) == rows
    assert len(sizes) >= min(threads, rows) - 1


def test_start_is_called_once_in_each_thread_before_the_first_row():
    started, used = [], set()

    def run(part):
        assert len(started) == 3
        used.add(threading.get_ident())
        time.sleep(0.01)
        return part

    compute = side_by_side(run, threads=3, largest=1, start=lambda: started.append(threading.get_ident()))
    assert len(set(started)) == len(started) == 3
    compute(np.zeros((9, 1), np.float32))
    assert used <= set(started)
    assert threading.get_ident() not in used


def test_an_error_comes_out():
    def fail(part):
        raise ZeroDivisionError

    for threads in (1, 3):
        with pytest.raises(ZeroDivisionError):
            side_by_side(fail, threads=threads, largest=1)(np.zeros((4, 1), np.float32))


def test_cores():
    assert num_cores() >= 1


class Counts(nn.Module):
    """Notes the threads it may use; the embedding is the mean of each channel."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, images):
        assert torch.is_inference_mode_enabled()
        assert not self.training
        self.seen.add(torch.get_num_threads())
        return images.mean((2, 3)).double()


@pytest.mark.parametrize(("total", "share"), [(1, 1), (2, 1), (4, 1), (16, 2)])
def test_calls_share_the_threads_and_leave_others_theirs(total, share):
    before = torch.get_num_threads()
    torch.set_num_threads(total)
    try:
        network = Counts().train()
        images = np.random.default_rng(0).normal(size=(40, 3, 4, 4)).astype(np.float32)
        found = torch_features(network, torch.device("cpu"))(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, images.mean((2, 3)), atol=1e-6)
        assert network.seen == {share}
        assert torch.get_num_threads() == total
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == total
    finally:
        torch.set_num_threads(before)
