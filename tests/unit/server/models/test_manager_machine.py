"""Whatever is written, loaded, unloaded and asked, in whatever order: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.engines import engine_of
from tests.unit.server.batching.fakes import MS
from tests.unit.server.models.fakes import BROKEN, FakeFiles
from tests.unit.server.models.test_manager import Bench

from taxiway.core.errors import InvalidConfig, InvalidModel, NoRoom, RepositoryModelNotFound, TaxiwayError
from taxiway.testing import run_virtual

NAMES = st.sampled_from("ab")
VERSIONS = st.integers(1, 3)
CONTENTS = st.sampled_from(["one", "two", "three", BROKEN])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, VERSIONS, CONTENTS),
        st.tuples(st.just("remove"), NAMES, VERSIONS),
        st.tuples(st.just("configure"), NAMES, st.sampled_from(["", "other", BROKEN]), st.integers(1, 3)),
        st.tuples(st.just("load"), NAMES),
        st.tuples(st.just("give"), NAMES, CONTENTS),
        st.tuples(st.just("unload"), NAMES),
        st.tuples(st.just("ask"), NAMES),
        st.tuples(st.just("ask"), NAMES),
        st.tuples(st.just("wait"), st.sampled_from([0.001, 0.5, 1.0, 3.0])),
    ),
    max_size=25,
)
LOAD_ERRORS = (InvalidModel, InvalidConfig, NoRoom, RepositoryModelNotFound)


class Story:
    """One run of steps against a manager, and what is true of it at any time."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.asked = 0
        self.calls: list[asyncio.Task[None]] = []

    async def step(self, verb: str, *words: Any) -> None:
        await getattr(self, f"_{verb}")(*words)
        self.check()

    def check(self) -> None:
        for routes in self.bench.routes.values():
            for served in routes.served.values():
                assert engine_of(served).model.open, "a closed version is in the routes"  # type: ignore[attr-defined]

    async def _write(self, name: str, version: int, content: str) -> None:
        self.bench.disk.setdefault(name, FakeFiles()).versions[version] = content

    async def _remove(self, name: str, version: int) -> None:
        if name in self.bench.disk:
            self.bench.disk[name].versions.pop(version, None)

    async def _configure(self, name: str, config: str, latest: int) -> None:
        files = self.bench.disk.setdefault(name, FakeFiles())
        files.config, files.latest = config, latest

    async def _load(self, name: str) -> None:
        self._call_load(name, None, {})

    async def _give(self, name: str, content: str) -> None:
        """A load that brings its model, under the name of one on disk."""
        self._call_load(name, "{}", {"1/model.onnx": content.encode()})

    def _call_load(self, name: str, config: str | None, files: dict[str, bytes]) -> None:
        async def call() -> None:
            with contextlib.suppress(*LOAD_ERRORS):
                await self.bench.manager.load(name, config, files)

        self.calls.append(asyncio.ensure_future(call()))

    async def _unload(self, name: str) -> None:
        self.calls.append(asyncio.ensure_future(self.bench.manager.unload(name)))

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _ask(self, name: str) -> None:
        """As a front door does: to the routes, or held for a cold model, or refused."""
        routes = self.bench.routes.get(name)
        if routes is not None and routes.served:
            self.asked += 2
            served = routes.served[max(routes.served)]
            self.bench.submit(served, f"r{self.asked - 1}", f"r{self.asked}")
        elif routes is not None and routes.cold:
            with contextlib.suppress(*LOAD_ERRORS):
                self.bench.manager.cold.hold(name, lambda error: self._go_on(name, error))

    def _go_on(self, name: str, error: TaxiwayError | None) -> None:
        assert error is None or isinstance(error, LOAD_ERRORS)
        routes = self.bench.routes.get(name)
        if error is None and routes is not None and routes.served:
            self.asked += 1
            self.bench.submit(routes.served[max(routes.served)], f"r{self.asked}")


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([0, 150, 350]))
def test_nothing_is_lost_and_nothing_stays_behind(steps: list[tuple[Any, ...]], memory_bytes: int) -> None:
    async def main() -> None:
        bench = Bench({name: FakeFiles({1: "one"}) for name in "ab"}, memory_bytes=memory_bytes)
        bench.loading.run_ns = 1500 * MS  # what is asked is still on its way when the next thing happens
        await bench.manager.start()
        story = Story(bench)
        for step in steps:
            await story.step(*step)
        await asyncio.gather(*story.calls)
        await asyncio.sleep(60)
        story.check()
        answers = bench.responder.answers
        assert len(answers) == story.asked
        assert all(isinstance(answer, tuple) for answer in answers.values()), (
            "what was routed was answered by its model"
        )
        routed = {id(engine_of(served).model) for routes in bench.routes.values() for served in routes.served.values()}
        assert {id(model) for model in bench.loading.models if model.open} == routed, "only what is served is in memory"
        used, _ = bench.manager.statistics.memory()
        assert not memory_bytes or used <= memory_bytes
        assert bench.admission.requests == 0
        assert bench.manager.is_ready()
        assert await bench.manager.drain(1)
        assert not any(model.open for model in bench.loading.models)
        assert not bench.loading.uploads

    run_virtual(main)
