"""A connection's ends, on a transport that a test can look into: what system tests cannot bring about at will."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from taxiway.config.settings import LimitSettings
from taxiway.server.admission import Admission
from taxiway.server.statistics import ServerStatistics
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

    def state(self) -> tuple[int, bool]:
        """How many requests were taken, and whether more is read."""
        return len(self.asked), self.transport.reading


def _fail(problem: BaseException) -> None:
    raise problem


def _run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_an_answer_that_nobody_reads_does_not_keep_a_closed_connection() -> None:
    """Too small for the transport to complain of, so only the clock can tell."""

    async def scenario() -> None:
        room = Room(write_timeout_s=0.01)
        room.transport.unsent = 10
        room.connection.shut()
        assert room.transport.closing
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
