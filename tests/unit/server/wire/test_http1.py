"""A connection's ends, on a transport that a test can look into: what system tests cannot bring about at will."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from taxiway.config.settings import LimitSettings
from taxiway.core.errors import Overloaded, Unavailable
from taxiway.server.admission import Admission
from taxiway.server.totals import ServerStatistics
from taxiway.server.wire import http1
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.front import HttpFront
from taxiway.server.wire.http1 import HttpConnection
from taxiway.server.wire.routes import Route, RouteTable
from taxiway.server.wire.status import STRICT

ASK = b"GET /ask HTTP/1.1\r\nHost: h\r\n\r\n"


class Transport(asyncio.Transport):
    """Remembers what it was told; `unsent` is what the client has not read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.reading = True
        self.ended = False
        self.closing = False
        self.aborted = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.aborted.set()


class Room:
    """A front with one route that keeps its exchanges, and a connection to it."""

    def __init__(self, **limits: Any) -> None:
        self.asked: list[Exchange] = []
        self.admission = Admission(10, 1 << 30)
        self.front = HttpFront(
            loop=asyncio.get_running_loop(),
            routes=RouteTable([Route(method, "/ask", self.asked.append, "") for method in ("GET", "POST")]),
            limits=LimitSettings(**limits),
            profile=STRICT,
            admission=self.admission,
            statistics=ServerStatistics(lambda: (0, 0, 0)),
            report_bug=_fail,
        )
        self.transport = Transport()
        self.connection = HttpConnection(self.front)
        self.connection.connection_made(self.transport)

    def ask_once(self) -> None:
        """A request, and its answer."""
        self.connection.data_received(ASK)
        self.asked.pop().reply(200)

    def end(self) -> tuple[bool, bool]:
        """Whether it was said that no more comes, and whether the connection was closed."""
        return self.transport.ended, self.transport.closing

    def state(self) -> tuple[int, bool]:
        """How many requests were taken, and whether more is read."""
        return len(self.asked), self.transport.reading


def _fail(problem: BaseException) -> None:
    raise problem


def _run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_an_answer_that_nobody_reads_does_not_keep_a_closed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too small for the transport to complain of, so only the clock can tell."""
    monkeypatch.setattr(http1, "_LINGER_S", 0.01)

    async def scenario() -> None:
        room = Room(write_timeout_s=0.01)
        room.ask_once()
        room.transport.unsent = 10
        room.connection.shut()
        assert room.transport.ended
        await room.transport.aborted.wait()

    _run(scenario)


def test_answers_owed_at_the_end_are_all_sent_and_only_the_last_says_goodbye() -> None:
    async def scenario() -> None:
        room = Room()
        room.connection.data_received(ASK * 3)
        first, second, third = room.asked
        room.front.draining = True
        room.connection.shut()
        assert not room.transport.closing
        third.reply(200, b"3")
        first.reply(200, b"1")
        room.connection.data_received(ASK)  # too late
        second.reply_json(b"2")
        assert [part[-1:] for part in room.transport.written.split(b"HTTP/1.1 200 OK")[1:]] == [b"1", b"2", b"3"]
        assert room.transport.written.count(b"Connection: close") == 1
        assert room.transport.ended
        assert len(room.asked) == 3
        room.connection.connection_lost(None)

    _run(scenario)


def test_a_used_connection_that_is_idle_at_the_end_is_closed_and_read_on_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that was on its way meets no reset: its client sees a used connection end, and asks elsewhere."""
    monkeypatch.setattr(http1, "_FAREWELL_S", 0.01)

    async def scenario() -> None:
        room = Room()
        room.ask_once()
        room.front.retire()
        room.connection.shut()
        assert room.end() == (True, False)
        room.connection.data_received(ASK)
        assert room.asked == []
        while not room.end()[1]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        room.connection.connection_lost(None)

    _run(scenario)


def test_a_connection_that_is_new_at_the_end_gets_time_for_its_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "_FIRST_REQUEST_S", 0.01)

    async def scenario() -> None:
        for asks in (True, False):
            room = Room()
            room.front.retire()
            room.connection.shut()
            assert room.end() == (False, False)
            if asks:
                room.connection.data_received(ASK[:7])
                await asyncio.sleep(0.03)
                room.connection.data_received(ASK[7:])
                room.asked[0].reply(200)
                assert b"Connection: close" in room.transport.written
            while not room.end()[0]:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            room.connection.connection_lost(None)

    _run(scenario)


def test_a_body_on_its_way_at_the_end_is_still_answered() -> None:
    async def scenario() -> None:
        room = Room()
        room.connection.data_received(ASK + b"POST /ask HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab")
        room.front.draining = True
        room.connection.shut()
        room.asked[0].reply(200, b"1")
        assert b"close" not in room.transport.written
        room.connection.data_received(b"c")
        room.asked[1].reply(200, b"2")
        assert b"Connection: close" in room.transport.written
        assert room.admission.bytes == 0
        room.connection.connection_lost(None)

    _run(scenario)


def test_what_was_kept_back_comes_before_what_comes_later() -> None:
    """The socket is not read again until the rest of the pipeline was taken."""

    async def scenario() -> None:
        room = Room(max_pipelined=1)
        begun, rest = ASK[:10], ASK[10:]
        room.connection.data_received(ASK + ASK + begun)
        assert room.state() == (1, False)
        room.asked[0].reply(200)
        assert room.state() == (1, False)
        await asyncio.sleep(0)
        assert room.state() == (2, False)
        room.asked[1].reply(200)
        await asyncio.sleep(0)
        assert room.state() == (2, True)
        room.connection.data_received(rest)
        assert room.state() == (3, True)
        room.connection.connection_lost(None)

    _run(scenario)


