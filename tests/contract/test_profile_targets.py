"""What every target of a profile keeps, each against a real server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler, echo_texts
from tests.support.openai_server import openai_server

from taxiway.core.errors import InvalidArgument, TaxiwayError
from taxiway.profile.arrivals import Constant
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.requests import Request
from taxiway.profile.running import run_profile
from taxiway.profile.targets.finding import find_target
from taxiway.profile.targets.served import ServedTarget
from taxiway.profile.targets.target import Target
from taxiway.profile.wishes import Wishes
from taxiway.profile.workload import Workload

T = TypeVar("T")
CLOSED = Plan(Constant(), 1.0, 0.3, warm_up_s=0.0, concurrency=2)
FORMS = (
    "oip",
    "oip-version",
    "oip-binary",
    "oip-texts",
    "grpc",
    "grpc-version",
    "kserve-v1",
    "torchserve",
    "openai-chat",
    "openai-plain",
    "file",
)
COUNTING = frozenset(FORMS) - {"openai-chat", "openai-plain"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [doubler(folder / "doubler.onnx", 4), echo_texts(folder / "texts.onnx")]


@pytest.fixture(scope="module")
def server(models: list[Path]) -> Iterator[Server]:
    with serve(models) as running:
        yield running


@pytest.fixture(scope="module")
def openai() -> Iterator[int]:
    with openai_server() as port:
        yield port


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def word(form: str, server: Server, openai: int, models: list[Path]) -> str:
    return {
        "oip": server.url("/v2/models/doubler"),
        "oip-version": server.url("/v2/models/doubler/versions/1"),
        "oip-binary": server.url("/v2/models/doubler"),
        "oip-texts": server.url("/v2/models/texts"),
        "grpc": f"grpc://{server.grpc}/doubler",
        "grpc-version": f"grpc://{server.grpc}/doubler/1",
        "kserve-v1": server.url("/v1/models/doubler:predict"),
        "torchserve": server.url("/predictions/texts"),
        "openai-chat": f"http://127.0.0.1:{openai}/v1/chat/completions",
        "openai-plain": f"http://127.0.0.1:{openai}/v1/completions",
        "file": str(models[0]),
    }[form]


@asynccontextmanager
async def opened(word: str, form: str) -> AsyncIterator[Target]:
    target = find_target(word, Wishes(binary=form == "oip-binary"))
    try:
        await target.open()
        yield target
    finally:
        await target.close()


def with_target(word: str, form: str, ask: Callable[[Target], Awaitable[T]]) -> T:
    async def run() -> T:
        async with opened(word, form) as target:
            return await ask(target)

    return asyncio.run(run())


def test_made_up_requests_are_answered(word: str, form: str) -> None:
    profile: Profile = with_target(word, form, lambda target: run_profile(CLOSED, target))
    assert profile.errors == {}, profile.examples
    assert profile.answered >= 2
    assert (profile.tokens is not None) == form.startswith("openai")


def test_the_server_counts_what_was_sent(word: str, form: str) -> None:
    profile: Profile = with_target(word, form, lambda target: run_profile(CLOSED, target))
    assert (profile.phases is not None) == (form in COUNTING)
    if profile.phases is not None:
        assert profile.phases.requests >= profile.answered
        assert profile.phases.server_ms > 0


def test_its_process_is_found(word: str, form: str) -> None:
    async def process(target: Target) -> int | None:
        return target.process()

    found = with_target(word, form, process)
    assert (found == os.getpid()) == (form != "file")
    assert found


def test_a_request_that_does_not_fit_is_refused_by_its_number(word: str, form: str) -> None:
    async def render(target: Target) -> None:
        target.render(Workload([Request(headers={"Host": "elsewhere"})], "here"))

    with pytest.raises(InvalidArgument) as refused:
        with_target(word, form, render)
    assert refused.value.hint


def test_closing_twice_is_no_matter(word: str, form: str) -> None:
    async def close(target: Target) -> None:
        await target.close()

    with_target(word, form, close)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there_is_told(scheme: str) -> None:
    async def ask(target: Target) -> None:
        raise AssertionError(target)

    with pytest.raises(TaxiwayError, match=r"nobody answers at 127\.0\.0\.1:9"):
        with_target(f"{scheme}://127.0.0.1:9/v2/models/x", "oip", ask)


def test_tokens_come_with_their_times(openai: int) -> None:
    word = f"http://127.0.0.1:{openai}/v1/chat/completions"
    asked = Workload([Request(input_tokens=5, output_tokens=7)], "here")
    profile: Profile = with_target(word, "openai-chat", lambda target: run_profile(CLOSED, target, asked))
    tokens = profile.tokens
    assert tokens is not None
    assert tokens.total == 7 * profile.answered
    assert 0 < tokens.first.p50_ms < profile.percentiles.p50_ms
    assert tokens.between.p50_ms > 0


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    target = ServedTarget(str(broken), Wishes())

    async def run() -> None:
        try:
            await target.open()
        finally:
            await target.close()

    with pytest.raises(TaxiwayError, match="did not start"):
        asyncio.run(run())


def test_a_report_that_is_larger_than_a_pipe_comes_whole(server: Server) -> None:
    plan = Plan(Constant(), 20_000.0, 1.0, warm_up_s=0.0, all_at_once=True, processes=1, connections=32)
    word = server.url("/v2/models/doubler")
    profile: Profile = with_target(word, "oip", lambda target: run_profile(plan, target))
    assert profile.requests == profile.answered == 20_000
