"""`taxiway profile TARGET`."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from taxiway.cli.desk import output_option
from taxiway.cli.options import read_output
from taxiway.cli.profile_result import Outputs, Result
from taxiway.cli.profile_search import TUNE_HELP, Want, run_search, run_tuning
from taxiway.cli.progress import Progress
from taxiway.core.errors import TaxiwayError, VerdictFailed, VerdictInconclusive
from taxiway.profile.arrivals import Replay, parse_arrival
from taxiway.profile.outcome import Profile
from taxiway.profile.page import format_page
from taxiway.profile.plan import Plan
from taxiway.profile.report import format_profile, format_ramp, profile_data
from taxiway.profile.running import run_profile
from taxiway.profile.scenarios import Claim, Scenario, claim, format_claim, scenario_plan
from taxiway.profile.slos import Slo, broken_terms, parse_slo
from taxiway.profile.targets.finding import find_target
from taxiway.profile.traces import read_requests
from taxiway.profile.wishes import Wishes
from taxiway.profile.workload import Workload

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h)?")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_MAX_RUNS = 1000
_RAMP = re.compile(r"(?P<first>\d+(?:\.\d+)?):(?P<last>\d+(?:\.\d+)?):(?P<step>\d+(?:\.\d+)?)")


def _read_duration(value: str) -> float:
    """`30s`, `500ms`, `2m`."""
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration, as 30s, 500ms or 2m")
    return float(match["number"]) * _UNITS[match["unit"]]


def _read_ramp(value: str) -> list[float]:
    """`FIRST:LAST:STEP`."""
    match = _RAMP.fullmatch(value)
    first, last, step = (float(match[name]) for name in ("first", "last", "step")) if match else (0.0, 0.0, 0.0)
    if not first or not step or last < first:
        raise click.BadParameter(f"{value!r} is not FIRST:LAST:STEP in requests per second, as 10:200:10")
    if not (last - first) / step < _MAX_RUNS:
        raise click.BadParameter(f"{value!r} has more than {_MAX_RUNS} rates; give a larger STEP")
    return [first + step * number for number in range(int((last - first) / step + 1e-9) + 1)]


def _read_shape(value: str) -> tuple[str, tuple[int, ...]]:
    """`NAME:1,128`."""
    match = re.fullmatch(r"(?P<name>[^:]+):(?P<sizes>\d+(,\d+)*)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not NAME:SIZES, as input_ids:1,128")
    return match["name"], tuple(int(size) for size in match["sizes"].split(","))


def _read_header(value: str) -> tuple[str, str]:
    """`Name: value`."""
    name, colon, text = value.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{value!r} is not NAME: VALUE")
    return name.strip(), text.strip()


def _read_flags(value: str) -> tuple[str, ...]:
    """As a shell would."""
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} cannot be split into flags: {error}") from None


_TIME: Any = {"type": _read_duration, "metavar": "TIME"}


@dataclass(frozen=True, slots=True)
class _Promise:
    """What is asked of the results."""

    scenario: Scenario | None
    slo: Slo | None

    def claims(self, profiles: Sequence[Profile]) -> list[Claim]:
        """What each run proves, of a scenario."""
        return [] if self.scenario is None else [claim(self.scenario, one, self.slo) for one in profiles]

    def broken(self, profile: Profile) -> Sequence[str]:
        """What of the SLO was not kept."""
        if self.scenario is not None:
            return claim(self.scenario, profile, self.slo).broken
        return broken_terms(self.slo, profile) if self.slo is not None else ()


@click.command("profile")
@click.argument("target")
@click.option("--rate", type=float, default=None, help="Requests per second, of an open loop. [default: 10]")
@click.option("--duration", **_TIME, default="30s", help="How long it counts. [default: 30s]")
@click.option("--warm-up", **_TIME, default="2s", help="Sent before, and left out. [default: 2s]")
@click.option(
    "--arrival",
    default=None,
    help="constant, poisson, gamma:cv=2, bursts:on=1s,off=4s,factor=10 or replay. "
    "[default: replay of a workload with times, else poisson]",
)
@click.option("--concurrency", type=int, help="A closed loop: so many requests under way at all times.")
@click.option("--ramp", type=_read_ramp, metavar="FIRST:LAST:STEP", help="One run after the other, at these rates.")
@click.option("--scenario", type=click.Choice([one.word for one in Scenario]), help="Of MLPerf.")
@click.option("--slo", type=parse_slo, metavar="SLO", help="MLPerf's by name (bert), or p99<50ms,errors<1%.")
@click.option("--search", is_flag=True, help="Find the highest rate that keeps the --slo.")
@click.option("--tune", "tuned", type=read_output, metavar="FILE", help=TUNE_HELP)
@click.option("--workload", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="What is asked.")
@click.option("--shape", "shapes", multiple=True, type=_read_shape, metavar="NAME:SIZES", help="Of a made-up input.")
@click.option("--header", "headers", multiple=True, type=_read_header, metavar="NAME:VALUE", help="Of every request.")
@click.option("--model", default="", help="Which, where TARGET does not say (OpenAI; a repository of several).")
@click.option(
    "--serve",
    "serve_flags",
    type=_read_flags,
    default="",
    metavar="FLAGS",
    help="Flags of the server that is started for a model.",
)
@click.option("--binary", is_flag=True, help="Tensors as binary data (v2).")
@click.option("--processes", type=int, default=0, help="Of the generator. [default: by the rate]")
@click.option("--connections", type=int, default=1024, help="At most. [default: 1024]")
@click.option(
    "--timeout",
    type=_read_duration,
    metavar="TIME",
    default="30s",
    help="How long to wait for an answer. [default: 30s]",
)
@click.option("--seed", type=int, default=20_240, help="Of the arrivals. [default: 20240]")
@click.option("--json", "json_file", type=read_output, metavar="FILE", help="Write all numbers there.")
@click.option("--html", "html_file", type=read_output, metavar="FILE", help="Write a page there.")
@output_option
def command(
    target: str,
    output: str,
    json_file: Path | None,
    html_file: Path | None,
    workload: Path | None,
    ramp: list[float] | None,
    tuned: Path | None,
    **said: Any,  # noqa: ANN401 - click's values
) -> None:
    """Measure TARGET: the latency of its answers under a load that does not wait for them.

    \b
      taxiway profile http://127.0.0.1:8000/v2/models/fraud --rate 200 --duration 30s
      taxiway profile http://127.0.0.1:8000/v2/models/fraud --ramp 100:1000:100 --html fraud.html
      taxiway profile http://127.0.0.1:8000/v2/models/bert --scenario server --slo bert --rate 50
      taxiway profile grpc://127.0.0.1:8001/fraud --concurrency 8
      taxiway profile http://127.0.0.1:9000/v1/chat/completions --rate 2 --workload trace.jsonl
      taxiway profile http://127.0.0.1:8000/v2/models/fraud --search --slo "p99<50ms"
      taxiway profile fraud:3-int8 --tune fraud.yaml --concurrency 16 --slo "p99<50ms" --duration 5s
      taxiway profile fraud:3-int8 --rate 500 --serve "--batching.max-batch-size 16"

    TARGET is an URL of the v2 protocol (HTTP or gRPC), KServe v1, TorchServe or OpenAI, or a model: a file, a
    repository or a registered version, for which a server is started on free ports and stopped again.

    Latency runs from when a request should have been sent, so that a server which stalls is charged for everybody who
    came meanwhile. If the generator itself was late the run is INVALID, and the exit code is 7; it is 6 if the run was
    valid and broke the --slo.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    asked = None if workload is None else read_requests(workload)
    promise = _Promise(next((one for one in Scenario if one.word == said["scenario"]), None), said["slo"])
    plan = _plan(asked, said)
    if promise.scenario is not None:
        plan = scenario_plan(promise.scenario, plan)
    wishes = Wishes(
        dict(said["headers"]),
        said["binary"],
        dict(said["shapes"]),
        said["model"],
        said["serve_flags"],
    )
    want = Want(target, plan, wishes, said["slo"], asked)
    with Progress(sys.stderr) as progress:
        if tuned is not None:
            work = run_tuning(want, tuned, progress)
        elif said["search"]:
            work = run_search(want, progress)
        else:
            work = _run(want, _plans(plan, ramp), promise, progress)
        result = uvloop.run(_interruptible(work))
    Outputs(output, json_file, html_file).tell(result)


