"""The control process killed at random while rollouts go on: `python -m benchmarks.rollout_kills [--minutes M]`.

A served model is asked all the time while one rollout follows the other, and at random moments the control process is
killed (SIGKILL). The bars: no request fails; no rollout is lost, goes backward, or has an effect twice; every rollout
ends as it has to; the journal's chain verifies, and each verdict is the same when it is computed again; another control
process goes on within a second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from benchmarks.load import percentile
from benchmarks.rollout_load import Caller
from benchmarks.rollout_place import AMOUNT, EQUAL, FAILING, LIMIT, MODEL, Served, fill, serving
from taxiway.config.places import journal_url, registry_places
from taxiway.config.settings import Settings
from taxiway.registry import Registry
from taxiway.rollout.chain import Event
from taxiway.rollout.errands import REGISTRY
from taxiway.rollout.journal import Journal
from taxiway.rollout.machine import replay
from taxiway.rollout.nouns import Rollout

BAR_S: Final = 1.0
_RATE: Final = 150.0
_APART_S: Final = (0.1, 6.0)
_PATIENCE_S: Final = 60.0
_SHARE_THAT_FAILS: Final = 0.05
_PLAN: Final[dict[str, Any]] = {
    "steps": [20, 100],
    "min_step_s": 1,
    "settle_s": 0.2,
    "guard_for_s": 1,
    "guards": {"min_requests": 20, "metrics": [{"metric": "errors", "margin": 0.25, "allowance": 0.01}]},
}
_ENDS: Final = {EQUAL: "succeeded", FAILING: "rolled-back"}


@dataclass
class Story:
    """What was seen.

    Attributes:
        ended: phases in which rollouts ended, by version.
        backward: generations that were seen to fall.
        resumed_s: from each kill until another process had looked at the evidence.
    """

    ended: Counter[tuple[int, str]] = field(default_factory=Counter)
    backward: int = 0
    resumed_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def roll(served: Served, story: Story, over: asyncio.Event) -> None:
    """One rollout after the other: an equal candidate, one that fails, back to the first version, and again."""
    for number in _numbers():
        if over.is_set():
            return
        version = EQUAL if number % 2 == 0 else FAILING
        words = {"service": MODEL, "plan": {**_PLAN, "to": str(version)}, "reason": "a benchmark", "force": True}
        told = await _insist(served, "/v1/rollouts", {**words, "idempotency_key": f"start-{number}"})
        phase = await _follow(served, str(told["rollout"]["id"]), story)
        story.ended[version, phase] += 1
        if phase == "succeeded":
            undo = {"reason": "a benchmark", "idempotency_key": f"undo-{number}"}
            told = await _insist(served, f"/v1/services/{MODEL}/undo", undo)
            story.ended[0, await _follow(served, str(told["rollout"]["id"]), story)] += 1


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


async def _follow(served: Served, rollout: str, story: Story) -> str:
    seen = 0
    while True:
        told = (await _insist(served, f"/v1/rollouts/{rollout}", None))["rollout"]
        story.backward += told["generation"] < seen
        seen = told["generation"]
        if told["phase"] in ("succeeded", "rolled-back", "failed-infra", "superseded"):
            return str(told["phase"])
        await asyncio.sleep(0.05)


async def _insist(served: Served, path: str, words: dict[str, Any] | None) -> Any:  # noqa: ANN401 - JSON
    """What it answers; whoever is killed while it answers is asked again, by the same key."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            ask = (served.get, path) if words is None else (served.post, path, words)
            return await asyncio.to_thread(*ask)
        except (OSError, HTTPException, RuntimeError) as problem:
            if time.monotonic() > until or (isinstance(problem, RuntimeError) and ": 503 " not in str(problem)):
                raise
            await asyncio.sleep(0.02)


