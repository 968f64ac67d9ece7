"""`Functions` in processes of their own: each bounded in time, memory and in how often it may crash.

A call is never waited for: a thread for each function of a rollout feeds its process, and what came of calls is fetched
later. Whatever the function does is its process's alone. A process is a rollout's own, so that a file which was changed
counts for the next rollout.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from taxiway.control.function_process import receive, send
from taxiway.core.errors import InvalidArgument
from taxiway.rollout.functions import Function, Question, Reply
from taxiway.telemetry.logs import Log

_log = Log("taxiway.rollout")
MAX_WAITING: Final = 1_000
"""Calls that wait for one function; more are dropped."""
_CRASHES: Final = 5
_LATELY_S: Final = 60.0
"""A function whose process ends so often within this time rests."""
_LOAD_S: Final = 60.0
_RELOAD_S: Final = 5.0
"""A file that cannot be loaded is tried again after so long."""
_CLOSED_WITHIN_S: Final = 2.0
_MAX_REPLY_BYTES: Final = 1 << 20


class ProcessFunctions:
    """Functions of files below one directory.

    Args:
        folder: below which files must lie.
        timeout_s: that a call may take.
        memory_bytes: that each process may have.
        rest_s: of a function whose process ended too often; calls wait for as long.
    """

    def __init__(self, folder: Path, timeout_s: float, memory_bytes: int, rest_s: float = 60.0) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._rest_s = rest_s
        self._running: dict[tuple[str, Function], _Runner] = {}

    def check(self, function: Function) -> None:
        """See `Functions`."""
        process = self._start(function)
        try:
            process.load(_LOAD_S)
        except _FailedError as problem:
            raise InvalidArgument(
                f"{function} cannot be used: {problem}",
                hint="the function's file is run for this, in a process of its own",
            ) from None
        finally:
            process.end()

    def ask(self, function: Function, question: Question) -> bool:
        """See `Functions`."""
        key = (question.rollout, function)
        if key not in self._running:
            start = partial(self._start, function)
            self._running[key] = _Runner(str(function), start, self._timeout_s, self._rest_s)
        return self._running[key].ask(question)

    def replies(self, function: Function, rollout: str) -> list[Reply]:
        """See `Functions`."""
        runner = self._running.get((rollout, function))
        return [] if runner is None else runner.replies()

    def problem(self, function: Function, rollout: str) -> str:
        """See `Functions`."""
        runner = self._running.get((rollout, function))
        return "" if runner is None else runner.problem

    def keep(self, rollouts: Collection[str]) -> None:
        """See `Functions`."""
        for key in [key for key in self._running if key[0] not in rollouts]:
            self._running.pop(key).close()

    def close(self) -> None:
        """End every process."""
        self.keep(())

    def _start(self, function: Function) -> _Process:
        return _Process(self._words(function))

    def _words(self, function: Function) -> Mapping[str, Any]:
        file = (self._folder / function.file).resolve()
        if not file.is_relative_to(self._folder.resolve()):
            raise InvalidArgument(
                f"{function}: the file is not below {self._folder}",
                hint="control.python is the directory of functions that judge quality",
            )
        if not file.is_file():
            raise InvalidArgument(
                f"{function}: there is no file {file}",
                hint="paths are relative to control.python, or where the server runs",
            )
        return {
            "file": str(file),
            "name": function.name,
            "arguments": function.arguments,
            "memory_bytes": self._memory_bytes,
        }


class _FailedError(Exception):
    """A call failed; the process goes on, unless `dead`."""

    def __init__(self, problem: str, *, dead: bool = False) -> None:
        super().__init__(problem)
        self.dead = dead


class _Process:
    """One process, which runs one function."""

    def __init__(self, words: Mapping[str, Any]) -> None:
        self._words = words
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "taxiway.control.function_process", str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                start_new_session=True,  # so that what the function starts ends with it
            )

    def load(self, timeout_s: float) -> None:
        """Have it load the function.

        Raises:
            _FailedError: it cannot.
        """
        self._ask(self._words, timeout_s)

    def call(self, question: Question, timeout_s: float) -> list[float | None]:
        """The scores.

        Raises:
            _FailedError: there are none.
        """
        said = {"answers": list(question.answers), "feedback": question.feedback}
        scores: list[float | None] = self._ask(said, timeout_s)["scores"]
        return scores

    def _ask(self, words: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        self._channel.settimeout(timeout_s)
        try:
            send(self._channel, words)
            told = receive(self._channel, _MAX_REPLY_BYTES)
        except TimeoutError:
            raise _FailedError(f"it took longer than {timeout_s:g} s", dead=True) from None
        except (OSError, msgspec.DecodeError):  # it is gone, or somebody else writes to its socket
            told = None
        if not isinstance(told, dict):
            raise _FailedError(f"its process ended ({self._status()})", dead=True)
        if "problem" in told:
            raise _FailedError(told["problem"])
        found: Mapping[str, Any] = told
        return found

    def _status(self) -> str:
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "and said nothing"
        return f"signal {-status}" if status < 0 else f"status {status}"

    def kill(self) -> None:
        """It, and what it has started; whoever waits for its answer is told."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it is gone just now
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Now."""
        self.kill()
        self._process.wait()
        self._channel.close()


class _Runner:
    """One function's calls, one after the other, on a thread of their own.

    Args:
        start: makes a process, which has not loaded the function yet.
    """

    def __init__(self, name: str, start: Callable[[], _Process], timeout_s: float, rest_s: float) -> None:
        self.problem = ""
        self._name = name
        self._start = start
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._asked: queue.Queue[Question | None] = queue.Queue(MAX_WAITING)
        self._replies: deque[Reply] = deque()
        self._ended: deque[float] = deque(maxlen=_CRASHES)
        self._last_failure = ""
        self._process: _Process | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"function {name}", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> bool:
        try:
            self._asked.put_nowait(question)
        except queue.Full:
            return False
        return True

    def replies(self) -> list[Reply]:
        found = []
        while self._replies:
            found.append(self._replies.popleft())
        return found

    def close(self) -> None:
        """End its process; the thread is gone when this returns, unless it is stuck in the kernel."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._asked.put_nowait(None)
        until = time.monotonic() + _CLOSED_WITHIN_S
        while self._thread.is_alive() and time.monotonic() < until:
            if (process := self._process) is not None:  # it may be starting another one just now
                process.kill()
            self._thread.join(0.05)

    def _run(self) -> None:
        while not self._closing.is_set():
            question = self._asked.get()
            process = None if question is None else self._ready()
            if question is not None and process is not None:
                self._answer(process, question)
        self._end()

    def _ready(self) -> _Process | None:
        """One that has loaded the function, however long that takes; None: this is to end."""
        while self._process is None and not self._closing.is_set():
            self._rest()
            try:
                self._process = self._start()
                self._process.load(_LOAD_S)
            except (_FailedError, InvalidArgument, OSError) as problem:
                self._not_loaded(str(problem))
            else:
                self.problem = ""
        return self._process

    def _not_loaded(self, problem: str) -> None:
        """Nobody's answer has to do with it: calls wait until it can be loaded."""
        self._end()
        if problem != self.problem:
            self._tell("function_not_loaded", problem)
        self.problem = problem
        self._closing.wait(min(self._rest_s, _RELOAD_S))

    def _rest(self) -> None:
        now = time.monotonic()
        if len(self._ended) == _CRASHES and now - self._ended[0] < _LATELY_S:
            self.problem = f"its process ended {_CRASHES} times within {_LATELY_S:g} s: {self._last_failure}; it rests"
            self._closing.wait(self._rest_s)
            self._ended.clear()

    def _answer(self, process: _Process, question: Question) -> None:
        scores: list[float | None] = [None] * len(question.answers)
        problem = ""
        try:
            scores = process.call(question, self._timeout_s)
        except _FailedError as failure:
            problem = str(failure)
            if failure.dead:
                self._died(problem)
            elif problem != self._last_failure:
                self._tell("function_failed", problem)
        self._replies.append(Reply(question.rollout, question.key, scores, problem))

    def _died(self, problem: str) -> None:
        self._ended.append(time.monotonic())
        self._tell("function_ended", problem)
        self._end()

    def _tell(self, event: str, problem: str) -> None:
        self._last_failure = problem
        if not self._closing.is_set():
            _log.warning(event, reason=f"{self._name}: {problem}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()
