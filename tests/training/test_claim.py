"""Two processes do not train in one folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from faceprint.errors import UserError
from faceprint.training.claim import Claim

pytest.importorskip("fcntl")
HOLDER = """
import fcntl, sys
with open(sys.argv[1], "wb") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("taken", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_free_again_when_its_process_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        began = time.monotonic()
        with pytest.raises(UserError, match="another training writes there"):
            Claim().take(tmp_path, patience_seconds=0.3)
        assert time.monotonic() - began >= 0.3
        holder.kill()
        Claim().take(tmp_path, patience_seconds=5)


def test_a_process_takes_its_own_folder_again(tmp_path: Path) -> None:
    first, second = Claim(), Claim()
    first.take(tmp_path, patience_seconds=0)
    second.take(tmp_path, patience_seconds=0)


def test_a_folder_that_was_made_anew_is_taken_too(tmp_path: Path) -> None:
    claim = Claim()
    claim.take(tmp_path)
    (tmp_path / ".lock").unlink()
    claim.take(tmp_path)
    probe = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'wb'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", probe, str(tmp_path / ".lock")], capture_output=True, text=True)
    assert "BlockingIOError" in done.stderr


def test_a_folder_that_cannot_be_written_is_left_to_who_writes(tmp_path: Path) -> None:
    Claim().take(tmp_path / "missing", patience_seconds=0)
