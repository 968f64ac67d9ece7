"""How finalists are timed: beside one another where that can be, each alone with the baseline where it cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec

from taxiway.optimize import trying
from taxiway.optimize.cache import Memory
from taxiway.optimize.metrics import Kind
from taxiway.optimize.recipes import Dynamic
from taxiway.optimize.targets import TARGETS
from taxiway.optimize.trials import Trial
from taxiway.optimize.workshop.client import OrderFailed
from taxiway.optimize.workshop.orders import Failed, Race, Raced, Times

CPU = TARGETS["cpu"]
SOURCE = Path("/models/source.onnx")


@dataclass
class Track:
    """Answers races as a workshop would: the nth candidate is n + 1 times as fast; some models do not run."""

    broken: frozenset[str] = frozenset()
    races: list[Race] = field(default_factory=list)

    def knows(self, _order: Race) -> bool:
        return True

    def ask(self, order: Race, _wanted: type[Raced]) -> Raced:
        self.races.append(order)
        if self.broken & set(order.models):
            raise OrderFailed(Failed("it crashed"))
        speeds = tuple(float(at + 1) for at in range(len(order.models)))
        return Raced(tuple(Times(1.0, 1.0, 1.0, 1.0) for _ in speeds), speeds, speeds, speeds)


def raced(track: Track, *trials: Trial) -> list[Trial]:
    tester = trying.Tester(
        memory=cast("Memory", track),
        folder=Path("/run"),
        source=SOURCE,
        size=1000,
        promise=trying.Promise("accuracy", Kind.POINTS, "label", 0.01),
        batch=4,
        labels={},
        tell=lambda _doing: None,
        options={},
    )
    return tester.raced_together(trials, CPU, 2.0)


def trial(name: str, **more: Any) -> Trial:
    return msgspec.structs.replace(Trial(recipe=Dynamic(), target="cpu", path=name, size=100), **more)


def test_finalists_run_in_the_same_rounds_for_the_time_of_as_many_races() -> None:
    track = Track()
    timed = raced(track, trial("a"), trial("b"), trial("c"))

    assert [(one.models, one.budget_s) for one in track.races] == [((str(SOURCE), "a", "b", "c"), 6.0)]
    assert [(one.path, one.speed) for one in timed] == [("a", 2.0), ("b", 3.0), ("c", 4.0)]


def test_one_that_does_not_run_costs_the_others_nothing() -> None:
    track = Track(broken=frozenset({"b"}))
    timed = raced(track, trial("a"), trial("b"), trial("c"))

    assert [one.models[1:] for one in track.races] == [("a", "b", "c"), ("a",), ("b",), ("c",)]
    assert [one.speed for one in timed] == [2.0, None, 2.0]
    assert [one.reason for one in timed] == ["", "did not run: it crashed", ""]


def test_models_that_together_would_fill_the_memory_race_in_pairs() -> None:
    track = Track()
    raced(track, trial("a", size=trying.MOST_RACED_BYTES), trial("b"))

    assert [one.models[1:] for one in track.races] == [("a",), ("b",)]


def test_without_finalists_there_is_no_race() -> None:
    track = Track()

    assert raced(track) == []
    assert track.races == []
