"""The socket of a model process: what the data plane sends is sorted to whoever waits for it.

There is no thread that reads. Whoever waits reads, and hands on what is for others: the main thread waits for runs
most of the time and is woken by the kernel itself, and a thread of the model that waits for another model's answer
reads while the main thread is busy.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar, cast

from taxiway.runtimes.hosted.frames import (
    CallAnswer,
    Close,
    Frame,
    FrameSplitter,
    Learn,
    Open,
    Run,
    decode_to_child,
    encode,
)

Work = Open | Run | Learn | Close
T = TypeVar("T")
_RECEIVED_BYTES = 64 * 1024


class Mailbox:
    """One end of the socket; every method may be called from any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._splitter = FrameSplitter()
        self._poll = select.poll()  # select() takes no number over 1023, and the server may have many connections
        self._poll.register(end, select.POLLIN)
        self._arrived = threading.Condition(threading.Lock())
        self._reading = False
        self._work: deque[Work] = deque()
        self._answers: dict[int, deque[CallAnswer]] = {}
        self._sending = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Send a frame; waits while the other side does not read."""
        data = encode(frame)
        with self._sending:
            self._socket.sendall(data)

    def next_work(self) -> Work:
        """What is to be done next; waits for it."""
        return cast("Work", self._await(self._take_work))

    def _take_work(self) -> Work | None:
        return self._work.popleft() if self._work else None

    def more_runs(self, count: int, rows: int) -> list[Run]:
        """Up to `count` runs of `rows` rows together that have come meanwhile; does not wait."""
        with self._arrived:
            if not self._reading and self._poll.poll(0):
                self._sort(self._receive())
            runs: list[Run] = []
            while self._work and len(runs) < count:
                run = self._work[0]
                if not isinstance(run, Run) or run.rows > rows:
                    break
                rows -= run.rows
                self._work.popleft()
                runs.append(run)
            return runs

    def expect(self, call: int) -> None:
        """Answers to `call` are kept from now on."""
        with self._arrived:
            self._answers[call] = deque()

    def next_answer(self, call: int) -> CallAnswer:
        """The next answer to `call`; waits for it. After the last one nothing is kept any more."""
        answers = self._answers[call]
        answer = self._await(lambda: answers.popleft() if answers else None)
        if answer.final:
            self.forget(call)
        return answer

    def forget(self, call: int) -> None:
        """Nobody waits for answers to `call` any more."""
        with self._arrived:
            self._answers.pop(call, None)

    def _await(self, take: Callable[[], T | None]) -> T:
        with self._arrived:
            while (taken := take()) is None:
                if self._reading:
                    self._arrived.wait()
                else:
                    self._read()
            return taken

    def _read(self) -> None:
        """Wait for what comes, without the lock, and sort it."""
        self._reading = True
        self._arrived.release()
        try:
            bodies = self._receive()
        finally:
            self._arrived.acquire()
            self._reading = False
        self._sort(bodies)
        self._arrived.notify_all()

    def _receive(self) -> list[bytes]:
        data = self._socket.recv(_RECEIVED_BYTES)
        if not data:
            _end()
        return self._splitter.feed(data)

    def _sort(self, bodies: list[bytes]) -> None:
        for body in bodies:
            frame = decode_to_child(body)
            if isinstance(frame, Open | Run | Learn | Close):
                self._work.append(frame)
            elif isinstance(frame, CallAnswer):
                waiting = self._answers.get(frame.call)
                if waiting is not None:
                    waiting.append(frame)


def end_with(end: socket.socket) -> None:
    """Have this process end as soon as the other end of the socket does, whatever the model is doing."""

    def watch() -> None:
        poll = select.poll()
        poll.register(end, select.POLLRDHUP | select.POLLHUP)
        poll.poll()
        _end()

    threading.Thread(target=watch, name="sentinel", daemon=True).start()


def _end() -> None:
    """The data plane is gone: nobody is left to work for, nor to end what the model has started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)
