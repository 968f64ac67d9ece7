"""A body that is sent as it comes into being: in chunks over HTTP/1.1, until the connection closes over HTTP/1.0.

What its client has not made room for is held here, and counted like any answer that nobody has read. No more of it is
held than one stream may have (`limits.max_stream_buffer_bytes`): beyond, the client is cut, and only the client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from taxiway.telemetry.logs import Log

if TYPE_CHECKING:
    from taxiway.core.errors import TaxiwayError
    from taxiway.server.wire.exchange import Buffer, Exchange, Headers

_log = Log("taxiway.http")
_CHUNKED = "Transfer-Encoding: chunked\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class StreamedBody:
    """The answer to one exchange, from its head to its end.

    Args:
        fail: ends it by an error, in words that have a place in such a body.

    Attributes:
        status: of its head.
        nbytes: what was given to it so far, head and framing included.
    """

    __slots__ = ("_chunked", "_exchange", "_held", "_held_bytes", "nbytes", "reply_error", "status")

    def __init__(
        self, exchange: Exchange, status: int, content_type: str, headers: Headers, fail: Callable[[TaxiwayError], None]
    ) -> None:
        self._exchange = exchange
        self.reply_error = fail
        self._chunked = exchange.head.takes_chunks
        self._held: deque[Buffer] = deque()
        self._held_bytes = 0
        self.status = status
        self.nbytes = 0
        if not self._chunked:
            exchange.closes = True
        head = exchange.begin(status, _CHUNKED if self._chunked else "", content_type, headers)
        exchange.connection.stream_begun(exchange, self)
        self._give(head)

    def piece(self, data: bytes) -> None:
        """More of it; not empty, which would be its end."""
        self._give(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """All of it is there."""
        last = [_LAST_CHUNK] if self._chunked else []
        self.nbytes += len(_LAST_CHUNK) * len(last)
        self._exchange.connection.stream_over(self._exchange, [*self._held, *last])

    def flow(self) -> None:
        """It is its turn, and the client has read: send what is held."""
        connection = self._exchange.connection
        while self._held and connection.may_send(self._exchange):
            data = self._held.popleft()
            self._count(-len(data))
            connection.transport.write(data)

    def release(self) -> None:
        """It is over, or nobody reads it any more: what is held is no longer counted here."""
        self._count(-self._held_bytes)

    def _give(self, data: Buffer) -> None:
        connection = self._exchange.connection
        self.nbytes += len(data)
        if not self._held and connection.may_send(self._exchange):
            connection.transport.write(data)
        elif not self._held or self._held_bytes + len(data) <= connection.front.limits.max_stream_buffer_bytes:
            self._held.append(data)
            self._count(len(data))
        elif not connection.transport.is_closing():
            _log.warning(
                "slow_client",
                peer=connection.peer,
                nbytes=self._held_bytes,
                setting="limits.max_stream_buffer_bytes",
                reason="it reads its stream more slowly than the model answers",
            )
            connection.transport.abort()

    def _count(self, nbytes: int) -> None:
        self._held_bytes += nbytes
        self._exchange.connection.front.admission.hold_bytes(nbytes)
