"""GET /v1/stream: one event stream for each page that is open; every one is sent the same bytes.

Bounded in number, and each in what waits for it: who does not read is cut, and connects again for everything anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from taxiway.control.callers import Callers
from taxiway.control.entrance import LASTS
from taxiway.control.http_port import ABORT
from taxiway.core.errors import Overloaded

MAX_STREAMS: Final = 64
MAX_WAITING: Final = 10
"""Frames that wait for one reader: so many seconds."""
_RETRY: Final = b"retry: 1000\n\n"


class Stream:
    """One reader: what waits for it."""

    def __init__(self, first: bytes) -> None:
        self._waiting = deque([_RETRY + first])
        self._news = asyncio.Event()
        self._news.set()
        self.over = asyncio.Event()
        self.slow = False

    def offer(self, frame: bytes) -> None:
        """Send this next; a reader for whom too much waits is given up."""
        if len(self._waiting) >= MAX_WAITING:
            self.slow = True
            self.over.set()
        else:
            self._waiting.append(frame)
        self._news.set()

    def end(self) -> None:
        """Send what waits, and no more."""
        self.over.set()
        self._news.set()

    async def next(self) -> bytes | None:
        """What to send next; None: nothing more."""
        while not self._waiting:
            if self.over.is_set():
                return None
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


class Streams:
    """All of them.

    Args:
        prepare: waited for before somebody begins to read.
        full: asked for a frame that tells everything, for one who begins to read.
    """

    def __init__(self, prepare: Callable[[], Awaitable[None]], full: Callable[[], bytes]) -> None:
        self.prepare = prepare
        self._full = full
        self._open: set[Stream] = set()
        self.cut = 0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> Stream:
        """One more reader.

        Raises:
            Overloaded: there are as many as may be.
        """
        if len(self._open) >= MAX_STREAMS:
            raise Overloaded(f"{MAX_STREAMS} pages read the stream already", hint="close one", retry_after_s=5.0)
        stream = Stream(self._full())
        self._open.add(stream)
        return stream

    def leave(self, stream: Stream) -> None:
        """One reader less."""
        self._open.discard(stream)

    def tell(self, frame: bytes) -> None:
        """Send a frame to everybody."""
        for stream in tuple(self._open):
            stream.offer(frame)
            if stream.slow:
                self.cut += 1
                self._open.discard(stream)

    def close(self) -> None:
        """End all of them."""
        for stream in tuple(self._open):
            stream.end()
        self._open.clear()


def stream_routes(callers: Callers, streams: Streams) -> list[BaseRoute]:
    """The one."""

    async def read(request: Request) -> Response:
        callers.check(request, "read", None)
        await streams.prepare()
        return _StreamResponse(streams)

    return [Route("/v1/stream", read, methods=["GET"])]


class _StreamResponse(Response):
    """Sends until the reader is gone, too slow, or told that it is over."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._stream = streams.begin()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = self._stream
        doing = [asyncio.ensure_future(one) for one in (self._send(send), _gone(receive), _cut(stream))]
        try:
            scope[LASTS]()
            await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.leave(stream)
            for task in doing:
                task.cancel()
            if stream.slow:
                scope[ABORT]()

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while (frame := await self._stream.next()) is not None:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    """When the reader is."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cut(stream: Stream) -> None:
    """When it is given up; one that is told to end is sent the rest."""
    await stream.over.wait()
    if not stream.slow:
        await asyncio.Event().wait()
