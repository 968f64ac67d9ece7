"""Rollouts of a real served model under load: `python -m benchmarks.rollout_live [--only NAME ...]`.

A model is served by its alias and asked by an open loop of many users while candidates are rolled out: one that answers
the same, one that is slower, one that fails for some inputs, one whose answers are wrong (found by its shadow). The
bars:

- each regression is found, and rolled back; the equal candidate is promoted;
- nobody but the users of the candidate's share meets it: at most the weight that it had when it was turned back;
- no request fails but those that the candidate itself failed;
- rollback: from the decision to the last request that the candidate admitted, 99th percentile at most 100 ms, ordered
  by
  a person; and from the first failure to the last request where the data plane's own fuse blows while the control
  process is dead. MLflow is out of reach all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load import percentile
from benchmarks.rollout_load import Call, Caller
from benchmarks.rollout_place import AMOUNT, EQUAL, FAILING, LIMIT, MODEL, SLOW, WRONG, Served, fill, serving

BAR_MS: Final = 100.0
_RATE: Final = 200.0
_PATIENCE_S: Final = 600.0
_SHARE_THAT_FAILS: Final = 0.02
_QUICK: Final = {"min_step_s": 10, "settle_s": 2, "guard_for_s": 5, "max_duration_s": 3600}


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate, and how its rollout must end."""

    version: int
    phase: str
    plan: dict[str, Any]


_ERRORS: Final = [{"metric": "errors", "margin": 0.25, "allowance": 0.01}]
_LATENCY: Final = [
    *_ERRORS,
    {"metric": "slow-slots", "margin": 0.1, "required": False},
    {"metric": "latency", "quantile": 0.5, "margin": 0.25},
]
_ALIKE: Final = [{"metric": "agreement", "margin": 0.02}]
CASES: Final = {
    "equal": Case(EQUAL, "succeeded", {"steps": [10, 50, 100], "guards": {"metrics": _LATENCY}}),
    "slow": Case(SLOW, "rolled-back", {"steps": [10, 100], "guards": {"metrics": _LATENCY}}),
    "failing": Case(FAILING, "rolled-back", {"steps": [10, 100], "guards": {"metrics": _ERRORS}}),
    "wrong": Case(WRONG, "rolled-back", {"shadow": {"percent": 50}, "guards": {"metrics": _ALIKE}}),
}


def value_of(chance: random.Random) -> float:
    """An input; one in fifty is of those that version 4 fails for."""
    return float(chance.randrange(LIMIT, 2 * LIMIT) if chance.random() < _SHARE_THAT_FAILS else chance.randrange(LIMIT))


@asynccontextmanager
async def load(served: Served, *, rate: float = _RATE) -> AsyncIterator[Caller]:
    """Ask all the time, within."""
    caller = Caller(served.http, MODEL, rate, value_of, lambda x: x + AMOUNT)
    running = asyncio.create_task(caller.run())
    try:
        yield caller
    finally:
        caller.stop()
        await running


async def told(served: Served, rollout: str) -> dict[str, Any]:
    """What control says of it, without holding up the load."""
    answer: dict[str, Any] = await asyncio.to_thread(served.get, f"/v1/rollouts/{rollout}")
    return answer


