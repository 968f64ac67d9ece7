"""Whether the profiler tells the truth: `python -m benchmarks.profile_truth [--only stall replay loadgen speed]`.

stall    A server stalls for 2 s once under 200 requests/s: the reported p99 beside what arithmetic says.
replay   A bursty trace at 500/s: the CV of the gaps as sent beside that of the trace, and how late requests were sent.
loadgen  MLPerf's LoadGen and we measure the same server at the same rate: p50 and p99 of both.
speed    How many requests of a tiny body one generator process sends on one core, to a bare server on another.

Two quiet cores. Each part prints a line, and the exit code is 1 if any misses its bar.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import uvloop
from numpy.typing import NDArray
from tools.environments import ensure_environment

from benchmarks.environments import REPOSITORY
from benchmarks.processes import pinned
from taxiway.profile.arrivals import Constant, Poisson, Replay
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.outcome import Profile
from taxiway.profile.phases import Counters
from taxiway.profile.plan import Plan
from taxiway.profile.running import run_profile
from taxiway.profile.samples import Samples
from taxiway.profile.workload import Workload

PORT: Final = 19_100
LOAD, SERVER = {0}, {1}
WIRE: Final = b"POST /v2/models/any/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
RATE: Final = 200.0
STALL_S: Final = 2.0
TOLERANCE: Final = 0.05
"""Of the p99 of a stall, of the CV, and of LoadGen's percentiles."""
LATE_MS: Final = 2.0
LEAST_PER_S: Final = 20_000.0
TRIES: Final = 3


@dataclass
class Bare:
    """A target that takes any bytes: see `Target`."""

    port: int
    name: str = "bare"

    async def open(self) -> None:
        """Nothing to ask."""

    async def close(self) -> None:
        """Nothing was started."""

    @property
    def door(self) -> Door:
        """The port."""
        return Door("127.0.0.1", self.port)

    def render(self, workload: Workload | None) -> list[Shot]:  # noqa: ARG002 - there is one request
        """A tiny one."""
        return [Shot(WIRE)]

    async def counters(self) -> Counters | None:
        """None."""
        return None

    def process(self) -> int | None:
        """None."""
        return None


