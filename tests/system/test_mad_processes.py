"""Model processes that hang, lie, die and leave things behind: what they are asked fails, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.hosted import POISONABLE, hosted_executor, launch_plan

from taxiway.core.errors import InvalidModel, ModelFailed, ModelProcessDied, Overloaded, TaxiwayError, Unavailable
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, InferRequest, InputTensor
from taxiway.server.execution.processes.executor import ProcessExecutor
from taxiway.server.execution.processes.plan import RespawnPlan
from taxiway.server.execution.processes.process import ModelProcess

UNTIRED = RespawnPlan(crashes=1000, first_rest_ns=0, longest_rest_ns=0)
"""However often one dies, another is started at once."""

HEAD = """
import os, signal, socket, subprocess, sys, threading, time

class Model:
    inputs = {"x": ("INT64", [-1, 1])}
    outputs = {"y": ("INT64", [-1, 1])}

    def predict(self, x):
        value = int(x[0, 0])
        self.act(value)
        return {"y": x * 10}

"""


class _Nobody:
    def resolve(self, *_: object) -> None:
        raise AssertionError

    def reject(self, *_: object) -> None:
        raise AssertionError


def _batch(*values: int) -> list[InferRequest]:
    return [InferRequest([InputTensor(array("q", [value]), (1, 1))], 1, _Nobody(), 0) for value in values]


def _submit(executor: ProcessExecutor, *values: int) -> asyncio.Future[BatchOutcome]:
    told: asyncio.Future[BatchOutcome] = asyncio.get_running_loop().create_future()
    executor.submit(_batch(*values), lambda _, outcome: told.set_result(outcome))
    return told


async def _ask(executor: ProcessExecutor, *values: int) -> BatchOutcome:
    return await asyncio.wait_for(_submit(executor, *values), 60)


async def _is_well(executor: ProcessExecutor) -> None:
    outcome = await _ask(executor, 1)
    assert outcome.result is not None
    assert outcome.result.arrays[0].tolist() == [[10]]


def _serve(folder: Path, code: str, scenario: Callable[[ProcessExecutor], Awaitable[None]], **more: int) -> None:
    async def run() -> None:
        executor = hosted_executor(folder, code, asyncio.get_running_loop(), respawn=UNTIRED, **more)
        try:
            await scenario(executor)
        finally:
            await asyncio.to_thread(executor.close)

    asyncio.run(run())


def _error(outcome: BatchOutcome) -> TaxiwayError:
    assert isinstance(outcome.error, TaxiwayError)
    return outcome.error


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- lies ------------------------------------------------------------------------------------------------

LYING = (
    HEAD
    + """
    def act(self, value):
        if value < 10:
            return
        from taxiway.runtimes.hosted.arena import Block
        from taxiway.runtimes.hosted.frames import (
            CallOut, Failed, Laid, Metric, Opened, Part, Piece, Ran, encode
        )
        good = Laid("INT64", (1, 1), 1 << 14, 8)
        block = Block(1 << 14, 1024, 5)
        lies = {
            10: [Ran(999, None, 1, 2, 3, 4)],
            11: [Ran(self.run, block, 1, 2, 3, 4, whole=(good,))] * 2,
            12: [Ran(self.run, Block(0, 1 << 40, 5), 1, 2, 3, 4, whole=(good,))],
            13: [Piece(self.run, None, Part((), {"code": "internal"}))],
            14: [Opened()],
            15: [Failed({"code": "internal"})],
            16: [CallOut(1, self.run, 0, None, "m", None, ("a", "b"), (), None)],
            17: [Metric("m", "what", "", {}, "add")],
            18: [CallOut(1, self.run, 0, Block(1, 1, 1), "m", None, ("a",), (good,), None)],
        }
        data = {19: b"\\xff\\xff\\xff\\xff", 20: b"\\x05\\0\\0\\0hello"}
        if value in lies:
            data[value] = b"".join(encode(frame) for frame in lies[value])
        os.write(int(sys.argv[1]), data[value])
        time.sleep(600)

    @property
    def run(self):
        import gc
        from taxiway.runtimes.hosted.batch import Batch
        return max(one.id for one in gc.get_objects() if isinstance(one, Batch))
"""
)


def test_who_lies_is_killed_and_its_reason_told_and_the_next_one_serves(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        for lie in range(10, 21):
            outcome = await _ask(executor, lie)
            if lie == 11:  # its first answer was good; only then it answered again
                assert outcome.result is not None
            else:
                assert isinstance(outcome.error, ModelProcessDied)
                assert "could not be true" in outcome.error.message
            await _is_well(executor)

    _serve(tmp_path, LYING, scenario)


# --- ends ------------------------------------------------------------------------------------------------

ENDING = (
    HEAD
    + """
    def act(self, value):
        if value == 10:
            if os.fork() == 0:
                time.sleep(600)
            print("a line about somebody's request", flush=True)
            os._exit(7)
        if value == 11:
            socket.socket(fileno=os.dup(int(sys.argv[1]))).shutdown(socket.SHUT_WR)
            time.sleep(600)
        if value == 12:
            os.kill(os.getpid(), signal.SIGSEGV)
        if value == 13:
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            os.close(2)
        if value == 14:
            for _ in range(3):
                os.write(1, b"x" * 1_000_000)
