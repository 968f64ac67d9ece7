"""HTTP/1.1 on a socket: framing, pipelining, limits, and time limits for slow senders and slow readers.

A connection owns the bytes it reads until a request is complete; then an `Exchange` owns them. Bodies that do not come
in one piece are read by the kernel straight into the memory the tensors will use (`bodies.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

from taxiway.core.errors import (
    HeaderTooLarge,
    MalformedHttp,
    Overloaded,
    RequestTimeout,
    TaxiwayError,
    TooLarge,
)
from taxiway.server.wire.bodies import BodyFiller, ChunkedBody, FixedBody
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.heads import Head, check_beginning
from taxiway.server.wire.routes import Match
from taxiway.telemetry.logs import Log

if TYPE_CHECKING:
    from taxiway.server.wire.exchange import Buffer
    from taxiway.server.wire.front import HttpFront
    from taxiway.server.wire.streamed import StreamedBody

_log = Log("taxiway.http")

_END_OF_HEAD = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DIRECT_BODY_BYTES = 65_536
"""Bodies with at least this much outstanding are read straight into their own memory."""
_LINGER_S = 2.0
"""How long a refused sender may go on before the connection is cut: closing at once could lose the answer."""
_FAREWELL_S = 0.5
"""The same when the server ends: a request that was on its way when we closed shall find a socket that is not reset."""
_FIRST_REQUEST_S = 1.0
"""How long a connection on which nothing was asked yet stays open when the server ends."""


class HttpConnection(asyncio.Protocol):
    """One client's connection. Every callback runs on the event loop."""

    __slots__ = (
        "_body",
        "_deaf",
        "_filler",
        "_finished",
        "_head",
        "_in_head",
        "_made_ns",
        "_paused_since_ns",
        "_pending",
        "_phase_since_ns",
        "_reading_stopped",
        "_resuming",
        "_streams",
        "_timer",
        "_unsent",
        "_unsent_at_pause",
        "_writing_paused",
        "front",
        "transport",
        "waiting",
    )

    def __init__(self, front: HttpFront) -> None:
        self.front = front
        self.waiting: deque[Exchange] = deque()
        """Requests not answered yet, oldest first."""
        self._streams: dict[Exchange, StreamedBody] = {}
        """Answers of those that have begun and have no end yet."""
        self._pending = b""
        self._head: Head | None = None
        self._body: FixedBody | ChunkedBody | None = None
        self._filler: BodyFiller | None = None
        self._in_head = False
        self._deaf = False
        """No further request is taken: what still comes is read and dropped."""
        self._finished = False
        """All answers are sent; the client is given a moment to read them."""
        self._reading_stopped = False
        self._resuming = False
        self._writing_paused = False
        self._unsent = self._unsent_at_pause = 0
        """Bytes of answers that the transport holds while writing is paused: now, as admission knows, and at first."""
        self._paused_since_ns = 0
        self._made_ns = self._phase_since_ns = monotonic_ns()
        self._timer: asyncio.TimerHandle | None = None

    # --- the transport's callbacks --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it in, or answer 503 at once if there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        if self.front.admit_connection(self):
            self._watch(self.front.limits.header_timeout_s)
        else:
            error = Overloaded("too many connections", hint="limits.max_connections bounds them")
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason, the client is gone
        """Whatever was still queued for this client costs no execution any more."""
        self.front.connection_gone(self)
        if self._timer is not None:
            self._timer.cancel()
        self._count_unsent(0)
        if self._body is not None:
            self.front.admission.release_bytes(self._body.reserved_bytes)
            self._body = None
        self._abandon_waiting()

    def eof_received(self) -> bool:
        """The client hung up (or stopped sending, which looks the same): what it asked must not cost execution."""
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly: take nothing more from it, and send it nothing more, until it has read."""
        self._writing_paused = True
        self._paused_since_ns = monotonic_ns()
        self._unsent_at_pause = self.transport.get_write_buffer_size()
        self._count_unsent(self._unsent_at_pause)
        self._stop_reading()
        self._enter_phase(self.front.limits.write_timeout_s)

    def resume_writing(self) -> None:
        """The client has read. The pause was ours: whatever it was sending gets its time anew."""
        self._writing_paused = False
        self._count_unsent(0)
        self._phase_since_ns = monotonic_ns()
        self._send_answers()
        if not self._writing_paused:
            self._check_time()
            self._go_on()

    def data_received(self, data: bytes) -> None:
        """Take in what came: zero, one or several requests, whole or in part."""
        if self._deaf:
            return
        if self._pending:
            data = self._pending + data
            self._pending = b""
        self._take(data)

    # --- reading --------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        position = 0
        size = len(data)
        try:
            while position < size:
                if self._writing_paused or len(self.waiting) >= self.front.limits.max_pipelined:
                    self._stop_reading()
                    break
                if self._body is not None:
                    position = self._feed_body(data, position)
                else:
                    taken = self._take_request(data, position)
                    if taken < 0:
                        break
                    position = taken
                if self._deaf:
                    return
        except TaxiwayError as error:
            self._refuse(error)
            return
        self._pending = data[position:] if position else data
        if self._pending and self._body is None and not self._reading_stopped and not self._in_head:
            self._in_head = True
            self._enter_phase(self.front.limits.header_timeout_s)

    def _take_request(self, data: bytes, position: int) -> int:
        """Read one head at `position`, and its body if it is all there; -1 if the head is not complete."""
        end = data.find(_END_OF_HEAD, position)
        limit = self.front.limits.max_header_bytes
        if not 0 < end - position <= limit:
            return self._skip_blank_lines(data, position)
        start = position
        position = end + 4
        head = self.front.heads.read(data[start:position])
        length = head.content_length
        if length == 0:
            self._begin(head, b"")
        elif 0 < length <= len(data) - position and length <= self._body_limit(head.match):
            self._begin(head, data[position : position + length])
            position += length
        else:
            self._await_body(head, len(data) - position)
        return position

    def _skip_blank_lines(self, data: bytes, position: int) -> int:
        """RFC 9112 2.2: ignore empty lines before a request line; -1 if there are none, only part of a head.

        Raises:
            HeaderTooLarge, MalformedHttp: no head can begin like this, so the rest of it is not waited for.
        """
        skipped = position
        while data.startswith(b"\r\n", skipped):
            skipped += 2
        if skipped > position:
            return skipped
        limit = self.front.limits.max_header_bytes
        if len(data) - position > limit:
            raise HeaderTooLarge(
                f"the request's head is over {limit} bytes", hint="limits.max_header_bytes bounds it", limit=limit
            )
        check_beginning(data, position)
        return -1

    def _body_limit(self, match: Match) -> int:
        limit = match.route.body_limit if match.route is not None else None
        return self.front.limits.max_body_bytes if limit is None else limit

    def _await_body(self, head: Head, at_hand: int) -> None:
        """The body is not here yet: check that it may come, and make room for it."""
        self._head = head
        if head.refusal is not None:
            raise head.refusal
        limits = self.front.limits
        limit = self._body_limit(head.match)
        if head.content_length > limit:
            raise TooLarge(
                f"the request's body is {head.content_length} bytes; at most {limit} are taken",
                hint="limits.max_body_bytes bounds it",
                limit=limit,
            )
        self.front.admission.check_open()
        if head.content_length < 0:
            self._body = ChunkedBody(limit, limits.max_chunks)
        else:
            self._body = FixedBody(head.content_length, head.json_length or 0)
        self._in_head = False
        if head.expects_continue and at_hand == 0 and not self.waiting:
            self.transport.write(_CONTINUE)
        self._enter_phase(min(limits.body_timeout_s, limits.header_timeout_s))

    def _feed_body(self, data: bytes, position: int) -> int:
        body = self._body
        assert body is not None  # noqa: S101 - only called while one is awaited
        before = position
        position = body.feed(data, position)
        self._reserve(body, position - before)
        if body.done:
            self._body_complete()
        elif isinstance(body, FixedBody) and body.missing >= _DIRECT_BODY_BYTES:
            self._filler = BodyFiller(self)
            self._switch_to(self._filler)
        return position

    def _reserve(self, body: FixedBody | ChunkedBody, count: int) -> None:
        self.front.admission.reserve_bytes(count)
        body.reserved_bytes += count

    def body_space(self) -> memoryview:
        """Where the rest of the body that is awaited goes."""
        return self._awaited_body().space()

    def filler_read(self, count: int) -> None:
        """`count` bytes of the body were read straight into its memory."""
        body = self._awaited_body()
        body.advance(count)
        try:
            self._reserve(body, count)
        except TaxiwayError as error:
            self._refuse(error)
            return
        if body.done:
            self._switch_to(self)
            self._body_complete()

    def _awaited_body(self) -> FixedBody:
        assert isinstance(self._body, FixedBody)  # noqa: S101 - a filler stands in only while one is awaited
        return self._body

    def _switch_to(self, protocol: asyncio.BaseProtocol) -> None:
        """Uvloop chooses how to read when reading starts, so stop and start around the change."""
        self.transport.pause_reading()
        self.transport.set_protocol(protocol)
        if not self._reading_stopped:
            self.transport.resume_reading()

    def _body_complete(self) -> None:
        head, body = self._head, self._body
        assert head is not None  # noqa: S101
        assert body is not None  # noqa: S101
        self._head = self._body = self._filler = None
        self._watch(self.front.limits.idle_timeout_s)
        self._begin(head, body.content(), body.reserved_bytes)

    def _begin(self, head: Head, body: bytes | memoryview, reserved_bytes: int = 0) -> None:
        """A request is complete: hand it to its endpoint. What is reserved for its body is the exchange's now."""
        now = monotonic_ns()
        self._phase_since_ns = now
        self._in_head = False
        exchange = Exchange(self, head, body, now, reserved_bytes)
        self.waiting.append(exchange)
        if not head.keep_alive:
            self._deaf = True
        try:
            if head.encodings and head.match.decodes:
                self.front.coder.decode(exchange, head.match.handler)
            else:
                head.match.handler(exchange)
        except TaxiwayError as error:
            exchange.reply_error(error)
        except Exception as problem:  # noqa: BLE001 - the boundary: a bug answers 500, and the server lives
            exchange.reply_bug(problem)

    # --- writing --------------------------------------------------------------------------------------

    def exchange_answered(self, exchange: Exchange) -> None:
        """Send every answer whose turn has come."""
        waiting = self.waiting
        if exchange.reserved_bytes:
            self.front.admission.release_bytes(exchange.reserved_bytes)
            exchange.reserved_bytes = 0
        if not waiting or waiting[0] is not exchange or self._writing_paused:
            self._keep_answer(exchange)
        else:
            self._send_answers()

    def _keep_answer(self, exchange: Exchange) -> None:
        """Its turn has not come, or the client has not read enough: it is held, and counted like a body."""
        if exchange in self.waiting and exchange.answer is not None:
            exchange.reserved_bytes = sum(len(buffer) for buffer in exchange.answer)
            self.front.admission.hold_bytes(exchange.reserved_bytes)

    def _send_answers(self) -> None:
        waiting = self.waiting
        transport = self.transport
        while waiting and (answer := waiting[0].answer) is not None and not self._writing_paused:
            sent = waiting.popleft()
            if sent.reserved_bytes:
                self.front.admission.release_bytes(sent.reserved_bytes)
                sent.reserved_bytes = 0
            if len(answer) == 1:
                transport.write(answer[0])
            else:
                transport.writelines(answer)
            if sent.closes:
                self._close()
                return
        if self._streams and waiting and (stream := self._streams.get(waiting[0])) is not None:
            stream.flow()
        if self._reading_stopped and not self._writing_paused:
            self._go_on()

    # --- answers that are sent as they come into being ----------------------------------------------------

    def stream_begun(self, exchange: Exchange, body: StreamedBody) -> None:
        """The answer to `exchange` has begun; from now on it is `body` that sends it, in its turn."""
        if exchange in self.waiting:  # else its client has gone, and nothing of it is sent
            self._streams[exchange] = body
            self.front.statistics.open_streams += 1

    def stream_over(self, exchange: Exchange, rest: Sequence[Buffer]) -> None:
        """It has ended; `rest` is what is still to be sent of it."""
        self._forget_stream(exchange)
        exchange.answer = rest
        HttpConnection.exchange_answered(self, exchange)  # what a subclass tells of answers, it tells of this one here

    def stream_of(self, exchange: Exchange) -> StreamedBody | None:
        """The answer to `exchange`, if it has begun and not ended."""
        return self._streams.get(exchange)

    def may_send(self, exchange: Exchange) -> bool:
        """Whether it is the turn of `exchange`, and the client has read enough of what it was sent."""
        return not self._writing_paused and bool(self.waiting) and self.waiting[0] is exchange

    def _forget_stream(self, exchange: Exchange) -> None:
        if (body := self._streams.pop(exchange, None)) is not None:
            body.release()
            self.front.statistics.open_streams -= 1

    def _go_on(self) -> None:
        """Take up what was left while answers were owed or unread, in a turn of its own: callers are in one."""
        if self._reading_stopped and not self._resuming:
            self._resuming = True
            self.front.loop.call_soon(self._resume)

    def _resume(self) -> None:
        """What was kept back comes first; only then is the socket read again."""
        self._resuming = False
        if self._writing_paused or self.transport.is_closing():
            return
        self._reading_stopped = False
        data, self._pending = self._pending, b""
        if not self._deaf:
            self._take(data)
        if not self._reading_stopped:
            self.transport.resume_reading()

    def _stop_reading(self) -> None:
        if not self._reading_stopped:
            self._reading_stopped = True
            self.transport.pause_reading()

    def _refuse(self, error: TaxiwayError) -> None:
        """The connection cannot be understood, or must not go on: answer, and close after what is owed."""
        exchange = Exchange(self, _without_body(self._head), b"", monotonic_ns())
        if self._filler is not None:
            self._switch_to(self)
        if self._body is not None:
            self.front.admission.release_bytes(self._body.reserved_bytes)
        self._body = self._head = self._filler = None
        self._pending = b""
        self._deaf = True
        self.waiting.append(exchange)
        exchange.reply_error(error)

    def _close(self) -> None:
        """Say that no more comes, and let the client finish reading before the connection goes.

        Closing at once, with bytes of the client unread, would make the kernel drop what we sent.
        """
        self._abandon_waiting()
        self._deaf = self._finished = True
        if self.transport.is_closing():
            return
        if not self._writing_paused:
            self._reading_stopped = False
            self.transport.resume_reading()
            self._enter_phase(self._linger_s)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    @property
    def _linger_s(self) -> float:
        return _FAREWELL_S if self.front.draining else _LINGER_S

    def _hang_up(self) -> None:
        """Close; what the client has still not read after the usual time is dropped."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._set_timer(self.front.limits.write_timeout_s, self._cut)

    def _cut(self) -> None:
        """Drop what the client does not read, and the client."""
        _log.warning("slow_client", peer=self.peer, nbytes=self.transport.get_write_buffer_size(), reason="unread")
        self.transport.abort()

    def _count_unsent(self, nbytes: int) -> None:
        """What the transport holds for a slow reader counts against limits.max_buffered_bytes until it is gone."""
        self.front.admission.hold_bytes(nbytes - self._unsent)
        self._unsent = nbytes

    def _abandon_waiting(self) -> None:
        for exchange in self.waiting:
            self._forget_stream(exchange)
            self.front.admission.release_bytes(exchange.reserved_bytes)
            exchange.reserved_bytes = 0
            if exchange.on_abandoned is not None:
                exchange.on_abandoned()
        self.waiting.clear()

    def shut(self) -> None:
        """The server stops: close now if idle, else after the answers that are owed, or are about to be.

        A client may ask again on another connection what it asked on a used one that was closed without a word
        (RFC 9112, 9.3.1), but not what it asked on a new one: a new one gets time for its first request.
        """
        if self._finished or self._body is not None:
            return
        if self.waiting:
            self.waiting[-1].closes = self._deaf = True
        elif self._phase_since_ns == self._made_ns and not self._deaf:
            self._set_timer(_FIRST_REQUEST_S, self._shut_unused)
        elif not self._pending:
            self._close()

    def _shut_unused(self) -> None:
        if self.waiting or self._pending or self._body is not None:
            self._check_time()  # a request did come; its answer closes the connection
        else:
            self._close()

    def give_up(self, error: TaxiwayError) -> None:
        """The server waits no longer: whatever is not answered yet is answered by `error`."""
        for exchange in tuple(self.waiting):
            if exchange.answer is None:
                abandon, exchange.on_abandoned = exchange.on_abandoned, None
                if abandon is not None:
                    abandon()
                (self._streams.get(exchange) or exchange).reply_error(error)

    @property
    def peer(self) -> str:
        """The other side's address, for the log."""
        return peer_of(self.transport)

    def ends_with(self, exchange: Exchange) -> bool:
        """Whether `exchange` is the last that was begun."""
        return self._body is None and bool(self.waiting) and self.waiting[-1] is exchange

    # --- time -----------------------------------------------------------------------------------------

    def _enter_phase(self, seconds: float) -> None:
        self._phase_since_ns = monotonic_ns()
        self._watch(seconds)

    def _watch(self, seconds: float) -> None:
        self._set_timer(seconds, self._check_time)

    def _set_timer(self, seconds: float, callback: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.front.loop.call_later(seconds, callback)  # type: ignore[arg-type]

    def _check_time(self) -> None:
        """The timer runs lazily: kept-alive requests only note the time, and this finds out who is late."""
        limits = self.front.limits
        elapsed = (monotonic_ns() - self._phase_since_ns) / 1e9
        if self._writing_paused:
            self._check_reader(elapsed)
        elif self._finished:
            self._hang_up_if(elapsed, self._linger_s)
        elif self._body is not None:
            self._check_body_time(self._body, elapsed)
        elif self.waiting:
            if not self._in_head:
                self._phase_since_ns = monotonic_ns()
            self._watch(limits.header_timeout_s)
        elif self._pending:
            self._late_if(elapsed, limits.header_timeout_s, "head", "limits.header_timeout_s")
        else:
            self._hang_up_if(elapsed, limits.idle_timeout_s)

    def _hang_up_if(self, elapsed: float, limit: float) -> None:
        if elapsed >= limit:
            self._hang_up()
        else:
            self._watch(limit - elapsed + 0.001)

    def _check_reader(self, elapsed: float) -> None:
        """Cut off who has read nothing for so long, or reads below the minimum rate; a long answer may take long."""
        limits = self.front.limits
        limit = limits.write_timeout_s
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._count_unsent(unsent)
            self._phase_since_ns = monotonic_ns()
            elapsed = 0.0
        paused_s = (monotonic_ns() - self._paused_since_ns) / 1e9
        due = limits.min_body_rate_bytes_s * (paused_s - limit)
        if elapsed >= limit or self._unsent_at_pause - unsent < due:
            self._cut()
        else:
            self._watch(limit - elapsed + 0.001)

    def _check_body_time(self, body: FixedBody | ChunkedBody, elapsed: float) -> None:
        limits = self.front.limits
        if body.received < limits.min_body_rate_bytes_s * (elapsed - limits.header_timeout_s):
            self._late_if(elapsed, 0.0, "body", "limits.min_body_rate_bytes_s")
        else:
            self._late_if(elapsed, limits.body_timeout_s, "body", "limits.body_timeout_s")

    def _late_if(self, elapsed: float, limit: float, part: str, key: str) -> None:
        if elapsed < limit:
            self._watch(min(limit - elapsed, self.front.limits.header_timeout_s, 5.0) + 0.001)
            return
        _log.warning("slow_client", peer=self.peer, status=408, setting=key, reason=f"its {part} did not come in time")
        self._refuse(RequestTimeout(f"the request's {part} did not come in time", hint=f"{key} bounds it"))


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The other side's address: `host:port`, or `unix` for a Unix socket."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return "unknown" if name is None else "unix"


def _without_body(asked: Head | None) -> Head:
    """The head of what is refused before it is complete, as far as it is known: for the answer and the log."""
    if asked is None:
        return Head(Match(_no_handler, {}, unkept=True), {}, keep_alive=False)
    match = Match(_no_handler, asked.match.params, asked.match.route, unkept=True)  # the route has words of its own
    head = Head(match, asked.headers, keep_alive=False)
    head.method, head.path, head.caller = asked.method, asked.path, asked.caller
    return head


def _no_handler(_exchange: Exchange) -> None:
    raise MalformedHttp("no request")