def _plan(workload: Workload | None, said: dict[str, Any]) -> Plan:
    times = workload.times_s() if workload else None
    rate = said["rate"]
    word = said["arrival"] or ("replay" if times is not None and rate is None else "poisson")
    arrivals = parse_arrival(word, times)
    if rate is None and times is not None and isinstance(arrivals, Replay):
        rate = len(times) / (times[-1] - times[0] or 1.0)
    names = ("processes", "connections", "concurrency", "seed")
    return Plan(
        arrivals,
        10.0 if rate is None else rate,
        said["duration"],
        warm_up_s=said["warm_up"],
        timeout_s=said["timeout"],
        **{name: said[name] for name in names},
    )


def _plans(plan: Plan, ramp: list[float] | None) -> list[Plan]:
    return [plan] if ramp is None else [plan.at(rate) for rate in ramp]


async def _run(want: Want, plans: Sequence[Plan], promise: _Promise, progress: Progress) -> Result:
    target = find_target(want.word, want.wishes)
    try:
        progress.tell(f"asking {target.name}")
        await target.open()
        profiles = []
        for plan in plans:
            load = f"{plan.rate_per_s:g}/s" if plan.concurrency is None else f"{plan.concurrency} at a time"
            progress.tell(f"measuring {load} for {plan.warm_up_s + plan.duration_s:g} s")
            profiles.append(await run_profile(plan, target, want.workload))
    finally:
        await target.close()
    return _result(profiles, promise)


