"""A conversion that hangs, crashes, eats memory or prints is a verdict, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skops.io
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor
from tests.support import framework_models as models

from taxiway.convert import Converted, NotConverted, Reason, Request, to_onnx
from taxiway.core.errors import NotFound


class Doing:
    """A pickle that calls something when it is read: the surest way to a converter that does what it should not."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.doing = (call, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.doing


def trusted(folder: Path, *doings: Doing, **limits: Any) -> Request:
    source = folder / "model.pkl"
    source.write_bytes(pickle.dumps(doings))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return Request(source=str(source), target=str(folder / "model.onnx"), trusted_digest=digest, **limits)


def refused(request: Request) -> NotConverted:
    outcome = to_onnx(request)
    assert isinstance(outcome, NotConverted)
    assert [path.name for path in Path(request.target).parent.iterdir()] == [Path(request.source).name]
    return outcome


def test_a_model_is_converted_in_a_process_of_its_own(tmp_path: Path) -> None:
    skops.io.dump(models.forest("wine"), tmp_path / "model.skops")
    outcome = to_onnx(Request(source=str(tmp_path / "model.skops"), target=str(tmp_path / "model.onnx")))
    assert isinstance(outcome, Converted), outcome.message
    assert outcome.target == str(tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.skops"]


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    outcome = refused(trusted(tmp_path, Doing(time.sleep, 3600.0), time_limit_s=8.0))
    assert outcome.reason is Reason.TIMED_OUT
    assert "was not done after 8 s" in outcome.message


def test_one_that_crashes_says_how(tmp_path: Path) -> None:
    outcome = refused(trusted(tmp_path, Doing(os.abort)))
    assert outcome.reason is Reason.CRASHED
    assert "SIGABRT" in outcome.message


_CONVERT = """
import msgspec, sys
from taxiway.convert import Request, to_onnx
to_onnx(msgspec.json.decode(sys.argv[1], type=Request))
"""


def hanging(folder: Path) -> Request:
    """A conversion that says which process it is in, leaves a temporary file, and then does not end."""
    says = Doing(os.system, f"echo $PPID > {folder}/said; mv {folder}/said {folder}/process")
    return trusted(folder, Doing(tempfile.mkstemp, "-of-the-conversion"), says, Doing(time.sleep, 3600.0))


def awaited(holds: Callable[[], bool], what: str) -> None:
    """Wait for it, for a minute at most."""
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def runs(process: int) -> bool:
    """Whether it is there, and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, 0), (signal.SIGKILL, 1)])
def test_a_conversion_ends_with_whoever_asked_for_it(number: signal.Signals, left: int, tmp_path: Path) -> None:
    request = msgspec.json.encode(hanging(tmp_path)).decode()
    with subprocess.Popen([sys.executable, "-c", _CONVERT, request]) as asking:
        awaited((tmp_path / "process").exists, "it did not begin")
        process = int((tmp_path / "process").read_text())
        assert runs(process)
        asking.send_signal(number)
        assert asking.wait(60) in (128 + number, -number)
    awaited(lambda: not runs(process), "the child outlived its parent")
    assert len(list(tmp_path.glob(".converting-*"))) == left  # nobody cleans up after SIGKILL
    assert not list(Path(tempfile.gettempdir()).glob("*-of-the-conversion"))


def test_a_conversion_that_nobody_ends_ends_itself_at_its_limit(tmp_path: Path) -> None:
    request = msgspec.structs.replace(hanging(tmp_path), time_limit_s=0.5)
    done = subprocess.run(
        [sys.executable, "-m", "taxiway.convert", str(tmp_path)],
        input=msgspec.json.encode(request),
        env=os.environ | {"TMPDIR": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGALRM


def test_a_handler_of_the_callers_is_left_alone(tmp_path: Path) -> None:
    skops.io.dump(models.forest("wine"), tmp_path / "model.skops")
    request = Request(source=str(tmp_path / "model.skops"), target=str(tmp_path / "model.onnx"), time_limit_s=0.01)
    before = signal.getsignal(signal.SIGTERM)
    assert isinstance(to_onnx(request), NotConverted)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_one_that_ends_the_process_is_no_success(tmp_path: Path) -> None:
    outcome = refused(trusted(tmp_path, Doing(os._exit, 0)))
    assert outcome.reason is Reason.CRASHED


def test_one_that_wants_too_much_memory_does_not_get_it(tmp_path: Path) -> None:
    outcome = refused(trusted(tmp_path, Doing(bytearray, 3 << 30), memory_limit_bytes=2 << 30))
    assert outcome.reason is Reason.UNREADABLE
    assert "MemoryError" in outcome.message


def test_another_python_that_lacks_what_it_takes_is_told_what(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    (tmp_path / "model.pt2").write_bytes(b"")
    outcome = to_onnx(
        Request(source=str(tmp_path / "model.pt2"), target=str(tmp_path / "model.onnx"), python=str(python))
    )
    assert isinstance(outcome, NotConverted)
    assert outcome.reason is Reason.LIBRARY_MISSING
    assert "no numpy" in outcome.message
    assert f"{python} -m pip install numpy" in outcome.message


def test_a_model_is_converted_under_another_python(tmp_path: Path) -> None:
    """It is lent taxiway, and finds nothing else of ours: here it is the same, which has all that is needed."""
    skops.io.dump(models.forest("wine"), tmp_path / "model.skops")
    outcome = to_onnx(
        Request(source=str(tmp_path / "model.skops"), target=str(tmp_path / "model.onnx"), python=sys.executable)
    )
    assert isinstance(outcome, Converted), outcome.message


def test_what_is_not_there_is_an_error_of_the_callers(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="source: there is no file"):
        to_onnx(Request(source=str(tmp_path / "none.skops"), target=str(tmp_path / "model.onnx")))


@pytest.mark.slow
def test_an_exporter_that_hangs_leaves_what_was_found_before(tmp_path: Path) -> None:
    """skl2onnx looks for ever for a float64 beside an infinite threshold, which trees that learnt of gaps have."""
    rows = np.random.default_rng(0).normal(size=(400, 1))
    rows[rows > 0.5] = np.nan
    targets = np.where(np.isnan(rows[:, 0]), 100.0, np.floor(rows[:, 0] * 50))
    pipeline = make_pipeline(StandardScaler(), DecisionTreeRegressor(random_state=0)).fit(rows, targets)
    skops.io.dump(pipeline, tmp_path / "model.skops")
    outcome = refused(
        Request(source=str(tmp_path / "model.skops"), target=str(tmp_path / "model.onnx"), time_limit_s=20.0)
    )
    assert outcome.reason is Reason.TIMED_OUT
    assert [attempt.datatype for attempt in outcome.attempts] == ["FP32"]
    assert "while exporting with FP64 inputs" in outcome.message
