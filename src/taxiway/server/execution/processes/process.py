"""One model process: started, opened, spoken to, killed. What it prints goes to the log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from taxiway.core.errors import InvalidModel, Unavailable, error_from_data
from taxiway.runtimes import hosted
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter, create_file
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
from taxiway.runtimes.hosted.host import Handed
from taxiway.server.execution.processes.plan import LaunchPlan
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
_MAIN = Path(hosted.__file__).with_name("__main__.py")
_RECEIVED_BYTES = 256 * 1024
_KEPT_LINES = 20
_LINE_BYTES = 4096
_CLOSE_S = 5.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ModelProcess:
    """A child that has loaded its model. Made by `start`; attached to the event loop before it gets work.

    Attributes:
        opened: what it said of the model.
        outbox: the arena that we write; inbox: the one it writes.
    """

    def __init__(self, plan: LaunchPlan, index: int) -> None:
        self.index = index
        self.name = f"{plan.name}_{index}"
        self._labels = plan.labels
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._splitter = FrameSplitter()
        numbers = [create_file(f"taxiway-{self.name}-{way}", plan.arena_bytes) for way in ("in", "out")]
        try:
            self.outbox, self.inbox = ArenaWriter(numbers[0]), ArenaReader(numbers[1])
            cpus = plan.cpus[index] if index < len(plan.cpus) else ()
            handed = Handed(theirs.fileno(), numbers[0], numbers[1], plan.memory_bytes, cpus)
            self._process = subprocess.Popen(  # noqa: S603 - our own file, under the interpreter that is configured
                [plan.python, str(_MAIN), *handed.words()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), *numbers),
                env=_environment(plan),
                start_new_session=True,
            )
        except OSError as problem:
            ours.close()
            raise InvalidModel(f"the process of model {plan.name!r} cannot be started: {problem}") from problem
        finally:
            theirs.close()
            for number in numbers:
                os.close(number)
        self.pid = self._process.pid
        self._pump = threading.Thread(target=self._pump_lines, name=f"output-{self.name}", daemon=True)
        self._pump.start()
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
            InvalidModel: it cannot be loaded; or whatever the model's own code says.
        """
        process = cls(plan, index)
        try:
            return process, process._open(plan)
        except BaseException:
            process.kill()
            process.bury()
            raise

    def _open(self, plan: LaunchPlan) -> Opened:
        kind, device = plan.kinds[self.index] if self.index < len(plan.kinds) else ("CPU", 0)
        self._socket.sendall(
            encode(
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
        )
        deadline = time.monotonic() + plan.load_timeout_s
        while True:
            for frame in self._receive_blocking(plan, deadline):
                if isinstance(frame, Opened):
                    return frame
                if isinstance(frame, Failed):
                    raise error_from_data(frame.error)
                self._heard(frame)

    def _heard(self, frame: FromChild) -> None:
        """What it says of itself before the event loop has it."""
        if isinstance(frame, Said):
            self.say(frame)
        elif isinstance(frame, Metric):
            self._early.append(frame)

    def _receive_blocking(self, plan: LaunchPlan, deadline: float) -> list[FromChild]:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._socket.recv(_RECEIVED_BYTES)
        except TimeoutError:
            raise InvalidModel(
                f"model {plan.name!r} was not loaded within {plan.load_timeout_s:g} s",
                hint="raise execution.load_timeout_s, or look at what the model does while it is loaded",
            ) from None
        except ConnectionError:
            data = b""
        if not data:
            raise InvalidModel(f"the process of model {plan.name!r} ended while it loaded the model: {self.told_end()}")
        return [decode_from_child(body) for body in self._splitter.feed(data)]

    def tell(self, frame: Frame) -> None:
        """Send a frame before the event loop has it; waits."""
        self._socket.settimeout(None)
        with contextlib.suppress(OSError):  # it is gone: whoever waits for its answer finds out
            self._socket.sendall(encode(frame))

    def ask(self, run: Run, plan: LaunchPlan) -> tuple[Ran, list[Piece]]:
        """Have it run something and return all it answers, before the event loop has it; waits.

        Raises:
            InvalidModel: it ended, or takes too long.
        """
        self.tell(run)
        deadline = time.monotonic() + plan.load_timeout_s
        pieces: list[Piece] = []
        while True:
            for frame in self._receive_blocking(plan, deadline):
                if isinstance(frame, Ran):
                    return frame, pieces
                if isinstance(frame, Piece):
                    pieces.append(frame)
                elif isinstance(frame, CallOut):
                    refusal = Unavailable("other models cannot be asked while a model is loaded and warmed up")
                    if frame.block is not None:
                        self.inbox.give_back(frame.block)
                    self.tell(CallAnswer(frame.call, None, error=refusal.to_data()))
                else:
                    self._heard(frame)

    # --- on the event loop --------------------------------------------------------------------------------

    def attach(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[FromChild], None], gone: Callable[[], None]
    ) -> None:
        """From now on `take` is called with every frame, and `gone` once when the process is no more."""
        self._loop, self._take, self._gone = loop, take, gone
        for frame in self._early:
            take(frame)
        self._early.clear()
        self._socket.setblocking(False)
        loop.add_reader(self._socket.fileno(), self._read)

    def send(self, frame: Frame) -> None:
        """Send a frame with all others of this turn of the loop: each wakes the process, which costs more than it.

        What the process does not read yet is kept, in order. That it is gone is told by `gone`.
        """
        if not self._unsent and self._loop is not None:
            self._loop.call_soon(self._flush)
        self._unsent += encode(frame)

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
            bodies = self._splitter.feed(data)
            frames = [decode_from_child(body) for body in bodies]
        except BlockingIOError:
            return
        except OSError:
            data, frames = b"", []
        except ValueError as problem:  # not a frame: whatever wrote it cannot be trusted with requests
            _log.error(
                "model_process_confused",
                **self._labels,
                instance=self.index,
                reason=str(problem),
            )
            self.kill()
            return
        if not data:
            gone = self._gone
            self._detach()
            gone()
            return
        for frame in frames:
            self._take(frame)

    def _detach(self) -> None:
        if self._loop is not None and self._socket.fileno() >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._take, self._gone = _heard_by_nobody, _heard_by_nobody  # who is called holds us, and our memory

    def release(self) -> None:
        """It has ended: let go of the socket, where the loop would not notice by itself."""
        loop = self._loop
        if loop is None:
            self._socket.close()
        elif not loop.is_running() or asyncio._get_running_loop() is loop:
            while self._socket.fileno() >= 0:
                self._read()  # what it answered last, and then its end

    # --- its end ------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End it now, and whatever it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let it finalize the model and end, or end it. Blocks. It runs nothing any more."""
        with contextlib.suppress(OSError):
            self._socket.setblocking(True)
            self._socket.settimeout(_CLOSE_S)
            left, self._unsent = self._unsent, bytearray()
            self._socket.sendall(left + encode(Close()))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_S)
        self.kill()
        self.bury()

    def bury(self) -> int:
        """Wait for it, which is dead or dying; its exit status."""
        status = self._process.wait()
        self._pump.join(_CLOSE_S)
        self.release()
        return status

    def told_end(self) -> str:
        """How it ended, for people: its status and the last line it printed."""
        try:
            status = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            return "it closed its connection, and is still there"
        self._pump.join(_CLOSE_S)
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        last = next((line for line in reversed(self._last_lines) if line.strip()), "")
        return f"{how}; the last line it printed: {last}" if last else how

    # --- what it says -------------------------------------------------------------------------------------

    def say(self, said: Said) -> None:
        """A line that the model wants in the log."""
        write = {"error": _log.error, "warning": _log.warning, "debug": _log.debug}.get(said.level, _log.info)
        write("model_said", **self._labels, instance=self.index, line=said.text[:_LINE_BYTES])

    def _pump_lines(self) -> None:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - it is a pipe
        with stream:
            for raw in iter(lambda: stream.readline(_LINE_BYTES), b""):
                line = raw.decode("utf-8", "replace").rstrip()
                self._last_lines.append(line)
                if line:
                    _log.info("model_output", **self._labels, instance=self.index, line=line)


def _heard_by_nobody(*_: object) -> None:
    """It has ended; nobody is told."""


def _environment(plan: LaunchPlan) -> Mapping[str, str]:
    threads = {name: str(plan.threads) for name in _THREAD_VARIABLES}
    return {**threads, **os.environ, "PYTHONUNBUFFERED": "1"}
