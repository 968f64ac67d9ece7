"""`taxiway profile` as a process: nothing is left behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.onnx_models import doubler

PROC = Path("/proc")
TIMEOUT_S = 30.0


def marked(mark: str) -> set[int]:
    """Processes whose environment has the mark: ours, and everything below."""
    found = set()
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def await_that(holds: object, what: str) -> None:
    """Look until it is so; the limit is only for a test that fails."""
    assert callable(holds)
    limit = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def has_generator(pids: set[int]) -> bool:
    def words(pid: int) -> bytes:
        try:
            return (PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            return b""

    return any(b"taxiway.profile.generating" in words(pid) for pid in pids)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals, code: int) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    mark = f"PROFILE_TEST_MARK={tmp_path}"
    name, _, value = mark.partition("=")
    command = [sys.executable, "-m", "taxiway", "profile", str(model), "--duration", "60s", "--rate", "20"]
    with subprocess.Popen(command, env=os.environ | {name: value}, stderr=subprocess.DEVNULL) as running:
        await_that(lambda: has_generator(marked(mark)), "the generator has not started")
        running.send_signal(number)
        assert running.wait(TIMEOUT_S) == code
    await_that(lambda: not marked(mark), f"left behind: {marked(mark)}")


def test_a_model_is_served_measured_and_no_longer_served(tmp_path: Path) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    command = [sys.executable, "-m", "taxiway", "profile", str(model), "--duration", "1s", "--warm-up", "0s"]
    done = subprocess.run(
        [*command, "--concurrency", "1"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^  resources +\d", done.stdout, re.MULTILINE), done.stdout