async def kill(served: Served, story: Story, minutes: float, chance: random.Random) -> None:
    """Again and again; how long it takes until another one decides."""
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(*_APART_S))
        before = (await _insist(served, "/v1/health", None))["pid"]
        os.kill(before, signal.SIGKILL)
        began = time.monotonic()
        while (told := await _insist(served, "/v1/health", None))["pid"] == before or not told["leads"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another process is waited for
        story.resumed_s.append(time.monotonic() - began)


def _fold(events: Sequence[Event]) -> Rollout:
    return replay((event.payload, event.at_ns) for event in events)


async def deliver(environment: dict[str, str]) -> None:
    """Wait until what the registry is to be told has been: whoever carried it may have been killed."""
    with Journal.open(journal_url(Settings(), environment)) as journal:
        until = time.monotonic() + _PATIENCE_S
        while journal.outbox.letters(REGISTRY, waiting=True) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def check(environment: dict[str, str], story: Story) -> None:
    """What is left on disk: the chain, every state by its events, and how often the alias was moved."""
    settings = Settings()
    with Journal.open(journal_url(settings, environment)) as journal:
        print(f"journal: {journal.verify(_fold)} events, the chain and every state verify")
    places = registry_places(settings.registry, environment)
    with Registry.open(places.url, places.blobs) as registry:
        moves = len(registry.alias_history(MODEL, "stable")) - 1
    succeeded = sum(count for (_, phase), count in story.ended.items() if phase == "succeeded")
    print(f"alias: moved {moves} times, {succeeded} rollouts succeeded")
    if moves != succeeded:
        story.problems.append("an effect was lost, or had twice")


async def measure(served: Served, story: Story, minutes: float) -> bool:
    """Whether requests and rollouts were as they must be."""
    caller = Caller(served.http, MODEL, _RATE, value_of, lambda x: x + AMOUNT)
    asking, over = asyncio.create_task(caller.run()), asyncio.Event()
    rolling = asyncio.create_task(roll(served, story, over))
    await kill(served, story, minutes, random.Random(5))  # noqa: S311 - moments of kills
    over.set()
    await rolling
    caller.stop()
    await asyncio.gather(asking)
    own = sum(call.status == 500 and call.value >= LIMIT for call in caller.calls)
    lost = sum(call.status != 200 for call in caller.calls) - own
    resumed = sorted(story.resumed_s)
    print(
        f"{len(resumed)} kills in {minutes:g} min; {len(caller.calls)} requests, {lost} lost, {own} of the candidate's"
    )
    soon = sum(one <= BAR_S for one in resumed) / len(resumed)
    print(f"resumed after {percentile(resumed, 0.5):.2f} s in the median, {soon:.0%} within {BAR_S:g} s")
    print(f"p90 {percentile(resumed, 0.9):.2f} s, p99 {percentile(resumed, 0.99):.2f} s")
    print(f"rollouts ended: { {f'{version} {phase}': count for (version, phase), count in story.ended.items()} }")
    wrong = [key for key in story.ended if key[1] != _ENDS.get(key[0], "succeeded")]
    return not (lost or wrong or story.backward)


def value_of(chance: random.Random) -> float:
    """An input; one in twenty is of those that version 4 fails for."""
    return float(chance.randrange(LIMIT, 2 * LIMIT) if chance.random() < _SHARE_THAT_FAILS else chance.randrange(LIMIT))


async def _measure_all(minutes: float) -> bool:
    story = Story()
    with tempfile.TemporaryDirectory() as place:
        environment = fill(Path(place))
        with serving(environment, "--control.look-every-s", "0.2") as served:
            right = await measure(served, story, minutes)
            await deliver(environment)
        check(environment, story)
    for problem in story.problems:
        print(problem)
    return right and not story.problems and percentile(sorted(story.resumed_s), 0.5) <= BAR_S


def main() -> None:
    """Measure, print, and say by the exit status whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long (10)")
    sys.exit(not asyncio.run(_measure_all(parser.parse_args().minutes)))


if __name__ == "__main__":
    main()
