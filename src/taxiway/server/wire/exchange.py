"""One request and its one answer on an HTTP connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from taxiway.core.errors import InternalError, Overloaded, TaxiwayError, Unauthenticated, Unavailable
from taxiway.server.wire.status import REASONS

if TYPE_CHECKING:
    from taxiway.server.wire.heads import Head
    from taxiway.server.wire.http1 import HttpConnection

Buffer = bytes | bytearray | memoryview
Headers = Iterable[tuple[str, str]]

_START = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}
_JSON = "application/json"
OK_JSON = _START[200] + b"Content-Type: application/json\r\nContent-Length: "
"""How almost every answer begins: the length and two line ends follow."""


class Exchange:
    """Made when a request is complete; answered exactly once, in the order the requests came.

    Attributes:
        body: the request's body, decompressed; its memory lives as long as somebody holds the exchange.
        arrived_ns: when its last byte was read, on the monotonic clock.
        on_abandoned: called if the client goes away before the answer.
        answer: buffers that wait for the answers of earlier requests of the connection; None until answered.
        reserved_bytes: what admission holds for it: of its body until it is answered, then of an answer that waits.
    """

    __slots__ = ("answer", "arrived_ns", "body", "closes", "connection", "head", "on_abandoned", "reserved_bytes")

    def __init__(
        self, connection: HttpConnection, head: Head, body: Buffer, arrived_ns: int, reserved_bytes: int = 0
    ) -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.arrived_ns = arrived_ns
        self.closes = not head.keep_alive
        self.on_abandoned: Callable[[], Any] | None = None
        self.answer: Sequence[Buffer] | None = None
        self.reserved_bytes = reserved_bytes

    def reply(
        self, status: int, body: Buffer = b"", content_type: str = _JSON, headers: Headers = (), *, codable: bool = True
    ) -> None:
        """Answer with one body, compressed if the caller accepts that and `codable`."""
        if codable:
            self.reply_pieces(status, [body], content_type, headers)
        else:
            self.reply_buffers(status, [body], content_type, headers)

    def reply_pieces(
        self, status: int, buffers: Sequence[Buffer], content_type: str = _JSON, headers: Headers = ()
    ) -> None:
        """Answer with a body in pieces, compressed if the caller accepts that."""
        if self.head.accepts and any(len(buffer) for buffer in buffers):
            self.connection.front.coder.encode(status, buffers, content_type, headers, self)
        else:
            self.reply_buffers(status, buffers, content_type, headers)

    def reply_buffers(
        self, status: int, buffers: Sequence[Buffer], content_type: str = _JSON, headers: Headers = ()
    ) -> None:
        """Answer with a body in pieces, as it is; large pieces are handed to the kernel without copying."""
        length = sum(len(buffer) for buffer in buffers)
        head = self.begin(status, f"Content-Length: {length}\r\n", content_type, headers)
        self.finish([head] if self.head.is_head else [head, *buffers])

    def begin(self, status: int, framing: str, content_type: str, headers: Headers) -> bytes:
        """The head of an answer, which is counted from here on; `framing` is the line that says where its body ends."""
        lines = [f"Content-Type: {content_type}\r\n{framing}" if content_type else framing]
        lines += [f"{name}: {value}\r\n" for name, value in headers]
        if self.closes or (self.connection.front.draining and self.connection.ends_with(self)):
            self.closes = True
            lines.append("Connection: close\r\n")
        start = _START.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()
        self.connection.front.statistics.responded(status)
        return start + "".join(lines).encode("latin-1") + b"\r\n"

    def reply_error(self, error: TaxiwayError, headers: Headers = ()) -> None:
        """Answer with the status and the body that tell `error`."""
        front = self.connection.front
        front.note_error(self, error)
        profile = front.profile
        status = profile.status_of(error)
        if isinstance(error, Overloaded | Unavailable):
            headers = (*headers, ("Retry-After", str(max(1, round(error.retry_after_s)))))
        elif isinstance(error, Unauthenticated):
            headers = (*headers, ("WWW-Authenticate", "Bearer"))
        words = self.head.match.route.words if self.head.match.route is not None else None
        status, body = (status, profile.body_of(error)) if words is None else words(error, status)
        self.reply(status, body, headers=headers, codable=False)

    def reply_bug(self, problem: Exception) -> None:
        """Answer 500 to a defect of ours, which the log tells in full."""
        self.connection.front.report_bug(problem)
        self.reply_error(InternalError("internal error; the server's log has the details"))

    def reply_with(self, work: Coroutine[Any, Any, Buffer], content_type: str = _JSON) -> None:
        """Answer 200 with what `work` gives once it is done, or with its error; a client that goes does not end it."""
        task = self.connection.front.loop.create_task(work)
        self.connection.front.working.add(task)
        task.add_done_callback(partial(self._worked, content_type))

    def _worked(self, content_type: str, task: asyncio.Task[Buffer]) -> None:
        self.connection.front.working.discard(task)
        problem = None if task.cancelled() else task.exception()
        if self.answer is not None or task.cancelled():
            return
        if problem is None:
            self.reply(200, task.result(), content_type)
        elif isinstance(problem, TaxiwayError):
            self.reply_error(problem)
        elif isinstance(problem, Exception):
            self.reply_bug(problem)

    def reply_json(self, body: bytes) -> None:
        """The hot path of `reply(200, body)`."""
        if self.closes or self.head.accepts or self.connection.front.draining:
            self.reply(200, body)
            return
        self.connection.front.statistics.responded(200)
        self.finish((b"%b%d\r\n\r\n%b" % (OK_JSON, len(body), body),))

    def finish(self, buffers: Sequence[Buffer]) -> None:
        """Send the answer now, or as soon as all earlier ones are sent."""
        self.answer = buffers
        self.connection.exchange_answered(self)
