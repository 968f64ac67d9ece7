"""What one worker asks of all: against channels that answer, refuse, hang and break, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest

from taxiway.core.errors import ModelNotFound, Overloaded, Unavailable
from taxiway.deploy.local import relay as module
from taxiway.deploy.local.relay import Kept, Relay
from taxiway.server.channel import Channel, Gone
from taxiway.server.fleet import Lasting
from taxiway.testing import run_virtual

Behaviour = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class End:
    """The supervisor's end of a channel, with a worker made of one function."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behave = behaviour
        self.heard: list[tuple[str, Any]] = []

    async def ask(self, verb: str, words: Mapping[str, Any], timeout_s: float | None = None) -> Any:
        assert verb == "do"
        self.heard.append((words["verb"], words["words"]))
        async with asyncio.timeout(timeout_s):
            return await self.behave(words["verb"], words["words"])


def answering(answer: Any) -> Behaviour:
    async def behave(verb: str, words: Mapping[str, Any]) -> Any:
        return answer

    return behave


def raising(problem: Exception) -> Behaviour:
    async def behave(verb: str, words: Mapping[str, Any]) -> Any:
        raise problem

    return behave


async def hanging(verb: str, words: Mapping[str, Any]) -> Any:
    await asyncio.get_running_loop().create_future()


async def _at_once() -> None:
    """There is no other server to ask."""


async def _opened() -> str:
    return "open"


async def _relay(*behaviours: Behaviour, changed: Callable[[], None] | None = None) -> tuple[Relay, list[End]]:
    relay = Relay(changed or (lambda: None), _at_once)
    ends = [End(behaviour) for behaviour in behaviours]
    for index, end in enumerate(ends):
        await admit(relay, index, end)
    return relay, ends


async def admit(relay: Relay, index: int, end: End) -> Any:
    return await relay.admit(index, cast("Channel", end), _opened)


def words(verb: str = "statistics", keep_as: str = "", **inner: Any) -> dict[str, Any]:
    return {"verb": verb, "words": inner, "lasting": {"what": "models", "name": keep_as} if keep_as else None}


def test_all_answer_and_the_asker_first() -> None:
    async def test() -> None:
        relay, _ = await _relay(answering("a"), answering("b"), answering("c"))
        assert await relay.ask(1, words()) == ["b", "a", "c"]

    run_virtual(test)


def test_one_that_dies_or_hangs_is_left_out() -> None:
    async def test() -> None:
        relay, _ = await _relay(answering("a"), raising(Gone("gone")), hanging)
        assert await relay.ask(0, words()) == ["a"]

    run_virtual(test)


def test_if_none_is_left_that_is_said() -> None:
    async def test() -> None:
        relay, _ = await _relay(raising(Gone("gone")))
        with pytest.raises(Unavailable, match="no process of the server answered"):
            await relay.ask(0, words())

    run_virtual(test)


def test_an_error_of_one_is_told_and_the_others_did_it() -> None:
    async def test() -> None:
        relay, ends = await _relay(answering("a"), raising(ModelNotFound("no such model")), answering("c"))
        with pytest.raises(ModelNotFound):
            await relay.ask(0, words("load", keep_as="model/m", model="m"))
        assert [len(end.heard) for end in ends] == [1, 1, 1]

    run_virtual(test)


def test_a_worker_that_starts_later_is_told_the_last_of_each() -> None:
    async def test() -> None:
        relay, _ = await _relay(answering("a"))
        await relay.ask(0, words("load", keep_as="model/a", model="a", files={"x": b"1"}))
        await relay.ask(0, words("load", keep_as="model/b", model="b"))
        await relay.ask(0, words("unload", keep_as="model/a", model="a"))
        await relay.ask(0, words())  # nothing to keep
        later = End(answering("ok"))
        assert await admit(relay, 0, later) == "open"
        assert later.heard == [("load", {"model": "b"}), ("unload", {"model": "a"})]

    run_virtual(test)


def test_what_all_refused_is_not_kept() -> None:
    async def test() -> None:
        relay, _ = await _relay(raising(ModelNotFound("no such model")))
        with pytest.raises(ModelNotFound):
            await relay.ask(0, words("load", keep_as="model/a", model="a"))
        later = End(answering("ok"))
        await admit(relay, 0, later)
        assert later.heard == []

    run_virtual(test)


def test_a_change_of_models_is_told_of_once_somebody_made_it() -> None:
    async def test() -> None:
        told: list[str] = []
        relay, ends = await _relay(answering("a"), answering("b"), changed=lambda: told.append("changed"))
        await relay.ask(0, words())
        await relay.ask(0, {**words("register_region"), "lasting": {"what": "regions", "name": "a"}})
        assert told == []
        await relay.ask(0, words("load", keep_as="model/a", model="a"))
        assert told == ["changed"]
        for end in ends:
            end.behave = raising(ModelNotFound("no such model"))
        with pytest.raises(ModelNotFound):
            await relay.ask(0, words("load", keep_as="model/b", model="b"))
        assert told == ["changed"]

    run_virtual(test)