async def _interruptible(running: Any) -> Any:  # noqa: ANN401 - a coroutine, and what it returns
    """Ctrl-C and SIGTERM cancel it, so that nothing is left behind."""
    task = asyncio.ensure_future(running)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise SystemExit(130) from None


def _result(profiles: Sequence[Profile], promise: _Promise) -> Result:
    claims = promise.claims(profiles)
    data: Any = [profile_data(one) for one in profiles]
    for one, claimed in zip(data, claims, strict=False):
        one["claim"] = asdict(claimed)
    lines = format_profile(profiles[0]) if len(profiles) == 1 else format_ramp(profiles)
    for claimed in claims:
        lines += ["", *format_claim(claimed)]
    data = data[0] if len(profiles) == 1 else {"runs": data}
    return Result(data, lines, lambda: format_page(profiles), _problem(profiles, promise))


def _problem(profiles: Sequence[Profile], promise: _Promise) -> TaxiwayError | None:
    """For the exit code: a promise that was broken by a valid run, or a run that proves nothing."""
    for profile in profiles:
        if not profile.valid:
            return VerdictInconclusive(
                f"the run at {profile.offered_per_s:.1f}/s is invalid: {profile.reasons[0]}",
                hint="the numbers are the generator's as much as the server's: do not publish them",
            )
        broken = promise.broken(profile)
        if broken:
            rate = f"{profile.offered_per_s:.1f}/s"
            return VerdictFailed(f"the SLO is broken at {rate}: {'; '.join(broken)}", hint="a lower --rate")
    for claimed in promise.claims(profiles):
        if claimed.unproven:
            return VerdictInconclusive(f"{claimed.scenario}: {claimed.unproven[0]}", hint="a longer --duration")
    return None
