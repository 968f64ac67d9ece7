"""Asks the workshop, and starts another when it dies, or when nothing is heard of it for too long."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, TypeVar

import msgspec

from taxiway.optimize.workshop.orders import ALIVE, Failed, Order, Reply

_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_LAST_WORDS: Final = 400
_LARGEST_ANSWER: Final = 16 << 20

Wanted = TypeVar("Wanted", bound=msgspec.Struct)


class OrderFailed(Exception):
    """The workshop could not do what it was asked; never seen outside this room."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


class Workshop:
    """One process at a time; started when it is first asked.

    Args:
        folder: that it works in.
        patience_s: how long nothing may be heard of it: it tells of every run of a model.
    """

    def __init__(self, folder: Path, *, patience_s: float = 600.0) -> None:
        self._folder = folder
        self.patience_s = patience_s
        self._child: subprocess.Popen[bytes] | None = None
        self._log = folder / "workshop.log"
        self.spent_s = 0.0
        """CPU seconds of the processes that have ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, order: Order, wanted: type[Wanted]) -> Wanted:
        """The answer to an order.

        Raises:
            OrderFailed: it could not be done: an error there, a crash, no answer in time.
        """
        reply = self._reply(order)
        if isinstance(reply, Failed):
            raise OrderFailed(reply)
        assert isinstance(reply, wanted)  # noqa: S101 - each order has one kind of answer
        return reply

    def ask_apart(self, order: Order, wanted: type[Wanted]) -> Wanted:
        """As `ask`, of a process that has done nothing else before."""
        self.close()
        try:
            return self.ask(order, wanted)
        finally:
            self.close()

    def close(self) -> None:
        """End the process with all that it started."""
        if self._child is None:
            return
        child, self._child = self._child, None
        before = _children_s()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self.spent_s += _children_s() - before

    def _reply(self, order: Order) -> Reply:
        child = self._child or self._start()
        try:
            _stream(child.stdin).write(msgspec.json.encode(order) + b"\n")
            _stream(child.stdin).flush()
            line = _read_line(_stream(child.stdout), self.patience_s)
        except TimeoutError:
            self.close()
            return Failed(f"nothing was heard of it for {self.patience_s:g} s")
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            return self._how_it_died(child)
        reply: Reply = msgspec.json.decode(line, type=Reply)
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                [sys.executable, "-W", "ignore", "-m", "taxiway.optimize", str(self._folder), str(os.getpid())],
                env=os.environ | _ONE_THREAD,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self._child

    def _how_it_died(self, child: subprocess.Popen[bytes]) -> Failed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(5.0)
        code = child.returncode
        self.close()
        said = " ".join(self._log.read_text("utf-8", errors="replace").split())[-_LAST_WORDS:]
        how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        killed = code == -signal.SIGKILL  # nobody does that but the kernel, when memory runs out
        return Failed(f"the process that tried it {how}" + (f": {said}" if said else ""), passing=killed)


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - made with a pipe
    return stream


def _read_line(stream: IO[bytes], patience_s: float) -> bytes:
    """A line, or what came of it before the process ended; blanks before it are signs of life."""
    line = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n") and len(line) < _LARGEST_ANSWER:
            if not selector.select(patience_s):
                raise TimeoutError
            piece = os.read(stream.fileno(), 1 << 16)
            if not piece:
                break
            line += piece.lstrip(ALIVE) if not line else piece
    return bytes(line)


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
