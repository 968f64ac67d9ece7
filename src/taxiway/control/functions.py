"""`Functions` in processes of their own: each bounded in time, memory and in how often it may crash.

A call is never waited for: a thread for each function feeds its process, and what came of calls is fetched later.
Whatever the function does is its process's alone.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taxiway.control.function_process import receive, send
from taxiway.core.errors import InvalidArgument
from taxiway.rollout.functions import Function, Question, Reply
from taxiway.telemetry.logs import Log

_log = Log("taxiway.rollout")
MAX_WAITING: Final = 1_000
"""Calls that wait for one function; more are dropped."""
_CRASHES: Final = 5
_LATELY_S: Final = 60.0
"""A function whose process ends so often within this time rests for as long."""
_LOAD_S: Final = 60.0
_CLOSED_WITHIN_S: Final = 2.0


class ProcessFunctions:
    """Functions of files below one directory.

    Args:
        folder: below which files must lie.
        timeout_s: that a call may take.
        memory_bytes: that each process may have.
    """

    def __init__(self, folder: Path, timeout_s: float, memory_bytes: int) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._running: dict[Function, _Runner] = {}

    def check(self, function: Function) -> None:
        """See `Functions`."""
        process = _Process(self._words(function))
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
        return self._runner(function).ask(question)

    def replies(self, function: Function) -> list[Reply]:
        """See `Functions`."""
        return self._runner(function).replies()

    def problem(self, function: Function) -> str:
        """See `Functions`."""
        return self._runner(function).problem

    def close(self) -> None:
        """End every process."""
        for runner in self._running.values():
            runner.close()

    def _runner(self, function: Function) -> _Runner:
        if function not in self._running:
            self._running[function] = _Runner(function, self._words(function), self._timeout_s)
        return self._running[function]

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
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()
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
            told = receive(self._channel)
        except TimeoutError:
            raise _FailedError(f"it took longer than {timeout_s:g} s", dead=True) from None
        except OSError:
            told = None
        if told is None:
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

    def end(self) -> None:
        """Now."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


class _Runner:
    """One function's calls, one after the other, on a thread of their own."""

    def __init__(self, function: Function, words: Mapping[str, Any], timeout_s: float) -> None:
        self.problem = ""
        self._function = function
        self._words = words
        self._timeout_s = timeout_s
        self._asked: queue.Queue[Question | None] = queue.Queue(MAX_WAITING)
        self._replies: deque[Reply] = deque()
        self._crashes: deque[float] = deque(maxlen=_CRASHES)
        self._process: _Process | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"function {function}", daemon=True)
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
            if self._process is not None:  # it may be starting another one just now
                self._process.end()
            self._thread.join(0.05)
        if self._process is not None:
            self._process.end()

    def _run(self) -> None:
        while not self._closing.is_set():
            question = self._asked.get()
            if question is not None:
                self._answer(question)

    def _answer(self, question: Question) -> None:
        try:
            scores, problem = self._call(question), ""
        except _FailedError as failure:
            scores, problem = [None] * len(question.answers), str(failure)
            if failure.dead:
                self._died(problem)
        if problem and problem != self.problem:
            _log.warning("function_failed", reason=f"{self._function}: {problem}")
        self.problem = problem
        self._replies.append(Reply(question.rollout, question.key, scores, problem))

    def _call(self, question: Question) -> list[float | None]:
        if self._closing.is_set():
            raise _FailedError("the server ends")
        if self._rests():
            raise _FailedError(f"its process ended {_CRASHES} times within {_LATELY_S:g} s; it rests")
        if self._process is None:
            self._process = _Process(self._words)
            self._process.load(_LOAD_S)
        return self._process.call(question, self._timeout_s)

    def _rests(self) -> bool:
        return len(self._crashes) == _CRASHES and time.monotonic() - self._crashes[0] < _LATELY_S

    def _died(self, problem: str) -> None:
        self._crashes.append(time.monotonic())
        if self._process is not None and not self._closing.is_set():
            _log.warning("function_ended", reason=f"{self._function}: {problem}")
            self._process.end()
            self._process = None
