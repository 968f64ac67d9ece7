"""One model process: started, opened, spoken to, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from taxiway.core.errors import InvalidModel, Unavailable
from taxiway.runtimes.hosted.frames import (
    CallAnswer,
    CallOut,
    Close,
    Failed,
    Frame,
    FrameSplitter,
    FromChild,
    Metric,
    Open,
    Opened,
    Piece,
    Ran,
    Run,
    Said,
    decode_from_child,
    encode,
)
from taxiway.server.execution.processes.confusion import Confused, error_told
from taxiway.server.execution.processes.layout import BlockView
from taxiway.server.execution.processes.plan import LaunchPlan
from taxiway.server.execution.processes.spawning import spawn
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
_RECEIVED_BYTES = 64 * 1024
_CLOSE_S = 5.0
_END_S = 1.0
"""How long one that has closed its connection may take to end by itself, and so say of what."""


class Ending(NamedTuple):
    """How a process ended, and the last line that it printed. That may be about anybody's request."""

    how: str
    last_line: str

    def __str__(self) -> str:
        return f"{self.how}; the last line it printed: {self.last_line}" if self.last_line else self.how


class ModelProcess:
    """A child that loads one model. It is opened, and then attached to the event loop, before it gets work.

    Attributes:
        outbox: the arena that we write; inbox: the one it writes.
    """

    def __init__(self, plan: LaunchPlan, index: int) -> None:
        """Start it.

        Raises:
            InvalidModel: it cannot be started.
        """
        self.index = index
        self.name = f"{plan.name}_{index}"
        self._plan = plan
        self._labels = plan.labels
        self._splitter = FrameSplitter()
        self._ending = threading.Lock()
        self._is_buried = False
        self._is_detached = False
        self._fault = ""
        spawned = spawn(plan, index, self.name)
        self._socket, self._process = spawned.socket, spawned.process
        self.outbox, self.inbox = spawned.outbox, spawned.inbox
        self._log, self._output = spawned.log, spawned.output
        self._output.call_at_end(partial(_hear_no_more, self._socket))
        self.pid = self._process.pid
        self._loop: asyncio.AbstractEventLoop | None = None
        self._take: Callable[[FromChild], None] = _heard_by_nobody
        self._gone: Callable[[], None] = _heard_by_nobody
        self._unsent = bytearray()
        self._early: list[FromChild] = []
        """What it said before the event loop had it, for whoever listens then."""

    @classmethod
    def start(cls, plan: LaunchPlan, index: int) -> tuple[ModelProcess, Opened]:
        """Start one and have it load the model. Blocks until it has.

        Raises:
            InvalidModel: it cannot be loaded.
            TaxiwayError: whatever else the model's own code says.
        """
        process = cls(plan, index)
        return process, process.open()

    def open(self) -> Opened:
        """Have it load the model. Blocks until it has. One that cannot be opened is no more.

        Raises:
            InvalidModel: it cannot be loaded.
            TaxiwayError: whatever else the model's own code says.
        """
        try:
            return self._open()
        except BaseException as problem:
            self.kill()
            self.bury()
            if isinstance(problem, Confused):
                raise InvalidModel(
                    f"the process of model {self._plan.name!r} is not to be believed: {problem}"
                ) from problem
            raise

    def _open(self) -> Opened:
        plan = self._plan
        kind, device = plan.kinds[self.index] if self.index < len(plan.kinds) else ("CPU", 0)
        self.tell(
            Open(
                plan.backend,
                plan.name,
                plan.version,
                str(plan.directory),
                str(plan.file),
                plan.config,
                self.name,
                kind,
                device,
                plan.trusted,
                dict(plan.parameters),
                plan.compat,
            )
        )
        deadline = time.monotonic() + plan.load_timeout_s
        opened: Opened | None = None
        while opened is None:
            for frame in self._receive_blocking(deadline):
                if isinstance(frame, Opened):
                    opened = frame
                elif isinstance(frame, Failed):
                    raise error_told(frame.error)
                else:
                    self._heard(frame)
        return opened

    def _heard(self, frame: FromChild) -> None:
        """What it says of itself before the event loop has it."""
        if isinstance(frame, Said):
            self._log.said(frame)
        elif isinstance(frame, Metric):
            self._early.append(frame)
        elif isinstance(frame, CallOut):
            BlockView(frame.block, self.inbox).done()
            refusal = Unavailable("other models cannot be asked while a model is loaded and warmed up")
            self.tell(CallAnswer(frame.call, None, error=refusal.to_data()))

    def _receive_blocking(self, deadline: float) -> list[FromChild]:
        plan = self._plan
        left_s = deadline - time.monotonic()
        try:
            self._socket.settimeout(max(0.001, left_s))
            data = self._socket.recv(_RECEIVED_BYTES)
        except TimeoutError:
            left_s, data = 0.0, b""
        except OSError:
            data = b""
        if left_s <= 0:  # also if it talks all the while
            raise InvalidModel(
                f"model {plan.name!r} was not loaded within {plan.load_timeout_s:g} s",
                hint="raise execution.load_timeout_s, or look at what the model does while it is loaded",
            )
        if not data:
            raise InvalidModel(f"the process of model {plan.name!r} ended while it loaded the model: {self.told_end()}")
        return self._frames(data)

    def _frames(self, data: bytes) -> list[FromChild]:
        try:
            return [decode_from_child(body) for body in self._splitter.feed(data)]
        except ValueError as problem:
            raise Confused(str(problem)) from problem

    def tell(self, frame: Frame) -> None:
        """Send a frame before the event loop has it; waits as long as the model may take to load."""
        self._socket.settimeout(self._plan.load_timeout_s)
        with contextlib.suppress(OSError):  # it is gone: whoever waits for its answer finds out
            self._socket.sendall(encode(frame))

    def ask(self, run: Run) -> tuple[Ran, list[Piece]]:
        """Have it run something and return all it answers, before the event loop has it; waits.

        Raises:
            InvalidModel: it ended, or takes too long.
        """
        self.tell(run)
        deadline = time.monotonic() + self._plan.load_timeout_s
        pieces: list[Piece] = []
        while True:
            for frame in self._receive_blocking(deadline):
                if isinstance(frame, Ran):
                    return frame, pieces
                if isinstance(frame, Piece):
                    pieces.append(frame)
                else:
                    self._heard(frame)

    # --- on the event loop --------------------------------------------------------------------------------

    def attach(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[FromChild], None], gone: Callable[[], None]
    ) -> None:
        """From now on `take` is called with every frame, and `gone` once when the process is no more.

        `take` may raise Confused: then it is no more.
        """
        self._loop, self._take, self._gone = loop, take, gone
        self._socket.setblocking(False)
        loop.add_reader(self._socket.fileno(), self._read)
        early, self._early = self._early, []
        try:
            self._take_all(early)
        except Confused as problem:
            self._distrust(str(problem))

    def send(self, frame: Frame) -> None:
        """Send a frame with all others of this turn of the loop: each wakes the process, which costs more than it.

        What the process does not read yet is kept, in order. That it is gone is told by `gone`.

        Raises:
            InvalidArgument: what somebody put into the frame cannot be sent.
        """
        data = encode(frame)
        if not self._unsent and self._loop is not None:
            self._loop.call_soon(self._flush)
        self._unsent += data

    def _flush(self) -> None:
        self._send_more()
        if self._unsent and self._loop is not None:
            self._loop.add_writer(self._socket.fileno(), self._write)

    def _write(self) -> None:
        self._send_more()
        if not self._unsent and self._loop is not None:
            self._loop.remove_writer(self._socket.fileno())

    def _send_more(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:  # it is gone, and the reader will say so
            self._unsent.clear()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_RECEIVED_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            self._take_all(self._frames(data))
        except Confused as problem:
            self._distrust(str(problem))
        except Exception as problem:  # noqa: BLE001 - the boundary: what cannot be dealt with must not be waited for
            _log.error("bug", **self._labels, error=problem)
            self._distrust(f"it led to {type(problem).__name__}")

    def _take_all(self, frames: list[FromChild]) -> None:
        for frame in frames:
            if isinstance(frame, Said):
                self._log.said(frame)
            else:
                self._take(frame)

    def _distrust(self, reason: str) -> None:
        """It has gone mad, or means harm: it is not listened to any more."""
        self._fault = f"what it told could not be true ({reason}), so it was killed"
        _log.error("model_process_confused", **self._labels, instance=self.index, reason=reason)
        self.kill()
        self._lose()

    def _lose(self) -> None:
        """Nothing more comes of it."""
        gone = self._gone
        self._detach()
        gone()

    def _detach(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed() and self._socket.fileno() >= 0:
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
        self._take, self._gone = _heard_by_nobody, _heard_by_nobody  # who is called holds us, and our memory
        with self._ending:
            self._is_detached = True
            if self._is_buried:
                self._socket.close()

    # --- its end ------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End it now, and whatever it has started that is still of its group."""
        with self._ending:
            self._kill_group()

    def _kill_group(self) -> None:
        """Its number is its own only until it is waited for."""
        if not self._is_buried:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let it finalize the model and end, or end it. Blocks. It runs nothing any more."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the loop has closed the socket meanwhile
            self._socket.settimeout(_CLOSE_S)
            left, self._unsent = self._unsent, bytearray()
            self._socket.sendall(left + encode(Close()))
        self._output.ended.wait(_CLOSE_S)
        self.kill()
        self.bury()

    def bury(self) -> None:
        """Wait for it, which is dead or dying, and let go of everything."""
        self._output.ended.wait()
        with self._ending:
            self._kill_group()  # what it has left behind
            self._process.wait()
            self._is_buried = True
            if self._loop is None or self._is_detached:
                self._socket.close()  # not before: it ends by itself when our end is closed, and would not say of what
        self.release()

    def release(self) -> None:
        """It has ended: take what it said last, where the loop would not come to it."""
        loop = self._loop
        if loop is not None and (not loop.is_running() or asyncio._get_running_loop() is loop):
            while not self._is_detached:
                self._read()

    def told_end(self) -> Ending:
        """How it ended. Blocks until it has; one that has closed its connection and goes on is killed for it."""
        if not self._output.ended.wait(_END_S):
            self._fault = self._fault or "it closed its connection and went on, so it was killed"
            self.kill()
        self.bury()
        return Ending(self._fault or _described(self._process.returncode), self._output.last_line())


def _described(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _hear_no_more(end: socket.socket) -> None:
    """Have what was sent be the last that is read, though whatever a process has started may hold its end open."""
    with contextlib.suppress(OSError):  # nobody listens any more
        end.shutdown(socket.SHUT_RD)


def _heard_by_nobody(*_: object) -> None:
    """It has ended; nobody is told."""