def test_a_change_that_cannot_be_repeated_is_logged_and_the_worker_serves(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        relay, _ = await _relay(answering("a"))
        await relay.ask(0, words("load", keep_as="model/a", model="a"))
        assert await admit(relay, 0, End(raising(ModelNotFound("its file is gone")))) == "open"

    run_virtual(test)
    assert [record.message for record in caplog.records] == ["change_not_repeated"]


def test_changes_go_one_at_a_time_and_a_newcomer_misses_none() -> None:
    async def test() -> None:
        going = asyncio.Event()

        async def slowly(verb: str, words: Mapping[str, Any]) -> str:
            await going.wait()
            return "done"

        relay, _ = await _relay(slowly)
        later = End(answering("ok"))
        changing = asyncio.create_task(relay.ask(0, words("load", keep_as="model/a", model="a")))
        await asyncio.sleep(0)
        admitting = asyncio.create_task(admit(relay, 1, later))
        await asyncio.sleep(1)
        assert later.heard == []
        going.set()
        await asyncio.gather(changing, admitting)
        assert later.heard == [("load", {"model": "a"})]

    run_virtual(test)


def test_one_that_was_replaced_is_not_dismissed_with_its_predecessor() -> None:
    async def test() -> None:
        relay, (old,) = await _relay(answering("old"))
        await admit(relay, 0, End(answering("new")))
        relay.dismiss(0, cast("Channel", old))
        assert await relay.ask(0, words()) == ["new"]

    run_virtual(test)


def test_what_holds_for_all_of_a_kind_takes_the_place_of_what_each_was_told() -> None:
    kept = Kept()
    for lasting in (Lasting("regions", "a"), Lasting("regions", "b"), Lasting("logs")):
        kept.keep(lasting, "do", {"name": lasting.name})
    kept.keep(Lasting("regions"), "clear", {})
    assert kept.told(quick=False) == [
        (Lasting("logs"), "do", {"name": None}),
        (Lasting("regions"), "clear", {}),
    ]


@pytest.mark.parametrize("name", ["", "a", "a/"])
def test_a_name_stands_for_itself_whatever_a_caller_writes(name: str) -> None:
    """To unload a model of no name is no error, and must not have a later worker forget the loads of all others."""
    kept = Kept()
    kept.keep(Lasting("models", "a/b"), "load", {})
    kept.keep(Lasting("models", name), "unload", {})
    assert kept.told(quick=False) == [
        (Lasting("models", "a/b"), "load", {}),
        (Lasting("models", name), "unload", {}),
    ]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 100)
    kept = Kept()
    kept.keep(Lasting("a"), "load", {"files": {"x": b"1" * 60}})
    kept.check_room(Lasting("a"), {"files": {"x": b"1" * 100}})  # in the other's place
    with pytest.raises(Overloaded):
        kept.check_room(Lasting("b"), {"files": {"x": b"1" * 41}})
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    with pytest.raises(Overloaded):
        kept.check_room(Lasting("b"), {})
    kept.check_room(Lasting("a"), {})


def test_traffic_waits_for_no_model_that_is_loading() -> None:
    async def behave(verb: str, words: Mapping[str, Any]) -> str:
        if verb == "load":
            await asyncio.sleep(60)
        return verb

    async def test() -> None:
        relay, _ = await _relay(behave)
        loading = asyncio.ensure_future(relay.ask(0, words("load", keep_as="big")))
        await asyncio.sleep(1)
        traffic = {"verb": "traffic_set", "words": {}, "lasting": {"what": "traffic", "name": "fraud"}}
        async with asyncio.timeout(1):
            assert await relay.ask(-1, traffic) == ["traffic_set"]
        assert await loading == ["load"]

    run_virtual(test)


def test_a_worker_that_starts_later_is_told_of_traffic_last() -> None:
    """What traffic names must be loaded by then, whichever was said last."""

    async def test() -> None:
        relay, _ = await _relay(answering("a"))
        for verb, what, name in (("traffic_set", "traffic", "fraud"), ("traffic_stage", "companions", "fraud:7")):
            await relay.ask(-1, {"verb": verb, "words": {}, "lasting": {"what": what, "name": name}})
        later = End(answering("ok"))
        await admit(relay, 0, later)
        assert [verb for verb, _ in later.heard] == ["traffic_stage", "traffic_set"]

    run_virtual(test)
