"""Finds batch, delay, instances and threads by measurement: starts a server for each configuration that is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from taxiway.config.machine import available_cpus
from taxiway.core.errors import InvalidArgument, TargetUnavailable, VerdictFailed
from taxiway.profile.config_search import Best, Config, ConfigPlan, Grid, Measured, run_config_search_async
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.running import run_profile
from taxiway.profile.slos import Slo
from taxiway.profile.targets.served import ServedTarget
from taxiway.profile.wishes import Wishes
from taxiway.profile.workload import Workload

BATCH, DELAY, INSTANCES, THREADS = "max_batch_size", "max_delay_ms", "instances", "intra_op_threads"
_SECTIONS: Final = {BATCH: "batching", DELAY: "batching", INSTANCES: "execution", THREADS: "execution"}
_FAILED: Final = Measured(1e-6, 10.0)
"""What a configuration is worth that does not start, or does not stay: nothing, and it keeps no SLO."""
_MOST_FAILED: Final = 8
"""So many at the beginning, and none that started: it is not the configuration."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found.

    Attributes:
        best: the configuration, and every run.
        before: what the first configuration that could be measured gave, to compare with.
        failed: the configurations that did not start, in words, with why.
    """

    best: Best
    before: Measured
    failed: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The best one; there is one, else `tune` raised."""
        return self.best.config or {}


def default_grid(cpus: int | None = None, most_rows: int = 32) -> Grid:
    """Powers of two up to the processors and to `most_rows`; delays up to 5 ms."""
    cpus = cpus or available_cpus()
    counts = tuple(2**n for n in range(cpus.bit_length()) if 2**n <= cpus)
    rows = tuple(2**n for n in range(most_rows.bit_length()))
    return Grid({BATCH: rows, DELAY: (0.0, 0.5, 1.0, 2.0, 5.0), INSTANCES: counts, THREADS: counts})


def serve_flags(config: Config) -> tuple[str, ...]:
    """A configuration as flags of `taxiway serve`."""
    flags: list[str] = []
    for name, value in config.items():
        flags += [f"--{_SECTIONS[name]}.{name.replace('_', '-')}", f"{value:g}"]
    if config.get(BATCH, 1) > 1:
        flags += ["--batching.best-batch", f"{config[BATCH]:g}"]
    if config.get(BATCH) == 1:
        flags.append("--no-batching.enabled")
    return tuple(flags)


async def measure_config(
    word: str, config: Config, plan: Plan, wishes: Wishes, slo: Slo | None = None, workload: Workload | None = None
) -> Measured:
    """Serve `word` so, load it as planned, and stop the server: answers per second, and its p99 by the SLO's.

    Raises:
        TargetUnavailable: no server starts with this configuration.
    """
    target = ServedTarget(word, replace(wishes, serve_flags=(*wishes.serve_flags, *serve_flags(config))))
    try:
        await target.open()
        profile = await run_profile(plan, target, workload)
    finally:
        await target.close()
    return Measured(max(profile.achieved_per_s, 1e-6), _slowness(profile, slo))


def _slowness(profile: Profile, slo: Slo | None) -> float:
    if profile.error_share > (slo.errors if slo else 0.01):
        return 10.0
    if slo is None or not slo.latency_ms:
        return 0.0
    return profile.latency.percentile(slo.percentile) / 1e6 / slo.latency_ms


async def tune(
    word: str,
    plan: Plan,
    wishes: Wishes = Wishes(),  # noqa: B008 - frozen
    slo: Slo | None = None,
    workload: Workload | None = None,
    grid: Grid | None = None,
    share: float = 0.2,
    tell: Tell = lambda _: None,
) -> Tuned:
    """The configuration of `grid` with the most answers per second that keeps the SLO.

    Args:
        word: a path or a reference, as `taxiway serve` takes it.
        plan: of each run: a closed loop, whose concurrency says how many callers there are.
        wishes: of the requests, and flags that all servers have.
        slo: its latency is a bound; others do not count here.
        workload: what is asked.
        grid: what is tried; None: `default_grid`.
        share: of the grid that is measured at most.
        tell: is told what is measured next.

    Raises:
        InvalidArgument: the loop is open, where every configuration that keeps up is as good.
        TargetUnavailable: none of the configurations starts.
        VerdictFailed: nothing that was measured keeps the SLO.
    """
    if plan.concurrency is None:
        raise InvalidArgument("tuning needs a closed loop", hint="--concurrency 16: how many callers there are at once")
    runs: list[Measured] = []
    failed: list[tuple[Config, TargetUnavailable]] = []

    async def measure(config: Config) -> Measured:
        tell(f"run {len(runs) + len(failed) + 1}: {config_words(config)}")
        try:
            runs.append(await measure_config(word, config, plan, wishes, slo, workload))
        except TargetUnavailable as error:
            failed.append((config, error))
            if not runs and len(failed) == _MOST_FAILED:
                raise _none_started(failed) from None
            return _FAILED
        return runs[-1]

    best = await run_config_search_async(ConfigPlan(grid or default_grid(), share=share, seed=plan.seed), measure)
    if not runs:
        raise _none_started(failed)
    if best.config is None:
        raise VerdictFailed(
            f"none of {len(best.runs)} configurations keeps the SLO with {plan.concurrency} callers",
            hint="fewer callers (--concurrency), or a wider --slo",
        )
    return Tuned(best, runs[0], tuple(f"{config_words(config)}: {_reason(error)}" for config, error in failed))


def _none_started(failed: Sequence[tuple[Config, TargetUnavailable]]) -> TargetUnavailable:
    first = failed[0][1]
    return first.retold(f"none of {len(failed)} configurations could be measured; the first: {first.message}")


def _reason(error: TargetUnavailable) -> str:
    """In one line: what the server called its error, where it said anything."""
    lines = error.message.splitlines()
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])


def config_words(config: Config) -> str:
    """`max_batch_size 8, max_delay_ms 0.5`."""
    return ", ".join(f"{name} {value:g}" for name, value in config.items())


def settings_fragment(config: Config) -> dict[str, dict[str, Any]]:
    """For the settings of `taxiway serve` (`--config FILE`, as YAML)."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in config.items():
        sections.setdefault(_SECTIONS[name], {})[name] = value
    if config.get(BATCH, 1) > 1:
        sections["batching"]["best_batch"] = config[BATCH]
    if config.get(BATCH) == 1:
        sections["batching"]["enabled"] = False
    return sections


def pbtxt_fragment(config: Mapping[str, Any]) -> str:
    """For the model's config.pbtxt, Triton's words; threads have none there, they stand in the settings."""
    lines = []
    batch = config.get(BATCH, 1)
    if batch > 1:
        delay_us = round(config.get(DELAY, 0) * 1000)
        lines.append(f"max_batch_size: {batch}")
        lines.append(
            f"dynamic_batching {{ preferred_batch_size: [ {batch} ] max_queue_delay_microseconds: {delay_us} }}"
        )
    if INSTANCES in config:
        lines.append(f"instance_group [ {{ count: {config[INSTANCES]} kind: KIND_CPU }} ]")
    return "\n".join(lines) + "\n"
