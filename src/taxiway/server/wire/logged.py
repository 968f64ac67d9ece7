"""A connection whose every request leaves a line in the access log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taxiway.server.access import AccessLog
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.http1 import HttpConnection, peer_of

if TYPE_CHECKING:
    from taxiway.server.wire.exchange import Buffer
    from taxiway.server.wire.front import HttpFront

_GONE = 499
"""What is written for a client that went before it was answered, as nginx does."""


class LoggedConnection(HttpConnection):
    """As `HttpConnection`; slower by the line."""

    __slots__ = ("_access", "_certificate", "_peer")

    def __init__(self, front: HttpFront, access: AccessLog) -> None:
        super().__init__(front)
        self._access = access
        self._peer = self._certificate = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Who it is does not change from request to request."""
        self._peer = peer_of(transport)
        self._certificate = _common_name(transport.get_extra_info("peercert"))
        super().connection_made(transport)

    def exchange_answered(self, exchange: Exchange) -> None:
        """Tell of it, unless its client is gone and was told of."""
        answer = exchange.answer
        if answer and exchange in self.waiting:
            self._tell(exchange, int(bytes(answer[0][9:12])), sum(len(buffer) for buffer in answer))
        super().exchange_answered(exchange)

    def stream_over(self, exchange: Exchange, rest: Sequence[Buffer]) -> None:
        """Tell of an answer that was sent as it came into being, now that all of it is known."""
        body = self.stream_of(exchange)
        if body is not None and exchange in self.waiting:
            self._tell(exchange, body.status, body.nbytes)
        super().stream_over(exchange, rest)

    def _abandon_waiting(self) -> None:
        for exchange in self.waiting:
            if exchange.answer is None:
                body = self.stream_of(exchange)
                self._tell(exchange, _GONE, 0 if body is None else body.nbytes)
        super()._abandon_waiting()

    def _tell(self, exchange: Exchange, status: int, bytes_out: int) -> None:
        """`bytes_in` is the body as it came, `bytes_out` the answer with its head."""
        head = exchange.head
        params = head.match.params
        self._access.tell(
            exchange.arrived_ns,
            head.headers.get(b"traceparent", b"").decode("latin-1"),
            peer=self._peer,
            caller=head.caller or self._certificate,
            method=head.method,
            path=head.path,
            status=status,
            bytes_in=head.content_length if head.content_length >= 0 else len(exchange.body),
            bytes_out=bytes_out,
            model=params.get("model") or "",
            version=params.get("version") or "",
            request_id=head.headers.get(b"x-request-id", b"").decode("latin-1"),
        )


def _common_name(certificate: dict[str, Any] | None) -> str:
    """The last common name of a client certificate, as Python's `ssl` tells one; empty if there is none."""
    names = [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"]
    return str(names[-1]) if names else ""
