"""How the generator takes servers that misbehave: every request is accounted for, and the run goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.core.errors import TargetUnavailable
from taxiway.profile.arrivals import Constant
from taxiway.profile.generating.events import EventReader
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.outcome import Profile
from taxiway.profile.phases import Counters
from taxiway.profile.plan import Plan
from taxiway.profile.running import run_profile
from taxiway.profile.samples import Samples
from taxiway.profile.searching import Searched, search_slo
from taxiway.profile.slos import Slo
from taxiway.profile.workload import Workload

PLAN = Plan(Constant(), 50.0, 1.0, warm_up_s=0.0, timeout_s=0.3, processes=1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Plain:
    """A target that is only a port."""

    port: int
    name: str = "plain"
    events: bool = False

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    @property
    def door(self) -> Door:
        return Door("127.0.0.1", self.port, events=self.events)

    def render(self, workload: Workload | None) -> list[Shot]:
        return [Shot(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")]

    async def counters(self) -> Counters | None:
        return None

    def process(self) -> int | None:
        return None


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[int]:
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        try:
            await behaviour(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in connections:
            writer.close()


def profile_of(behaviour: Behaviour, plan: Plan = PLAN, *, events: bool = False) -> tuple[Profile, Samples]:
    async def run() -> tuple[Profile, Samples]:
        kept: list[Samples] = []
        async with serving(behaviour) as port:
            return await run_profile(plan, Plain(port, events=events), None, kept.append), kept[0]

    return asyncio.run(run())


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(OK)


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(b"SMTP ready\r\n")


async def close_after_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    await writer.drain()


async def answer_in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        for byte in OK:
            writer.write(bytes([byte]))
            await writer.drain()


@pytest.mark.parametrize("behaviour", [answer_all, close_after_each, answer_in_pieces])
def test_every_request_is_answered(behaviour: Behaviour) -> None:
    profile, samples = profile_of(behaviour)
    assert profile.errors == {}, profile.examples
    assert len(samples.rows) == profile.answered == 50


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [(never_answer, "timeout"), (hang_up, "connection lost"), (talk_nonsense, "malformed answer")],
)
def test_every_failure_is_counted_and_the_schedule_goes_on(behaviour: Behaviour, kind: str) -> None:
    profile, samples = profile_of(behaviour)
    assert profile.errors == {kind: 50}
    assert len(samples.rows) == 50
    assert np.allclose(samples.due, np.arange(50) / 50, atol=1e-6)
    assert not profile.valid


def test_who_timed_out_waited_that_long() -> None:
    profile, _ = profile_of(never_answer)
    assert profile.percentiles.p50_ms >= 300


def test_requests_wait_for_a_connection_and_are_given_up() -> None:
    profile, samples = profile_of(never_answer, replace(PLAN, connections=2))
    assert len(samples.rows) == 50
    assert set(profile.errors) == {"timeout", "not sent"}


async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        await asyncio.sleep(PLAN.timeout_s / 5)
        writer.write(OK)


def test_what_is_due_at_once_waits_for_its_turn_however_long() -> None:
    profile, _ = profile_of(answer_slowly, replace(PLAN, all_at_once=True, connections=2, duration_s=0.4))
    assert profile.errors == {}
    assert profile.answered == 20
    assert profile.percentiles.max_ms > 1.5 * PLAN.timeout_s * 1000


def test_a_closed_loop_ends_where_nobody_answers() -> None:
    profile, samples = profile_of(never_answer, replace(PLAN, concurrency=3))
    assert profile.errors == {"timeout": len(samples.rows)}


def test_a_query_of_several_waits_for_all_of_them() -> None:
    profile, samples = profile_of(answer_all, replace(PLAN, concurrency=1, query_samples=4, duration_s=0.3))
    assert len(samples.rows) == profile.latency.count * 4
    starts = samples.due.reshape(-1, 4)
    assert (starts == starts[:, :1]).all()
    assert (samples.done.reshape(-1, 4).max(axis=1)[:-1] <= starts[1:, 0]).all()


def test_nobody_there_is_told_before_anything_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TargetUnavailable, match=f"{port} cannot be connected to"):
        asyncio.run(run_profile(PLAN, Plain(port)))


class NoneBelow(Constant):
    """As a Poisson process has it now and then, at a low rate in a short time."""

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
        return super().offsets(rng, rate_per_s, duration_s) if rate_per_s >= 100 else np.empty(0)


def test_a_search_goes_on_where_nothing_was_due() -> None:
    async def run() -> Searched:
        async with serving(answer_all) as port:
            plan = replace(PLAN, arrivals=NoneBelow(), rate_per_s=100.0, duration_s=0.4)
            return await search_slo(plan, Slo(latency_ms=1e-6), Plain(port))

    found = asyncio.run(run()).found
    assert found.lost_per_s == 100
    assert found.kept_per_s is not None
    assert found.unproven == (found.kept_per_s,)


# --- events


def test_events_are_tokens_if_they_hold_text() -> None:
    reader = EventReader()
    for part in (
        b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n',
        b'data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\n\nda',
        b'ta: {"choices": [{"text": "a"}]}\r\n\r\n',
        b'data: {"choices": []}\n\ndata: [DONE]\n\n: comment\n\n',
    ):
        reader.feed(part)
    assert reader.tokens == 2
    assert len(reader.gaps) == 1


def test_what_the_server_counts_is_believed() -> None:
    reader = EventReader()
    reader.feed(b'data: {"choices": [{"text": "two tokens"}]}\n\n')
    reader.feed(b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\n')
    assert reader.tokens == 2
    reader.begin()
    assert reader.tokens == 0
    assert np.isnan(reader.first)


def test_events_without_choices_are_tokens_each() -> None:
    reader = EventReader()
    reader.feed(b'data: {"text_output": ["a"]}\n\ndata: plain\n\n')
    assert reader.tokens == 2


def test_an_event_that_tells_of_an_error_is_no_token() -> None:
    reader = EventReader()
    reader.feed(b'data: {"choices": [{"text": "a"}]}\n\n')
    reader.feed(b'data: {"error": {"message": "out of blocks"}}\n\ndata: {"error": {"message": "again"}}\n\n')
    assert reader.tokens == 1
    assert reader.problem == b'{"error": {"message": "out of blocks"}}'
    reader.feed(b'data: {"text_output": "a", "error": null}\n\n')
    assert reader.tokens == 2
    reader.begin()
    assert reader.problem == b""


async def fail_in_every_other_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = 0
    while await reader.readuntil(b"\r\n\r\n"):
        event = b'{"error": {"message": "out of blocks"}}' if number % 2 else b'{"choices": [{"text": "b"}]}'
        body = b'data: {"choices": [{"text": "a"}]}\n\ndata: ' + event + b"\n\ndata: [DONE]\n\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        number += 1


def test_an_error_within_a_stream_is_no_answer_whatever_the_status() -> None:
    plan = replace(PLAN, connections=1, timeout_s=5.0)
    profile, samples = profile_of(fail_in_every_other_stream, plan, events=True)
    assert profile.errors == {"wrong answer": 25}
    assert profile.answered == profile.latency.count == 25
    assert profile.examples == {"wrong answer": '{"error": {"message": "out of blocks"}}'}
    assert sorted(samples.tokens.tolist()) == [0] * 25 + [2] * 25
    assert np.array_equal(np.unique(samples.gaps[:, 0]), samples.due[samples.ending == 0])
