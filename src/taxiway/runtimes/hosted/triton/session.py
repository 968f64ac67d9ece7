"""What everything that a model holds of `triton_python_backend_utils` shares: there is one model in a process."""

from __future__ import annotations

import asyncio
import enum
import itertools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.triton.problems import TritonModelException

_CALLING_THREADS = 64
"""Calls of other models that an asynchronous model waits for at the same time."""


class Phase(enum.Enum):
    """How far the model is."""

    LOADING = "loading"
    SERVING = "serving"
    CLOSING = "closing"


class Session:
    """The model of this process, and its lines to the data plane."""

    def __init__(self, source: Source, lines: Lines) -> None:
        self.source = source
        self.lines = lines
        self.phase = Phase.LOADING
        self.calls = itertools.count(1)
        self.running: tuple[int, int] = (-1, -1)
        """The run that the main thread executes, and which of its requests if it is the only one."""
        self.orphans = Orphans()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._making = threading.Lock()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run it on the model's own event loop, in a thread of its own, as Triton does."""
        with self._making:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="asyncio", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def in_thread(self, wait: Callable[[], Any]) -> asyncio.Future[Any]:
        """Have a thread wait for something; to be awaited on the running loop."""
        with self._making:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_CALLING_THREADS, "calling")
        return asyncio.get_running_loop().run_in_executor(self._pool, wait)


class Orphans:
    """Does later what must not be done where an object is collected as garbage, which may be anywhere."""

    def __init__(self) -> None:
        self._left: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._started = False

    def watch(self) -> None:
        """Be ready for `leave`."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name="orphans", daemon=True).start()

    def leave(self, settle: Callable[[], None]) -> None:
        """Have this done soon, in another thread. Never waits, never raises."""
        self._left.put(settle)

    def _work(self) -> None:
        while True:
            self._left.get()()


_current: list[Session] = []


def begin(source: Source, lines: Lines) -> Session:
    """The session of this process, from its beginning."""
    session = Session(source, lines)
    _current[:] = [session]
    return session


def here() -> Session:
    """The session of this process.

    Raises:
        TritonModelException: this is not a model's process.
    """
    if not _current:
        raise TritonModelException("triton_python_backend_utils is of use only in a model that is served")
    return _current[0]