async def until(served: Served, rollout: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until a rollout is so; what is said of it then."""
    begun = time.monotonic()
    while not reached(state := await told(served, rollout)):
        if time.monotonic() - begun > _PATIENCE_S:
            raise RuntimeError(
                f"rollout {rollout} is in phase {state['rollout']['phase']}: {state['rollout']['reason']}"
            )
        await asyncio.sleep(0.1)
    return state


async def start(served: Served, version: int, **plan: Any) -> str:  # noqa: ANN401 - a plan
    """Begin one."""
    words = {"service": MODEL, "plan": {"to": str(version), **_QUICK, **plan}, "reason": "a benchmark", "force": True}
    answer = await asyncio.to_thread(served.post, "/v1/rollouts", words)
    return str(answer["rollout"]["id"])


async def candidates(served: Served, name: str, case: Case) -> list[str]:
    """Roll one candidate out; what is not as it should be."""
    async with load(served) as caller:
        await asyncio.sleep(2)
        begun = time.time()
        rollout = await start(served, case.version, **case.plan)
        state = await until(served, rollout, lambda now: now["ended"])
        took_s = time.time() - begun
        await asyncio.sleep(1)
    calls = [call for call in caller.calls if call.sent_at >= begun]
    users = {call.user for call in calls}
    exposed = {call.user for call in calls if call.version == case.version}
    lost = [call for call in calls if call.status == 0]
    failed = [call for call in calls if call.status not in (0, 200)]
    share = len(exposed) / max(1, len(users))
    phase = state["rollout"]["phase"]
    print(
        f"{name:>8}: {phase} after {took_s:.0f} s; {len(calls)} requests, {len(failed)} failed, {len(lost)} lost; "
        f"{share:.1%} of {len(users)} users met version {case.version}; {state['rollout']['reason']}"
    )
    problems = [] if phase == case.phase else [f"{name}: {phase}, not {case.phase}"]
    problems += [f"{name}: {problem}" for problem in caller.problems[:3] if lost]
    if case.phase == "rolled-back" and share > 0.12:
        problems.append(f"{name}: {share:.1%} of the users met the candidate, whose weight was 10 %")
    if failed and case.version != FAILING:
        problems.append(f"{name}: {len(failed)} requests failed: {caller.problems[:2]}")
    return problems


def last_ms(calls: Sequence[Call], version: int, decided_at: float) -> float:
    """From a decision to the last request that was sent and yet answered by the candidate; 0: none was."""
    sent = [call.sent_at for call in calls if call.version == version and call.sent_at > decided_at]
    return (max(sent) - decided_at) * 1000 if sent else 0.0


async def aborts(served: Served, rounds: int) -> list[float]:
    """A person says abort, again and again: milliseconds from the word to the last request that the candidate took."""
    times = []
    for _ in range(rounds):
        async with load(served, rate=400.0) as caller:
            rollout = await start(served, EQUAL, steps=[50, 100], min_step_s=3600, twin=False)
            await until(served, rollout, lambda now: now["rollout"]["phase"] == "step")
            await until_asked(caller, EQUAL)
            said_at = time.time()
            await asyncio.to_thread(served.post, f"/v1/rollouts/{rollout}/abort", {"reason": "a benchmark"})
            await until(served, rollout, lambda now: now["ended"])
            await asyncio.sleep(0.3)
        times.append(last_ms(caller.calls, EQUAL, said_at))
    return times


async def until_asked(caller: Caller, version: int) -> None:
    """Until a version has answered ten times."""
    while sum(call.version == version for call in caller.calls) < 10:  # noqa: ASYNC110 - the callers know no waiters
        await asyncio.sleep(0.02)


async def fuses(served: Served, rounds: int) -> list[float]:
    """The control process is dead, the candidate begins to fail: milliseconds from its first failure to its last."""
    times = []
    for _ in range(rounds):
        async with load(served, rate=400.0) as caller:
            rollout = await start(served, FAILING, steps=[50, 100], min_step_s=3600, twin=False)
            await until(served, rollout, lambda now: now["rollout"]["phase"] == "step")
            await until_asked(caller, FAILING)
            os.kill(served.control_pid(), signal.SIGKILL)
            caller.values = lambda chance: float(chance.randrange(LIMIT, 2 * LIMIT))
            turned_at = time.time()
            await asyncio.sleep(2)
            failed = [call.sent_at for call in caller.calls if call.status not in (0, 200) and call.sent_at > turned_at]
            await until_back(served)
            await until(served, rollout, lambda now: now["ended"])
        times.append((max(failed) - min(failed)) * 1000 if failed else 0.0)
    return times


async def until_back(served: Served) -> None:
    """Until the control process answers again."""
    while True:
        try:
            await asyncio.to_thread(served.get, "/v1/health")
        except (OSError, RuntimeError):
            await asyncio.sleep(0.1)
        else:
            return


def rollback(name: str, times: Sequence[float], *, has_bar: bool) -> list[str]:
    """Print the times of rollbacks; what breaks the bar.

    Those of fuses begin with the candidate's first failure: most of it is the evidence that it has to gather. From the
    moment when a fuse blows nothing is admitted any more, which tests/flow/test_splitting.py proves.
    """
    ordered = sorted(times)
    p99 = percentile(ordered, 0.99)
    print(f"{name:>8}: {len(ordered)} rollbacks; median {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms")
    return [f"{name}: p99 {p99:.1f} ms"] if has_bar and p99 > BAR_MS else []


async def measure(only: Sequence[str], rounds: int) -> list[str]:
    """Everything that was asked for; what is not as it should be."""
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        environment = fill(Path(place))
        # Out of reach, and of no consequence.
        environment["TAXIWAY_MLFLOW__TRACKING_URI"] = "http://127.0.0.1:9"
        for name, case in CASES.items():
            if name in only:
                with serving(environment) as served:
                    problems += await candidates(served, name, case)
                if name == "equal":  # it is `stable` now; the others begin where it did
                    restore(environment)
        for name, act in (("abort", aborts), ("fuse", fuses)):
            if name in only:
                with serving(environment) as served:
                    problems += rollback(name, await act(served, rounds), has_bar=act is aborts)
    return problems


def restore(environment: dict[str, str]) -> None:
    """Point the alias at the first version again."""
    import subprocess  # noqa: PLC0415 - once

    words = ["alias", "set", f"{MODEL}@stable", "1", "--why", "the next candidate"]
    subprocess.run([sys.executable, "-m", "taxiway", *words], env={**os.environ, **environment}, check=True)


def main() -> int:
    """Run; 1 if a bar is not reached."""
    names = [*CASES, "abort", "fuse"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=20, help="rollbacks of each kind")
    said = parser.parse_args()
    problems = asyncio.run(measure(said.only, said.rounds))
    print("\n".join(problems) or "every bar is reached")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
