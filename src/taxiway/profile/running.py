"""Runs a plan against a target: generator processes, what the server counts beside them, and the profile in the end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InternalError, InvalidArgument, TargetUnavailable
from taxiway.profile.arrivals import Replay
from taxiway.profile.generating.job import LENGTH_BYTES, READY, Job, Report, Shot, framed
from taxiway.profile.gpus import GpuSampler
from taxiway.profile.judging import judge
from taxiway.profile.outcome import Profile
from taxiway.profile.phases import Counters, Phases, phases_between
from taxiway.profile.plan import CALLS_PER_PROCESS, REQUESTS_PER_PROCESS, Plan
from taxiway.profile.resources import ProcessSampler, Usage
from taxiway.profile.samples import OK, Samples
from taxiway.profile.targets.target import Target
from taxiway.profile.workload import Workload

_HEAD_START_S: Final = 0.05
_SAMPLE_S: Final = 0.5
_SPIN_S: Final = 0.005
_START_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 5.0


class NothingDue(InvalidArgument):
    """A plan whose arrivals are none, as those of a low rate may be within a short run."""


async def run_profile(
    plan: Plan, target: Target, workload: Workload | None = None, keep: Callable[[Samples], None] | None = None
) -> Profile:
    """Load an open target as planned.

    Args:
        plan: when, for how long, by what means.
        target: opened by the caller, who closes it.
        workload: what is asked; None asks what the target makes up.
        keep: is given every sample, the warm-up's too.

    Raises:
        TargetUnavailable: not even the first connection could be opened.
        NothingDue: the plan has no arrivals.
        InvalidArgument: the workload does not fit the target.
    """
    shots = target.render(workload)
    jobs = make_jobs(plan, target, shots, workload)
    before = await target.counters()
    reports, usage = await _measure(jobs, plan, target)
    samples = Samples.joined((report.rows, report.gaps) for report in reports)
    if keep is not None:
        keep(samples)
    examples = {kind: said for report in reversed(reports) for kind, said in report.examples.items()}
    profile = judge(target.name, plan, samples, examples)
    after = await target.counters()
    return replace(profile, usage=usage, phases=_phases(before, after, samples))


def make_jobs(plan: Plan, target: Target, shots: Sequence[Shot], workload: Workload | None) -> list[Job]:
    """The share of each process: every n-th arrival.

    Raises:
        NothingDue: there is nothing to send.
    """
    rng = np.random.default_rng(plan.seed)
    lasts = plan.warm_up_s + plan.duration_s
    closed = plan.concurrency is not None
    due = np.empty(0) if closed else _due(plan, rng, lasts)
    if not shots or not (closed or len(due)):
        raise NothingDue(
            f"no request is due within {lasts:g} s at {plan.rate_per_s:g}/s",
            hint="a longer --duration or a higher --rate",
        )
    drawn = workload is not None and not isinstance(plan.arrivals, Replay)
    which = _choice(rng, len(due) or max(len(shots), 10_000), len(shots), workload if drawn else None)
    if isinstance(plan.arrivals, Replay):
        which = (which + np.uint32(plan.arrivals.begin)) % np.uint32(len(shots))
    count = processes_of(plan, CALLS_PER_PROCESS if target.door.method else REQUESTS_PER_PROCESS)
    spins = (os.cpu_count() or 1) > 1
    return [
        Job(
            door=target.door,
            shots=list(shots),
            due=due[share::count].tobytes(),
            which=which[share::count].tobytes(),
            concurrency=_share(plan.concurrency or 0, share, count),
            duration_s=lasts,
            query=plan.query_samples,
            timeout_s=plan.timeout_s,
            connections=max(_share(plan.connections, share, count), _share(plan.concurrency or 1, share, count), 1),
            spin_s=_SPIN_S if spins else 0.0,
            patient=plan.all_at_once,
        )
        for share in range(count)
    ]


def processes_of(plan: Plan, most_per_s: float = REQUESTS_PER_PROCESS) -> int:
    """How many generator processes there will be, if one is given so many requests per second at most."""
    if plan.concurrency is not None:
        return max(min(plan.processes or 1, plan.concurrency), 1)
    wanted = plan.processes or math.ceil(plan.rate_per_s / most_per_s)
    return max(min(wanted, len(os.sched_getaffinity(0)) if not plan.processes else wanted), 1)


def _due(plan: Plan, rng: np.random.Generator, lasts: float) -> NDArray[np.float64]:
    if plan.all_at_once:
        return np.zeros(max(round(plan.rate_per_s * plan.duration_s), 1))
    return np.ascontiguousarray(plan.arrivals.offsets(rng, plan.rate_per_s, lasts), np.float64)


def _choice(rng: np.random.Generator, count: int, shots: int, workload: Workload | None) -> NDArray[np.uint32]:
    """Which request comes when: in their order, again and again, unless they have different weights."""
    weights = np.array([one.weight for one in workload.requests] if workload else [1.0])
    if len(set(weights.tolist())) == 1:
        return (np.arange(count) % shots).astype(np.uint32)
    return rng.choice(shots, count, p=weights / weights.sum()).astype(np.uint32)


def _share(total: int, share: int, count: int) -> int:
    return total // count + (share < total % count)


async def _measure(jobs: Sequence[Job], plan: Plan, target: Target) -> tuple[list[Report], Usage | None]:
    async with contextlib.AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_Generator(job)) for job in jobs]
        await asyncio.gather(*(process.ready() for process in processes))
        sampler = _Sampling(target.process())
        began = time.monotonic() + _HEAD_START_S
        watching = asyncio.create_task(sampler.watch())
        try:
            async with asyncio.timeout(_limit_s(plan)):
                reports = list(await asyncio.gather(*(process.report(began) for process in processes)))
        except TimeoutError:
            raise TargetUnavailable(
                f"{target.name} left the generator without an end for {_limit_s(plan)} s", hint="is the server well?"
            ) from None
        finally:
            watching.cancel()
        lasted = time.monotonic() - began
    return reports, sampler.usage(sum(report.cpu_s for report in reports) / lasted)


def _limit_s(plan: Plan) -> float | None:
    """When something is broken; where all is due at once it takes as long as the server does."""
    return None if plan.all_at_once else plan.warm_up_s + plan.duration_s + 2 * plan.timeout_s + _START_TIMEOUT_S


class _Sampling:
    """Looks at the server's processes and at GPUs, now and then."""

    def __init__(self, pid: int | None) -> None:
        self._processes = None if pid is None else ProcessSampler(pid)
        self._gpus = GpuSampler.find()

    async def watch(self) -> None:
        """Until cancelled; beside the event loop, which has nothing else to do but shall not be late."""
        while True:
            await asyncio.sleep(_SAMPLE_S)
            if self._processes is not None:
                await asyncio.to_thread(self._processes.sample)
            if self._gpus is not None:
                await asyncio.to_thread(self._gpus.sample)

    def usage(self, generator_cpus: float) -> Usage | None:
        """What was seen."""
        found = None if self._processes is None else self._processes.usage()
        gpus = () if self._gpus is None else self._gpus.gpus()
        if found is None and not gpus:
            return None
        return replace(found or Usage(0.0, 0, 0), gpus=gpus, generator_cpus=generator_cpus)


