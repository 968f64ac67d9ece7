"""Two ends of a socket pair in one process: what is asked, what is answered, and what happens when one end goes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument, ModelNotFound, Overloaded, TaxiwayError
from taxiway.server.channel import MAX_RUNNING, Channel, Gone, Verb, decode_frame, encode_frame

_LIMIT = 1 << 20

_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_plain)
def test_a_frame_brings_plain_data_and_bytes(data: Any) -> None:
    content = b"".join(encode_frame({"ask": 1, "data": {"words": data}}))
    size, json_size = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
    assert size == len(content) - 8
    assert decode_frame(content[8:], json_size) == {"ask": 1, "data": {"words": data}}


def _run(test: Callable[[Channel, Channel], Awaitable[None]], verbs: Mapping[str, Verb]) -> None:
    async def run() -> None:
        left, right = socket.socketpair()
        asking, doing = Channel({}, _LIMIT), Channel(verbs, _LIMIT)
        await asking.connect(left)
        await doing.connect(right)
        try:
            async with asyncio.timeout(20):
                await test(asking, doing)
        finally:
            asking.close()
            doing.close()
            await asyncio.gather(asking.closed, doing.closed)

    asyncio.run(run())


async def _echo(words: Mapping[str, Any]) -> Any:
    return words["back"]


async def _refuse(words: Mapping[str, Any]) -> None:
    raise ModelNotFound("no such model: 'a'", hint="served models: b", model=words["model"])


async def _fail(words: Mapping[str, Any]) -> None:
    raise ZeroDivisionError


async def _never(words: Mapping[str, Any]) -> None:
    await asyncio.Event().wait()


VERBS: dict[str, Verb] = {"echo": _echo, "refuse": _refuse, "fail": _fail, "never": _never}


def test_an_answer_comes_back_however_large_and_binary() -> None:
    async def test(asking: Channel, doing: Channel) -> None:
        files = {"1/model.onnx": bytes(range(256)) * 3000, "empty": b""}
        assert await asking.ask("echo", {"back": files}) == files

    _run(test, VERBS)


def test_many_questions_are_answered_each_its_own() -> None:
    async def test(asking: Channel, doing: Channel) -> None:
        answers = await asyncio.gather(*(asking.ask("echo", {"back": number}) for number in range(200)))
        assert answers == list(range(200))

    _run(test, VERBS)


def test_an_error_crosses_as_the_same_error() -> None:
    async def test(asking: Channel, doing: Channel) -> None:
        with pytest.raises(ModelNotFound, match="no such model: 'a'") as raised:
            await asking.ask("refuse", {"model": "a"})
        assert raised.value.hint == "served models: b"
        assert raised.value.facts == {"model": "a"}

    _run(test, VERBS)


def test_a_defect_crosses_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    async def test(asking: Channel, doing: Channel) -> None:
        with pytest.raises(TaxiwayError, match="internal error") as raised:
            await asking.ask("fail", {})
        assert raised.value.code == "internal"

    _run(test, VERBS)
    assert any("bug" in record.message for record in caplog.records)


def test_who_waits_is_told_when_the_other_end_goes() -> None:
    async def test(asking: Channel, doing: Channel) -> None:
        waiting = asyncio.create_task(asking.ask("never", {}))
        await asking.ask("echo", {"back": 1})
        doing.close()
        with pytest.raises(Gone):
            await waiting
        with pytest.raises(Gone):
            await asking.ask("echo", {"back": 1})

    _run(test, VERBS)


def test_who_waits_long_enough_waits_no_longer_and_a_late_answer_hurts_nobody() -> None:
    ready = asyncio.Event()

    async def late(words: Mapping[str, Any]) -> int:
        await ready.wait()
        return 1

    async def test(asking: Channel, doing: Channel) -> None:
        with pytest.raises(TimeoutError):
            await asking.ask("late", {}, timeout_s=0.01)
        ready.set()
        assert await asking.ask("echo", {"back": 2}) == 2

    _run(test, {**VERBS, "late": late})


def test_what_is_too_large_is_refused_before_it_is_sent() -> None:
    async def test(asking: Channel, doing: Channel) -> None:
        with pytest.raises(InvalidArgument, match="too many to tell"):
            await asking.ask("echo", {"back": b"x" * _LIMIT})
        assert await asking.ask("echo", {"back": 2}) == 2

    _run(test, VERBS)


def test_an_answer_that_is_too_large_is_an_error() -> None:
    async def huge(words: Mapping[str, Any]) -> bytes:
        return b"x" * _LIMIT

    async def test(asking: Channel, doing: Channel) -> None:
        with pytest.raises(InvalidArgument, match="too many to tell"):
            await asking.ask("huge", {})

    _run(test, {"huge": huge})


def test_the_other_side_is_not_asked_for_more_than_it_can_do() -> None:
    async def test(asking: Channel, doing: Channel) -> None:
        waiting = [asyncio.create_task(asking.ask("never", {})) for _ in range(MAX_RUNNING)]
        await asyncio.sleep(0)  # they are asked first
        with pytest.raises(Overloaded):
            await asking.ask("never", {})
        doing.close()
        assert all(isinstance(gone, Gone) for gone in await asyncio.gather(*waiting, return_exceptions=True))

    _run(test, VERBS)


@pytest.mark.parametrize(
    "nonsense", [b"\xff" * 64, b"\x00\x00\x00\x02\x00\x00\x00\x02{}", b"\x00\x00\x00\x01\x00\x00\x00\x01["]
)
def test_nonsense_ends_the_connection(nonsense: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        left, right = socket.socketpair()
        channel = Channel(VERBS, _LIMIT)
        await channel.connect(left)
        right.sendall(nonsense)
        async with asyncio.timeout(20):
            await channel.closed
        right.close()

    asyncio.run(run())
    assert any("bug" in record.message for record in caplog.records)
