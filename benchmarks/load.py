"""Load generators: a closed loop through wrk, and an open loop of our own.

A closed loop sends the next request when the last one is answered: it finds the most a server can do. An
open loop sends on a schedule that knows nothing of the server, and counts every latency from the scheduled
moment: a server that stalls is charged for everybody who would have come meanwhile, which a closed loop
politely forgets.

The open loop runs in a process of its own (`python -m benchmarks.load`), on a core of its own, and spins
there: uvloop's timers tick in milliseconds, and what is measured here takes a tenth of one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

import uvloop

from benchmarks.environments import REPOSITORY
from benchmarks.processes import pinned

SCRIPT: Final = Path(__file__).with_name("post.lua")
MARK: Final = "taxiway-json "
DRAIN_S: Final = 5.0
"""How long the open loop waits for late answers before it counts them as they stand."""
WRK_TIMEOUT_S: Final = 30
GRACE_S: Final = 60.0


class LoadError(RuntimeError):
    """The load could not be generated, or a server answered something other than success."""


@dataclass(frozen=True)
class Request:
    """One constant POST; `header_length` is not 0 where the body is the binary extension's."""

    path: str
    body: Path
    content_type: str = "application/json"
    header_length: int = 0

    def wire(self, port: int) -> bytes:
        """Return the request as bytes, head and body."""
        body = self.body.read_bytes()
        extra = f"Inference-Header-Content-Length: {self.header_length}\r\n" if self.header_length else ""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {self.content_type}\r\n"
            f"{extra}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True)
class ClosedLoop:
    """What wrk saw."""

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Plan:
    """An open loop's rate per second, the seconds that count, and those before them that do not."""

    rate: float
    seconds: float
    warmup: float = 1.0


@dataclass(frozen=True)
class OpenLoop:
    """What the open loop saw; `unanswered` requests are in the percentiles with the time they had waited."""

    scheduled: int
    unanswered: int
    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def _wrk_command(port: int, request: Request, connections: int, seconds: float) -> list[str]:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadError("wrk is missing; `apt-get install wrk` brings it")
    # wrk takes whole seconds only.
    options = [f"-t1 -c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={WRK_TIMEOUT_S}s"]
    target = [f"--script={SCRIPT}", f"http://127.0.0.1:{port}{request.path}"]
    arguments = [str(request.body), request.content_type, str(request.header_length)]
    return [wrk, *" ".join(options).split(), *target, "--", *arguments]


def _parse_wrk(command: Sequence[str], code: int, output: str) -> ClosedLoop:
    found = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    if code != 0 or not found:
        raise LoadError(f"{' '.join(command)} ended with {code}:\n{output}")
    report = json.loads(found[0])
    errors = {kind: report[kind] for kind in ("connect", "read", "write", "status", "timeout") if report[kind]}
    if errors or not report["requests"]:
        raise LoadError(f"{report['requests']} answers, errors {errors or 'none'}: nothing that may be measured")
    fields = ("requests", "seconds", "p50_ms", "p90_ms", "p99_ms")
    return ClosedLoop(**{field: report[field] for field in fields})


def closed_loop(port: int, request: Request, connections: int, seconds: float, cores: set[int]) -> ClosedLoop:
    """Run wrk to its end; anything but success from the server is a failure of the whole run."""
    command = _wrk_command(port, request, connections, seconds)
    with pinned(cores):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + GRACE_S)
    return _parse_wrk(command, done.returncode, done.stdout + done.stderr)


class Background:
    """A wrk that runs while something else is measured; `finish` returns what it saw."""

    def __init__(self, command: Sequence[str], process: subprocess.Popen[str]) -> None:
        self._command = command
        self._process = process

    def finish(self) -> ClosedLoop:
        """Check that the load outlasted what was measured beside it, and wait for its end."""
        if self._process.poll() is not None:
            raise LoadError("the background load ended before the measurement beside it")
        output, _ = self._process.communicate(timeout=GRACE_S)
        return _parse_wrk(self._command, self._process.returncode, output)


@contextmanager
def background_load(
    port: int, request: Request, connections: int, seconds: float, cores: set[int]
) -> Iterator[Background]:
    """Start wrk and leave it running for the `with` block; it never outlives it."""
    command = _wrk_command(port, request, connections, seconds)
    with pinned(cores):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        try:
            yield Background(command, process)
        finally:
            process.kill()


def open_loop(port: int, request: Request, plan: Plan, cores: set[int]) -> OpenLoop:
    """Run the open loop in a process of its own."""
    options = {"port": port, "path": request.path, "body": request.body} | asdict(plan)
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "benchmarks.load", *arguments]
    limit = plan.seconds + plan.warmup + DRAIN_S + GRACE_S
    with pinned(cores):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, cwd=REPOSITORY)
    if done.returncode != 0:
        raise LoadError(f"the open loop ended with {done.returncode}: {done.stderr.strip()}")
    return OpenLoop(**json.loads(done.stdout))


