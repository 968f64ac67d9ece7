"""The way from the event loop to what blocks: threads look, load and close while the loop goes on serving."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from taxiway.config.ensemble_tensors import Peers
from taxiway.config.settings import PipelineSettings
from taxiway.server.models.fingerprint import Stamps, stamp_model
from taxiway.server.models.loading import ModelLoader, Prepared
from taxiway.server.models.repository import FoundModel, Look, add_pipelines, look_at
from taxiway.server.models.served import ServedModel
from taxiway.server.models.uploads import remove_upload, write_upload

T = TypeVar("T")
_TURN_S = 0.0005


class Loading(Protocol):
    """What the manager has done for it beside the loop."""

    async def look(self) -> Look:
        """What lies at the paths now."""

    async def stamp(self, models: Sequence[FoundModel]) -> dict[str, Stamps]:
        """The files of these models, by name; one that cannot be looked at is left out."""

    async def upload(self, name: str, config: str, files: Mapping[str, bytes]) -> FoundModel:
        """A model made of `files`, kept in a directory of its own until `discard`.

        Raises:
            InvalidArgument: a file's name leads elsewhere.
        """

    async def discard(self, found: FoundModel) -> None:
        """Remove the files that came with an `upload`; nothing happens to any others."""

    async def prepare(self, found: FoundModel) -> Prepared:
        """Its configuration and its chosen versions.

        Raises:
            TaxiwayError: as `ModelLoader.prepare`.
        """

    async def load(self, prepared: Prepared, version: int, peers: Peers) -> ServedModel:
        """One version, ready; `peers` are the models that it asks.

        Raises:
            TaxiwayError: as `ModelLoader.load`.
        """

    async def close(self, served: ServedModel) -> None:
        """Free it; it runs nothing any more."""


class LoadingThread:
    """A `ModelLoader` in a thread of its own, and another thread that only looks, so that looking never waits.

    Both end with the process, whatever they are doing.
    """

    def __init__(
        self,
        loader: ModelLoader,
        paths: Sequence[Path],
        loop: asyncio.AbstractEventLoop,
        pipelines: Mapping[str, PipelineSettings] = MappingProxyType({}),
    ) -> None:
        self._loader = loader
        self._paths = paths
        self._pipelines = pipelines
        turns = _ShortTurns()
        self._looking = _Hand("looking", loop, turns)
        self._working = _Hand("loading", loop, turns)

    async def look(self) -> Look:
        """What lies at the paths now."""
        return add_pipelines(await self._looking.do(look_at, self._paths), self._pipelines)

    async def stamp(self, models: Sequence[FoundModel]) -> dict[str, Stamps]:
        """The files of these models, by name; one that cannot be looked at is left out."""
        return await self._looking.do(_stamp_all, models)

    async def upload(self, name: str, config: str, files: Mapping[str, bytes]) -> FoundModel:
        """A model made of `files`, kept in a directory of its own until `discard`."""
        return await self._looking.do(write_upload, name, config, files)

    async def discard(self, found: FoundModel) -> None:
        """Remove the files that came with an `upload`; nothing happens to any others."""
        await self._looking.do(remove_upload, found)

    async def prepare(self, found: FoundModel) -> Prepared:
        """Its configuration and its chosen versions."""
        return await self._working.do(self._loader.prepare, found)

    async def load(self, prepared: Prepared, version: int, peers: Peers) -> ServedModel:
        """One version, ready."""
        return await self._working.do(self._loader.load, prepared, version, peers)

    async def close(self, served: ServedModel) -> None:
        """Free it; it runs nothing any more."""
        await self._working.do(self._loader.close, served)


class _ShortTurns:
    """While a thread works within, others wait for the interpreter's lock at most `_TURN_S`, not ten times that.

    Measured with a model of 20 MB loaded again and again: the 99th percentile of a request's time was half as long.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._usual_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual_s, _TURN_S))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                sys.setswitchinterval(self._usual_s)


class _Hand:
    """A thread that does one thing after the other; it begins with the first."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, turns: _ShortTurns) -> None:
        self._name = name
        self._loop = loop
        self._turns = turns
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, act: Callable[..., T], *words: Any) -> T:  # noqa: ANN401 - whatever `act` takes
        """What `act` returns, or raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: asyncio.Future[T] = self._loop.create_future()

        def work() -> None:
            try:
                with self._turns:
                    settle = partial(_succeed, done, act(*words))
            except BaseException as problem:  # noqa: BLE001 - the boundary of the thread: it is told to who asked
                settle = partial(_fail, done, problem)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(settle)
            del settle  # an exception's frames would hold it, and it the exception

        self._work.put(work)
        return await done

    def _run(self) -> None:
        while True:
            work = self._work.get()
            work()
            del work  # an idle thread must not keep the last model alive


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], problem: BaseException) -> None:
    if not done.done():
        done.set_exception(problem)


def _stamp_all(models: Sequence[FoundModel]) -> dict[str, Stamps]:
    stamped = {}
    for found in models:
        with contextlib.suppress(OSError):
            stamped[found.name] = stamp_model(found)
    return stamped
