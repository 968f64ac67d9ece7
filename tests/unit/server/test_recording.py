"""Recordings in several processes: one at a time, answers that are bounded however many there are, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from taxiway.config.model_spec import ModelSpec
from taxiway.config.settings import RecordingSettings
from taxiway.core.errors import FailedPrecondition, NotFound, TaxiwayError
from taxiway.core.requests import InferRequest, InputTensor
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.fleet import Lasting
from taxiway.server.recording import MAX_REQUEST_BYTES, SHARE_BYTES, RecordingDesk

MIB = 1 << 20
Tap = Callable[[InferRequest, ModelSpec], None]


class Gates:
    """Those of one process: whom requests are shown to."""

    def __init__(self) -> None:
        self.taps: dict[str, Tap | None] = {}

    def tap(self, model: str, tap: Tap | None) -> None:
        self.taps[model] = tap


class Processes:
    """A fleet of desks that are asked one after the other."""

    def __init__(self, count: int, settings: RecordingSettings, max_body_bytes: int = 64 * MIB) -> None:
        self.gates = [Gates() for _ in range(count)]
        self.desks = [RecordingDesk(settings, gates, max_body_bytes) for gates in self.gates]  # type: ignore[arg-type]
        for desk in self.desks:
            desk.fleet = self

    async def ask(self, verb: str, words: Mapping[str, Any], lasting: Lasting | None = None) -> list[Any]:
        answers = await asyncio.gather(*(desk.verbs()[verb](words) for desk in self.desks), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def ask_control(self, verb: str, words: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def come(self, process: int, size: int) -> None:
        """One request reaches this process."""
        tap = self.gates[process].taps.get("m")
        if tap is not None:
            tap(*request_of(size))


class Spec:
    """As much of a model's as is looked at."""

    inputs = (TensorSpec("x", Datatype.UINT8, (-1,)),)


def request_of(size: int) -> tuple[InferRequest, Any]:
    request = InferRequest((InputTensor(bytes(size), (size,)),), 1, None, 0, 0)  # type: ignore[arg-type]
    return request, Spec()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


INPUTS = RecordingSettings(mode="inputs")


def size_of(answer: Mapping[str, Any]) -> int:
    return sum(len(tensor["raw"]) for request in answer["requests"] for tensor in request["inputs"])


@pytest.mark.parametrize("size", [10_000, SHARE_BYTES, 3 * MIB])
def test_one_answer_is_bounded_however_many_processes_hold_something(size: int) -> None:
    async def test() -> None:
        processes = Processes(24, INPUTS)
        desk = processes.desks[3]
        await desk.begin("m", 1.0, 1000, with_inputs=True)
        for process in range(24):
            for _ in range(4):
                processes.come(process, size)
        fetched = 0
        while True:
            answer = await desk.fetch("m")
            assert size_of(answer) <= 24 * SHARE_BYTES + MAX_REQUEST_BYTES
            assert answer["requests"], "nothing came, and something is held"
            fetched += len(answer["requests"])
            assert fetched + answer["held"] == answer["seen"] == 96
            if not answer["held"]:
                break
        assert answer["dropped"] == 0

    run(test())


def test_what_no_answer_could_hold_is_dropped() -> None:
    async def test() -> None:
        processes = Processes(1, INPUTS, max_body_bytes=MIB)
        await processes.desks[0].begin("m", 1.0, 1000, with_inputs=True)
        processes.come(0, MIB)
        processes.come(0, MIB - 1000)
        answer = await processes.desks[0].fetch("m")
        assert (len(answer["requests"]), answer["dropped"], answer["held"]) == (1, 1, 0)

    run(test())


def test_there_is_one_at_a_time_and_a_second_leaves_nothing_behind() -> None:
    async def test() -> None:
        processes = Processes(3, INPUTS)
        first, second = processes.desks[0], processes.desks[1]
        await first.begin("m", 0.25, 1000, with_inputs=True)
        await processes.desks[2].verbs()["record_end"]({"model": "m"})  # as a process that was started later has none
        with pytest.raises(FailedPrecondition, match=r"recorded already: 0\.25 of its requests, with inputs") as caught:
            await second.begin("m", 1.0, 10, with_inputs=False)
        assert "30 s" in caught.value.hint
        assert processes.gates[2].taps["m"] is None
        assert (await first.fetch("m"))["seen"] == 0
        await first.end("m")
        await second.begin("m", 1.0, 10, with_inputs=False)

    run(test())


def test_what_is_held_can_be_fetched_after_the_end() -> None:
    async def test() -> None:
        processes = Processes(2, INPUTS)
        desk = processes.desks[0]
        await desk.begin("m", 1.0, 1000, with_inputs=True)
        processes.come(0, 8)
        processes.come(1, SHARE_BYTES)
        await desk.end("m", keep=True)
        processes.come(1, 8)
        with pytest.raises(TaxiwayError, match="recorded already"):
            await desk.begin("m", 1.0, 1000, with_inputs=True)
        answer = await desk.fetch("m")
        assert (len(answer["requests"]), answer["seen"], answer["held"]) == (2, 2, 0)
        with pytest.raises(NotFound):
            await desk.fetch("m")
        await desk.begin("m", 1.0, 1000, with_inputs=True)

    run(test())