def schedule(rate: float, seconds: float) -> list[float]:
    """Return Poisson arrivals, the same for every server: users do not come at even distances."""
    source = random.Random(20_240)  # noqa: S311 - a repeatable schedule, not a secret
    times, now = [], 0.0
    while (now := now + source.expovariate(rate)) < seconds:
        times.append(now)
    return times


class Lane(asyncio.Protocol):
    """One kept-alive connection that carries one request at a time."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; the pump decides when to write."""
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, wire: bytes, due: float) -> None:
        """Write the request that was due at `due`."""
        assert self._transport is not None
        self.due = due
        self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        """Collect one answer; it is complete when its Content-Length is there."""
        received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0 or len(received) < head + 4 + _content_length(received[:head]):
            self._received = received
            return
        self._received = b""
        if not received.startswith(b"HTTP/1.1 200"):
            self._pump.fail(f"not a success: {received[:400]!r}")
            return
        self._pump.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a connection that the server closed; the pump ignores this once it is done."""
        self._pump.fail(f"the server closed a connection: {exc}")

    def close(self) -> None:
        """Close the connection."""
        assert self._transport is not None
        self._transport.abort()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise LoadError(f"an answer without Content-Length: {head!r}")


class Pump:
    """Hands scheduled requests to idle lanes, and never waits for the server to schedule the next."""

    def __init__(self, wire: bytes, times: Sequence[float], warmup_s: float) -> None:
        self._wire = wire
        self._times = deque(times)
        self._warmup_s = warmup_s
        self._start = 0.0
        self._end = times[-1] + DRAIN_S
        self._waiting: deque[float] = deque()
        self._idle: list[Lane] = []
        self._busy: set[Lane] = set()
        self._latencies: list[float] = []
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()

    async def run(self, port: int, connections: int) -> list[float]:
        """Send the whole schedule; return seconds from due to answered, of what was due after the warm-up."""
        lanes = [
            (await self._loop.create_connection(lambda: Lane(self), "127.0.0.1", port))[1] for _ in range(connections)
        ]
        self._idle.extend(lanes)
        self._start = time.perf_counter()
        self._tick()
        try:
            await self._finished
        finally:
            for lane in lanes:
                lane.close()
        return self._latencies

    @property
    def late(self) -> list[float]:
        """How long each request had waited that was never answered."""
        now = time.perf_counter() - self._start
        dues = [*self._waiting, *(lane.due for lane in self._busy)]
        return [now - due for due in dues if due >= self._warmup_s]

    def answered(self, lane: Lane) -> None:
        """Take a lane back; its latency runs from when the request was due, not from when it was sent."""
        now = time.perf_counter() - self._start
        if lane.due >= self._warmup_s:
            self._latencies.append(now - lane.due)
        self._busy.discard(lane)
        self._idle.append(lane)

    def fail(self, reason: str) -> None:
        """End the run; a load with errors in it measures nothing."""
        if not self._finished.done():
            self._finished.set_exception(LoadError(reason))

    def _tick(self) -> None:
        now = time.perf_counter() - self._start
        times, waiting, idle = self._times, self._waiting, self._idle
        while times and times[0] <= now:
            waiting.append(times.popleft())
        while waiting and idle:
            lane = idle.pop()
            self._busy.add(lane)
            lane.send(self._wire, waiting.popleft())
        if self._finished.done():
            return
        if now > self._end or not (times or waiting or self._busy):
            self._finished.set_result(None)
            return
        self._loop.call_soon(self._tick)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


async def _run_open(options: argparse.Namespace) -> OpenLoop:
    wire = Request(options.path, options.body).wire(options.port)
    pump = Pump(wire, schedule(options.rate, options.warmup + options.seconds), options.warmup)
    answered = await pump.run(options.port, options.connections)
    late = pump.late
    ordered = sorted([*answered, *late])
    p50, p90, p99 = (percentile(ordered, share) * 1e3 for share in (0.5, 0.9, 0.99))
    return OpenLoop(
        scheduled=len(ordered),
        unanswered=len(late),
        rate=len(answered) / options.seconds,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=ordered[-1] * 1e3,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the open loop and print what it saw as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds sent before and not counted")
    parser.add_argument("--connections", type=int, default=32, help="a request waits where all of them are busy")
    options = parser.parse_args(arguments)
    # The generator's own garbage collection would look like the server's latency.
    gc.disable()
    try:
        seen = uvloop.run(_run_open(options))
    except (LoadError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(seen)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
