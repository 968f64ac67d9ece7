"""One kept-alive HTTP/1.1 connection that carries one request at a time, and tells when its answer is there."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

import httptools

from taxiway.profile.generating.events import EventReader
from taxiway.profile.samples import DISCONNECTED, NOT_HTTP, NOT_WANTED, OK

_EXAMPLE_BYTES: Final = 300


class Answered(Protocol):
    """Who is told of answers."""

    def answered(self, lane: Lane, ending: int) -> None:
        """The lane's request ended so; the lane is free unless `lane.open` is False."""

    def closed(self, lane: Lane) -> None:
        """The lane, which carried nothing, is gone."""


class Lane(asyncio.Protocol):
    """A connection.

    Attributes:
        open: whether another request can be sent on it.
        due, sent: of the request that it carries, by the monotonic clock.
        number: of that request.
        events: what is read of an answer that is a stream of events; None if it is none.
        said: the beginning of the body of an answer that is not a success, or the event that told of an error.
    """

    __slots__ = (
        "_busy",
        "_ended",
        "_keeps",
        "_owner",
        "_parser",
        "_transport",
        "due",
        "events",
        "number",
        "open",
        "said",
        "sent",
    )

    def __init__(self, owner: Answered, events: EventReader | None) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(_Listener(self))
        self._busy = False
        self._ended = False
        self._keeps = True
        self.events = events
        self.open = False
        self.due = 0.0
        self.sent = 0.0
        self.number = 0
        self.said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none, but have its methods
        self.open = True

    def send(self, wire: bytes) -> None:
        """Write a request; there is none under way."""
        self._busy = True
        if self.events is not None:
            self.events.begin()
        cast("asyncio.Transport", self._transport).write(wire)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; the answer may be complete."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.said = f"{error}: {data[:80]!r}".encode()
            self.close()
            self._end(NOT_HTTP)
            return
        if self._ended:
            self._ended = False
            if not self._keeps:
                self.close()
            self._end(self._ending())

    def complete(self) -> None:
        """The parser has seen the end of an answer."""
        self._ended = True
        self._keeps = self._parser.should_keep_alive()

    def body(self, data: bytes) -> None:
        """A part of the body; only what is no success is kept, for whoever looks for the reason."""
        if self._parser.get_status_code() >= 300 and len(self.said) < _EXAMPLE_BYTES:
            self.said += data[:_EXAMPLE_BYTES]
        elif self.events is not None:
            self.events.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server, or we ourselves, closed it."""
        self.open = False
        if self._busy:
            self.said = str(exc or "the server closed the connection").encode()
            self._end(DISCONNECTED)
        else:
            self._owner.closed(self)

    def close(self) -> None:
        """Close it at once; what it carried is not told of."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self._busy = False
        self.close()

    def _ending(self) -> int:
        """Of an answer that is complete: its status was sent before its events, which may tell of an error."""
        status = self._parser.get_status_code()
        if not 200 <= status < 300:
            return status
        if self.events is not None and self.events.problem:
            self.said = self.events.problem
            return NOT_WANTED
        return OK

    def _end(self, ending: int) -> None:
        if self._busy:
            self._busy = False
            self._owner.answered(self, ending)


class _Listener:
    """What httptools calls: only what is asked for, because each call costs."""

    __slots__ = ("on_body", "on_message_complete")

    def __init__(self, lane: Lane) -> None:
        self.on_message_complete = lane.complete
        self.on_body = lane.body