def test_go_on_is_not_said_while_earlier_answers_are_owed() -> None:
    async def scenario() -> None:
        room = Room()
        expecting = b"POST /ask HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        room.connection.data_received(ASK + expecting)
        assert room.transport.written == b""  # it would be taken for the first one's
        room.connection.data_received(b"abc")
        assert bytes(room.asked[1].body) == b"abc"
        room.connection.connection_lost(None)

    _run(scenario)


def test_what_is_not_read_is_counted_and_nothing_more_is_sent() -> None:
    async def scenario() -> None:
        room = Room()
        room.connection.data_received(ASK * 3)
        room.asked[0].reply(200, b"1" * 1000)
        room.transport.unsent = 700
        room.connection.pause_writing()
        assert room.admission.bytes == 700
        sent = len(room.transport.written)
        room.asked[2].reply(200, b"3" * 1000)
        room.asked[1].reply(200, b"2" * 1000)
        assert len(room.transport.written) == sent
        assert room.admission.bytes > 2700
        room.transport.unsent = 0
        room.connection.resume_writing()
        assert room.transport.written.endswith(b"3" * 1000)
        assert room.admission.bytes == 0
        room.connection.connection_lost(None)

    _run(scenario)


def test_what_is_not_read_is_given_back_when_the_client_goes() -> None:
    async def scenario() -> None:
        room = Room()
        room.connection.data_received(ASK * 2)
        room.transport.unsent = 700
        room.connection.pause_writing()
        room.asked[0].reply(200, b"1" * 1000)
        room.connection.connection_lost(None)
        room.asked[1].reply(200, b"2" * 1000)  # to nobody
        assert room.admission.bytes == 0

    _run(scenario)


def test_unread_answers_over_the_limit_refuse_new_requests() -> None:
    admission = Admission(10, 1000)
    admission.hold_bytes(1001)
    for refused in (admission.enter, admission.check_open):
        with pytest.raises(Overloaded, match=r"limits\.max_buffered_bytes"):
            refused()
    admission.release_bytes(1)
    admission.enter()


@pytest.mark.parametrize(("rate", "stays"), [(10_000, False), (10, True)])
def test_who_reads_more_slowly_than_the_minimum_rate_is_cut_off(rate: int, stays: bool) -> None:
    async def scenario() -> None:
        room = Room(write_timeout_s=0.05, min_body_rate_bytes_s=rate)
        room.transport.unsent = 1_000_000
        room.connection.pause_writing()
        for _ in range(60):
            room.transport.unsent -= 5
            await asyncio.sleep(0.01)
        assert room.transport.closing is not stays
        room.connection.connection_lost(None)

    _run(scenario)


def test_what_is_given_up_is_answered_and_costs_no_more() -> None:
    async def scenario() -> None:
        room = Room()
        room.connection.data_received(ASK * 2)
        first, second = room.asked
        abandoned: list[int] = []
        first.on_abandoned = lambda: abandoned.append(1)
        second.reply(200, b"2")
        assert not await room.front.close(0.01)
        await room.front.give_up(Unavailable("over"), 0.01)
        assert room.transport.written.startswith(b"HTTP/1.1 503 ")
        assert room.transport.written.count(b"HTTP/1.1 ") == 2
        assert abandoned == [1]
        assert room.transport.aborted.is_set()
        room.connection.connection_lost(None)

    _run(scenario)


def test_what_waits_to_be_unpacked_is_a_request_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        room = Room()
        body = gzip.compress(bytes(5_000_000))
        packed = b"POST /ask HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        room.admission.max_requests = 2
        room.connection.data_received((packed + body) * 3)
        assert room.admission.requests == 2
        while len(room.asked) < 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        assert room.admission.requests == 0
        for exchange in room.asked:
            exchange.reply(200)
        assert room.transport.written.count(b" 200 OK") == 2
        assert b"limits.max_requests" in room.transport.written
        room.connection.connection_lost(None)

    _run(scenario)


def test_closing_waits_for_nothing_that_is_being_unpacked() -> None:
    async def scenario() -> None:
        room = Room()
        held = threading.Event()
        for _ in range(2):
            room.front.coder._threads.submit(held.wait)
        body = gzip.compress(bytes(5_000_000))
        lines = b"Host: h\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        room.connection.data_received(b"POST /ask HTTP/1.1\r\n" + lines + body)
        try:
            assert not await room.front.close(0.01)
            await room.front.give_up(Unavailable("over"), 0.01)
            await asyncio.sleep(0.01)
            assert room.admission.requests == 0
            assert room.transport.written.count(b"HTTP/1.1 503 ") == 1
        finally:
            held.set()
        room.connection.connection_lost(None)

    _run(scenario)


@pytest.mark.parametrize("stays", [True, False])
def test_nobody_works_for_who_left_while_the_body_was_unpacked(monkeypatch: pytest.MonkeyPatch, stays: bool) -> None:
    async def scenario() -> None:
        room = Room()
        body = gzip.compress(bytes(5_000_000))  # unpacked in the thread
        lines = b"Host: h\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        decoded = asyncio.Event()
        report = room.front.coder._decoded

        def watch(*args: Any) -> None:
            report(*args)
            decoded.set()

        monkeypatch.setattr(room.front.coder, "_decoded", watch)
        room.connection.data_received(b"POST /ask HTTP/1.1\r\n" + lines + body)
        if not stays:
            room.transport.close()
            room.connection.connection_lost(None)
        await decoded.wait()
        assert len(room.asked) == stays
        assert room.admission.bytes == 5_000_000 * stays  # what it became is held, and counted
        if stays:
            assert len(room.asked[0].body) == 5_000_000
            room.connection.connection_lost(None)
        assert room.admission.bytes == 0
        room.front.coder.close()

    _run(scenario)