class _Generator:
    """One process; it ends with the `async with`, whatever happens, and by itself if we are no more."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        # In a session of its own: Ctrl-C is for us, and we tell the generator by closing its input.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "taxiway.profile.generating",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        self._input.close()
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ready(self) -> None:
        """Hand over the job, and wait until it is connected.

        Raises:
            TargetUnavailable: it cannot connect.
        """
        self._input.write(framed(msgspec.msgpack.encode(self._job)))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                said = await self._hear()
        except TimeoutError:
            raise self._unconnected(f"not within {_START_TIMEOUT_S:g} s") from None
        if said != READY:
            raise self._unconnected(_report(said).problem)

    def _unconnected(self, why: str) -> TargetUnavailable:
        where = self._job.door.authority
        return TargetUnavailable(
            f"{where} cannot be connected to: {why}", hint="is the server started, and is this its port?"
        )

    async def report(self, began: float) -> Report:
        """Say when to begin, and wait for what came of it."""
        self._input.write(f"{began!r}\n".encode())
        return _report(await self._hear())

    async def _hear(self) -> bytes:
        try:
            length = int.from_bytes(await self._output.readexactly(LENGTH_BYTES))
            return bytes(await self._output.readexactly(length))
        except asyncio.IncompleteReadError:
            raise InternalError(
                "a generator process ended without a report", hint="its error is printed above"
            ) from None

    @property
    def _input(self) -> Any:  # noqa: ANN401 - a StreamWriter: typed as optional for pipes that are there
        return self._process.stdin if self._process is not None else None

    @property
    def _output(self) -> Any:  # noqa: ANN401 - likewise
        return self._process.stdout if self._process is not None else None


def _report(said: bytes) -> Report:
    return msgspec.msgpack.decode(said, type=Report)


def _phases(before: Counters | None, after: Counters | None, samples: Samples) -> Phases | None:
    answered = samples.ending == OK
    if before is None or after is None or not answered.any():
        return None
    mean_ms = float((samples.done - samples.sent)[answered].mean()) * 1e3
    return phases_between(before, after, mean_ms)