"""
)


def test_an_end_is_seen_whatever_the_model_has_left_behind(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        left = _error(await _ask(executor, 10))
        assert left.message.endswith("ended while it ran this request: exit status 7")
        await _is_well(executor)
        assert "closed its connection" in _error(await _ask(executor, 11)).message
        await _is_well(executor)
        crashed = await _ask(executor, 12)
        assert "killed by SIGSEGV" in _error(crashed).message
        assert crashed.started_ns < crashed.finished_ns
        for harmless in (13, 14):
            assert (await _ask(executor, harmless)).result is not None
        await _is_well(executor)

    _serve(tmp_path, ENDING, scenario)


RAISING = (
    HEAD
    + """
    def act(self, value):
        threading.Thread(target=time.sleep, args=(600,)).start()
        raise {
            10: SystemExit(3), 11: KeyboardInterrupt(), 12: MemoryError(), 13: ValueError("x" * 1_000_000),
            14: ValueError(chr(0xD800)), 15: GeneratorExit(),
        }[value]
"""
)


def test_whatever_a_model_raises_is_an_answer(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        for value in range(10, 16):
            error = _error(await _ask(executor, value))
            assert isinstance(error, ModelFailed)
            assert len(error.message) < 3000
        assert executor.counts().deaths == 0

    _serve(tmp_path, RAISING, scenario)


SPOILING = """
import numpy as np

class Model:
    inputs = {"x": ("INT64", [-1, 1])}
    outputs = {"y": ("BYTES", [-1, 1])}

    def predict(self, x):
        if (x == 99).any():
            raise ValueError("poison")
        if (x == 50).any() and len(x) > 1:
            return {"y": np.array([["too"], ["many"], ["rows"]], object)}
        return {"y": np.array([[chr(0xD800) if one == 98 else str(one)] for one in x[:, 0]], object)}
"""


def test_of_a_batch_only_who_spoils_it_fails(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        outcome = await _ask(executor, 1, 99, 98, 2)
        assert outcome.parts is not None
        told = [None if part.result is None else part.result.arrays[0].tolist() for part in outcome.parts]
        assert told == [[[b"1"]], None, None, [[b"2"]]]
        assert executor.counts().deaths == 0

    _serve(tmp_path, SPOILING, scenario)


def test_rows_that_are_nobodys_are_given_to_nobody(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        outcome = await _ask(executor, 50, 2, 99, 3)
        assert outcome.parts is not None
        told = [None if part.result is None else part.result.arrays[0].tolist() for part in outcome.parts]
        assert told == [[[b"50"]], [[b"2"]], None, [[b"3"]]]

    _serve(tmp_path, SPOILING, scenario)


# --- limits ----------------------------------------------------------------------------------------------

LARGE = """
import numpy as np

class Model:
    inputs = {"x": ("INT64", [-1, 1])}
    outputs = {"y": ("INT64", [-1, -1])}

    def predict(self, x):
        return {"y": np.zeros((len(x), int(x[0, 0])), np.int64)}
"""


def test_what_does_not_fit_is_refused_and_what_waits_goes_on(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        told = [_submit(executor, columns) for columns in (16 << 20, 10, 16 << 20, 10)]
        outcomes = [await asyncio.wait_for(one, 60) for one in told]
        assert [isinstance(outcome.error, Overloaded) for outcome in outcomes] == [True, False, True, False]
        assert executor.counts().deaths == 0

    _serve(tmp_path, LARGE, scenario)


def test_memory_has_a_limit_and_the_process_outlives_it(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        error = _error(await _ask(executor, 100 << 20))
        assert "MemoryError" in error.message
        assert (await _ask(executor, 10)).result is not None
        assert executor.counts().deaths == 0

    _serve(tmp_path, LARGE, scenario, memory_bytes=512 << 20)


def test_a_request_that_cannot_be_told_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        (request,) = _batch(1)
        request.parameters = {"text": "x" * (20 << 20)}
        told: asyncio.Future[BatchOutcome] = asyncio.get_running_loop().create_future()
        executor.submit([request], lambda _, outcome: told.set_result(outcome))
        assert "put what is large into a tensor" in _error(await told).hint
        await _is_well(executor)

    _serve(tmp_path, POISONABLE, scenario)


# --- loading ---------------------------------------------------------------------------------------------


def _refused(folder: Path, code: str, python: str = sys.executable, timeout_s: float = 60.0) -> InvalidModel:
    plan = replace(launch_plan(folder, code), python=python, load_timeout_s=timeout_s)
    before = threading.active_count()
    with pytest.raises(InvalidModel) as told:
        ModelProcess.start(plan, 0)
    _eventually(lambda: threading.active_count() == before)
    return told.value


DEAF = """
import os, socket, sys, time
socket.socket(fileno=os.dup(int(sys.argv[1]))).shutdown(socket.SHUT_WR)
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys\nsys.exit(3)", "raised SystemExit"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("import os\nprint('so it goes')\nos._exit(4)", "exit status 4; the last line it printed: so it goes"),
        (f"{DEAF}\ntime.sleep(600)", "closed its connection"),
        (
            "import os, sys\nos.write(int(sys.argv[1]), b'\\xff' * 9)\nimport time; time.sleep(600)",
            "not to be believed",
        ),
        ("import os, time\nif os.fork() == 0: time.sleep(600)\nos._exit(5)", "exit status 5"),
    ],
)
def test_why_it_cannot_be_loaded_is_told(tmp_path: Path, code: str, reason: str) -> None:
    assert reason in _refused(tmp_path, code).message


