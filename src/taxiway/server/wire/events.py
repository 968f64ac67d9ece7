"""Answers that come one by one, each an event of one HTTP body: server-sent events, or JSON objects a line each.

What goes wrong before the first answer has a status of its own; later it is an event among the others.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from taxiway.core.errors import TaxiwayError
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.streamed import StreamedBody


class EventForm(NamedTuple):
    """How events are told apart. A JSON document has no line ends, so that nothing in it needs care."""

    content_type: str
    before: bytes
    after: bytes

    def of(self, document: bytes) -> bytes:
        """One event."""
        return b"%b%b%b" % (self.before, document, self.after)


SSE: Final = EventForm("text/event-stream; charset=utf-8", b"data: ", b"\n\n")
NDJSON: Final = EventForm("application/x-ndjson", b"", b"\n")
_LIVE: Final = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
"""Whoever passes it on should not collect it first (the second is nginx's own word)."""


def form_wanted(exchange: Exchange) -> EventForm:
    """What the caller accepts: lines if it names them, else server-sent events."""
    accepted = exchange.head.headers.get(b"accept", b"").lower()
    return NDJSON if b"application/x-ndjson" in accepted or b"application/ndjson" in accepted else SSE


class EventStream:
    """The answers to one request."""

    __slots__ = ("_begun", "_error", "_exchange", "_form")

    def __init__(self, exchange: Exchange, form: EventForm) -> None:
        self._exchange = exchange
        self._form = form
        self._begun: StreamedBody | None = None
        self._error: TaxiwayError | None = None
        """Came in place of the first answer: its status is known once it is known whether any answer follows."""

    def tell(self, document: bytes) -> None:
        """One answer; more follow, or the end."""
        self._body().piece(self._form.of(document))

    def tell_error(self, error: TaxiwayError) -> None:
        """An error in the place of one answer; more follow, or the end."""
        if self._begun is None and self._error is None:
            self._error = error
        else:
            self._body().piece(self._error_event(error))

    def end(self, document: bytes | None = None) -> None:
        """The last answer, or that there is no further one."""
        if self._begun is None and self._error is None:
            self._exchange.reply(
                200, b"" if document is None else self._form.of(document), self._form.content_type, codable=False
            )
        elif self._begun is None and self._error is not None and document is None:
            self._exchange.reply_error(self._error)
        else:
            if document is not None:
                self.tell(document)
            self._body().end()

    def fail(self, error: TaxiwayError) -> None:
        """There is no further answer, and this is why."""
        if self._begun is None and self._error is None:
            self._exchange.reply_error(error)
        else:
            self._body().piece(self._error_event(error))
            self._body().end()

    def _body(self) -> StreamedBody:
        """What is sent; it begins with the first event."""
        if self._begun is None:
            self._begun = self._begin(200)
            if self._error is not None:
                self._begun.piece(self._error_event(self._error))
        return self._begun

    def _begin(self, status: int) -> StreamedBody:
        return StreamedBody(self._exchange, status, self._form.content_type, _LIVE, self.fail)

    def _error_event(self, error: TaxiwayError) -> bytes:
        front = self._exchange.connection.front
        front.note_error(self._exchange, error)
        return self._form.of(front.profile.body_of(error))


class TritonEventStream(EventStream):
    """As Triton's: an error in the first place is an event too, the status 400, and answers may follow."""

    __slots__ = ()

    def tell_error(self, error: TaxiwayError) -> None:
        """An error in the place of one answer; more follow, or the end."""
        if self._begun is None:
            self._begun = self._begin(400)
        self._begun.piece(self._error_event(error))

    def fail(self, error: TaxiwayError) -> None:
        """There is no further answer, and this is why."""
        self.tell_error(error)
        self.end()