@contextmanager
def running(module: str, *options: str, ready: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A server on its own core."""
    with pinned(SERVER):
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", str(PORT), *options],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
    with process:
        try:
            if ready and process.stdout is not None:
                process.stdout.readline()
            yield process
        finally:
            process.terminate()
            process.communicate()


def measure(plan: Plan) -> tuple[Profile, Samples]:
    """Our own profile of whatever serves."""
    kept: list[Samples] = []
    with pinned(LOAD):
        profile = uvloop.run(run_profile(plan, Bare(PORT), None, kept.append))
    return profile, kept[0]


def measure_valid(plan: Plan) -> tuple[Profile, Samples]:
    """As `measure`; a run that calls itself invalid is repeated, as its reader would, twice at most."""
    for _ in range(TRIES - 1):
        profile, samples = measure(plan)
        if profile.valid:
            return profile, samples
    return measure(plan)


def stall(seconds: float) -> bool:
    """The p99 beside that of requests which wait for the rest of the stall."""
    holds = True
    for arrivals in (Constant(), Poisson()):
        plan = Plan(arrivals, RATE, seconds, warm_up_s=1.0, processes=1)
        with running("benchmarks.profile_servers", "--stall-after", str(seconds / 2), "--stall", str(STALL_S)):
            profile, samples = measure(plan)
        truth = stalled_p99_ms(samples.after(plan.warm_up_s).due, seconds / 2)
        service = profile.service_percentiles.p99_ms
        error = profile.percentiles.p99_ms / truth - 1
        holds &= abs(error) <= TOLERANCE
        told = f"p99 {profile.percentiles.p99_ms:.0f} ms, truth {truth:.0f} ms ({error:+.2%})"
        print(f"stall    {type(arrivals).__name__.lower()}: {told}; from sending {service:.0f} ms; {words(profile)}")
    return holds


def stalled_p99_ms(due: NDArray[np.float64], begins_s: float) -> float:
    """Of requests due in the stall, which waited for its end; all others waited for nothing."""
    ends = begins_s + STALL_S
    waits = np.where((due >= begins_s) & (due < ends), ends - due, 0.0)
    return float(np.percentile(waits, 99, method="inverted_cdf")) * 1e3


def replay(seconds: float) -> bool:
    """A trace whose gaps vary three times as much as a Poisson process's, at 500/s."""
    rng = np.random.default_rng(11)
    gaps = rng.gamma(1 / 9, 9 / 500, int(700 * seconds))
    times = np.cumsum(gaps)
    times = times[times < seconds]
    plan = Plan(Replay(times), 500.0, seconds, warm_up_s=0.0, processes=1)
    with running("benchmarks.hello", ready=False):
        await_port()
        profile, samples = measure_valid(plan)
    wanted, got = variation(samples.due), variation(samples.sent)
    late = float(np.percentile((samples.sent - samples.due) * 1e3, 99))
    error = got / wanted - 1
    holds = abs(error) <= TOLERANCE and late <= LATE_MS
    print(f"replay   CV {got:.3f} of {wanted:.3f} ({error:+.2%}), sent {late:.3f} ms late at p99; {words(profile)}")
    return holds


def variation(times: NDArray[np.float64]) -> float:
    """Standard deviation of the gaps over their mean."""
    gaps = np.diff(np.sort(times))
    return float(gaps.std() / gaps.mean())


def loadgen(seconds: float) -> bool:
    """LoadGen and we, one after the other, on a server that waits as long as it draws."""
    python = ensure_environment("loadgen", "--require-hashes")
    rate = RATE
    with running("benchmarks.profile_servers", "--delay-ms", "8"), pinned(LOAD):
        script = REPOSITORY / "benchmarks" / "loadgen_server.py"
        command = [str(python), str(script), str(PORT), str(rate), str(seconds), "64"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds * 3 + 60)
    theirs: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    with running("benchmarks.profile_servers", "--delay-ms", "8"):
        profile, _ = measure_valid(Plan(Poisson(), rate, seconds, warm_up_s=1.0, processes=1))
    holds = True
    told = []
    for name in ("p50_ms", "p99_ms"):
        ours = float(getattr(profile.percentiles, name))
        holds &= abs(ours / theirs[name] - 1) <= TOLERANCE
        told.append(f"{name[:3]} {ours:.2f} ms, LoadGen {theirs[name]:.2f} ms ({ours / theirs[name] - 1:+.2%})")
    print(f"loadgen  {'; '.join(told)}; {words(profile)}")
    return holds


def speed(seconds: float) -> bool:
    """A closed loop as fast as it goes, then an open loop at the bar."""
    with running("benchmarks.hello", ready=False):
        await_port()
        closed, _ = measure(Plan(Constant(), 1.0, seconds, concurrency=64, processes=1))
        at_bar, _ = measure_valid(Plan(Constant(), LEAST_PER_S, seconds, processes=1))
    lag = at_bar.lag_percentiles.p99_ms
    print(f"speed    closed loop {closed.achieved_per_s:,.0f}/s on one core (p99 {closed.percentiles.p99_ms:.2f} ms)")
    print(
        f"speed    open loop at {LEAST_PER_S:,.0f}/s: sent {at_bar.sent_per_s:,.0f}/s, lag p99 {lag:.3f} ms, "
        f"latency p99 {at_bar.percentiles.p99_ms:.3f} ms; {words(at_bar)}"
    )
    return closed.achieved_per_s >= LEAST_PER_S and at_bar.sent_per_s >= 0.99 * LEAST_PER_S


def await_port() -> None:
    """Until somebody listens."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


def words(profile: Profile) -> str:
    """Whether the run was valid."""
    return "valid" if profile.valid else f"INVALID: {profile.reasons[0]}"


PARTS: Final[dict[str, Callable[[float], bool]]] = {
    "stall": stall,
    "replay": replay,
    "loadgen": loadgen,
    "speed": speed,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_truth", description=main.__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run")
    options = parser.parse_args(arguments)
    held = [PARTS[name](options.seconds) for name in options.only]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