ENDLESS_TALK = """
import os, sys
from taxiway.runtimes.hosted.frames import Said, encode
while True:
    os.write(int(sys.argv[1]), encode(Said("info", "and so on")))
"""


@pytest.mark.parametrize("code", ["import time\ntime.sleep(600)", ENDLESS_TALK, "import os\nos.kill(os.getpid(), 19)"])
def test_loading_has_a_limit_whatever_the_model_does_meanwhile(tmp_path: Path, code: str) -> None:
    assert "was not loaded within 2 s" in _refused(tmp_path, code, timeout_s=2.0).message


def test_an_interpreter_that_is_none_is_told(tmp_path: Path) -> None:
    assert "cannot be started" in _refused(tmp_path, POISONABLE, "/no/such/python").message
    assert "exit status 1" in _refused(tmp_path, POISONABLE, "/bin/false").message


def test_an_environment_without_numpy_is_told_so(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    told = _refused(tmp_path, POISONABLE, str(bare)).message
    assert "has no numpy and no msgspec" in told
    assert "-m pip install numpy msgspec" in told


# --- closing ---------------------------------------------------------------------------------------------

STUCK = (
    HEAD
    + """
    def act(self, value):
        if value == 10:
            os.kill(os.getpid(), signal.SIGSTOP)
        if value == 11:
            os._exit(0)
"""
)


def test_what_never_comes_back_is_told_when_all_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = hosted_executor(tmp_path, STUCK, asyncio.get_running_loop())
        stuck, waits = _submit(executor, 10), _submit(executor, 1)
        assert executor.running_since_ns() < NEVER_NS
        await asyncio.to_thread(executor.close)
        for told in (stuck, waits):
            assert isinstance((await asyncio.wait_for(told, 60)).error, Unavailable)
        executor.close()  # again, as whoever gives a model up does

    asyncio.run(scenario())


SLOW_TO_LOAD = (
    HEAD
    + """
    def load(self, directory):
        mark = os.path.join(directory, "loads")
        with open(mark, "a") as file:
            file.write(f"{os.getpid()}\\n")
        if len(open(mark).readlines()) > 1:
            time.sleep(600)

    def act(self, value):
        os._exit(0)
"""
)


def test_one_that_is_being_started_is_ended_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = hosted_executor(tmp_path, SLOW_TO_LOAD, asyncio.get_running_loop())
        assert isinstance((await _ask(executor, 1)).error, ModelProcessDied)
        waits = _submit(executor, 1)
        mark = tmp_path / "1" / "loads"
        await asyncio.to_thread(_eventually, lambda: len(mark.read_text().splitlines()) == 2)
        assert executor.running_since_ns() < NEVER_NS
        await asyncio.to_thread(executor.close)
        assert isinstance((await asyncio.wait_for(waits, 60)).error, Unavailable)
        assert not any(_is_alive(int(pid)) for pid in mark.read_text().split())

    asyncio.run(scenario())


LEAVING = (
    HEAD
    + """
    def load(self, directory):
        self.child = subprocess.Popen(["sleep", "600"])
        with open(os.path.join(directory, "child"), "w") as file:
            file.write(str(self.child.pid))

    def act(self, value):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        if value == 10:
            self.child.terminate()
            self.child.wait(30)
"""
)


def test_what_a_model_has_started_ends_with_it_and_can_be_ended_by_it(tmp_path: Path) -> None:
    async def scenario(executor: ProcessExecutor) -> None:
        child = int((tmp_path / "1" / "child").read_text())
        await _is_well(executor)
        assert _is_alive(child)
        assert (await _ask(executor, 10)).result is not None
        assert not _is_alive(child)
        assert executor.counts().deaths == 0

    _serve(tmp_path, LEAVING, scenario)
    plan = launch_plan(tmp_path / "again", LEAVING)
    process, _ = ModelProcess.start(plan, 0)
    child = int((tmp_path / "again" / "1" / "child").read_text())
    process.close()
    _eventually(lambda: not _is_alive(child))
    process, _ = ModelProcess.start(plan, 0)
    child = int((tmp_path / "again" / "1" / "child").read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.bury()
    _eventually(lambda: not _is_alive(child))
