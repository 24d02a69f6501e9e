"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from faceprint.data.executors import RayCluster

# Tests run side by side, one core each; more threads than cores would wait for one another.
torch.set_num_threads(1)
cv2.setNumThreads(1)

PASSED = pytest.StashKey[bool]()
"""Of a test: whether it did what it should."""


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real photographs (`data/`) and published networks (`models/`); skips without it."""
    folder = os.environ.get("FACEPRINT_TEST_DATA")
    if not folder:
        pytest.skip("FACEPRINT_TEST_DATA is not set: no real photographs to test with")
    path = Path(folder)
    assert (path / "data").is_dir(), f"FACEPRINT_TEST_DATA={folder} has no data/"
    assert (path / "models").is_dir(), f"FACEPRINT_TEST_DATA={folder} has no models/"
    return path


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster of three worker processes on this machine, which find the modules of tests/data; skips without."""
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    path = f"{Path(__file__).parent / 'data'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    ray.init(
        "local",
        num_cpus=3,
        object_store_memory=128 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield RayCluster("local", workers=3)
    ray.shutdown()


@pytest.fixture(autouse=True)
def no_cache_of_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither fill the user's cache folder nor find in it what others computed."""
    monkeypatch.setenv("FACEPRINT_CACHE", "none")


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Notes what a test saw in the file that FACEPRINT_RELIABILITY_JSON names, for docs/reliability.md.

    It is called as `outcome(WHAT_HAPPENED, name=figure, …)`. A test that passes without a call is noted too, one that
    fails is not.
    """
    noted: list[dict[str, Any]] = []
    about = (request.module.__doc__ or "").split("\n")[0]

    def note(what: str, **seen: Any) -> None:
        noted.append({"test": request.node.nodeid, "about": about, "what": what, "seen": seen})

    yield note
    if not noted:
        note(request.node.name)
    file = os.environ.get("FACEPRINT_RELIABILITY_JSON")
    if file and request.node.stash.get(PASSED, False):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(line) + "\n" for line in noted)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report
