"""The speed bars of the HTTP data plane: `python -m benchmarks.http_speed`.

Every scenario keeps its servers running side by side, lets one of them work at a time, and goes round them
several times in changing order, so that a machine's good and bad minutes fall on all. README.md says what
each bar means.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import onnxruntime

from benchmarks import processes, servers
from benchmarks.environments import BuildError
from benchmarks.figures import Bar, Judged, Record, Unmeasured, Verdict, bars_table, figures_table, judge
from benchmarks.inprocess import BATCHES, bare_loop
from benchmarks.load import LoadError, Plan, Request, background_load, closed_loop, open_loop
from benchmarks.servers import Server, ServerError

Opener = Callable[[], AbstractContextManager[Server]]

TINY: Final = "mlp"
TINY_CONNECTIONS: Final = (16, 64)
CONNECTIONS: Final = 16
MIXED_CONNECTIONS: Final = 8
MIXED_RATE: Final = 500.0
OPEN_RATE: Final = 5000.0
OPEN_WARMUP_S: Final = 1.0
SETTLE_S: Final = 3.0
"""How much longer than the open loop the load beside it runs: before (with the warm-up) and after."""
WARMUP_S: Final = 1.0
HELLO_BYTES: Final = 160
LARGE: Final = {"largest": 0, "identity": 1}
"""The models of the copy scenario, and how many large tensors each sends back."""
LARGE_BYTES: Final = 10 * 2**20
COPY_LIMIT: Final = 2.0
"""CPU read as copies holds the event loop's work too: a bare uvloop Protocol that copies once came out at 1.6
to 1.7 (short runs), and a second copy would add one."""
BUFFER_SLACK: Final = 0.25
ORDINARY: Final = (ServerError, LoadError, BuildError, OSError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Settings:
    """What the command line chose."""

    rounds: int = 5
    seconds: float = 5.0
    server_cores: frozenset[int] = frozenset({0})
    load_cores: frozenset[int] = frozenset({1})
    taxiway_python: str = sys.executable
    taxiway_extra: tuple[str, ...] = ()

    def taxiway(self, *names: str, cores: frozenset[int] | None = None) -> AbstractContextManager[Server]:
        """Open taxiway as a user would get it."""
        chosen = set(self.server_cores if cores is None else cores)
        return servers.taxiway(names, chosen, self.taxiway_python, self.taxiway_extra)

    def triton(self, *names: str) -> AbstractContextManager[Server]:
        """Open real Triton."""
        return servers.triton(names, set(self.server_cores))


@dataclass
class Bench:
    """One run of the benchmark: the settings, and the record that the scenarios fill."""

    settings: Settings
    record: Record = field(default_factory=Record)

    @contextlib.contextmanager
    def opened(self, scenarios: Sequence[str], openers: Mapping[str, Opener]) -> Iterator[dict[str, Server]]:
        """Start everybody who can be started; note who cannot, and measure the others all the same."""
        with contextlib.ExitStack() as stack:
            running = {}
            for name, opener in openers.items():
                try:
                    running[name] = replace(stack.enter_context(opener()), name=name)
                except ORDINARY as error:
                    self._note(scenarios, name, error)
            yield running

    def turns(self, names: Sequence[str]) -> Iterator[str]:
        """Name who works next, round after round, each round beginning with another."""
        for index in range(self.settings.rounds):
            shift = index % max(1, len(names))
            say(f"  round {index + 1} of {self.settings.rounds}")
            yield from [*names[shift:], *names[:shift]]

    @contextlib.contextmanager
    def noting(self, scenario: str, name: str) -> Iterator[None]:
        """Turn a failure to measure into a missing figure with its reason."""
        try:
            yield
        except ORDINARY as error:
            self._note([scenario], name, error)

    def _note(self, scenarios: Sequence[str], name: str, error: Exception) -> None:
        say(f"  {name} is not measured: {error}")
        for scenario in scenarios:
            self.record.miss(scenario, name, str(error).splitlines()[0])

    def checked(self, running: dict[str, Server], scenarios: Sequence[str], requests: Mapping[str, Request]) -> None:
        """Drop every server that answers wrongly; warm up the others."""
        for name, server in list(running.items()):
            try:
                for model, request in requests.items():
                    servers.check(server, model, request)
                    self.closed(server, request, CONNECTIONS, min(WARMUP_S, self.settings.seconds))
            except ORDINARY as error:
                self._note(scenarios, name, error)
                del running[name]

    def closed(self, server: Server, request: Request, connections: int, seconds: float) -> dict[str, float]:
        """Run one closed loop and return its figures."""
        cores = self.settings.server_cores
        before, all_before = server.cpu_s, processes.busy_s(cores)
        seen = closed_loop(server.port, request, connections, seconds, set(self.settings.load_cores))
        burnt, all_burnt = server.cpu_s - before, processes.busy_s(cores) - all_before
        return {
            "rate": seen.rate,
            "cpu_us": burnt / seen.requests * 1e6,
            "busy": burnt / seen.seconds,
            "others": max(0.0, all_burnt - burnt) / seen.seconds,
            "p50_ms": seen.p50_ms,
            "p99_ms": seen.p99_ms,
            "mib": server.resident_mib,
        }

    def opened_loop(self, server: Server, request: Request, rate: float) -> dict[str, float]:
        """Run one open loop and return its figures."""
        plan = Plan(rate, self.settings.seconds, OPEN_WARMUP_S)
        seen = open_loop(server.port, request, plan, set(self.settings.load_cores))
        return {
            "rate": seen.rate,
            "p50_ms": seen.p50_ms,
            "p99_ms": seen.p99_ms,
            "unanswered": seen.unanswered,
        }


def say(text: str) -> None:
    """Tell the person who waits; the tables alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def measure_tiny(bench: Bench) -> None:
    """Saturate the tiny model at each number of connections: taxiway, Triton, hello."""
    settings, request = bench.settings, servers.json_request(TINY)
    scenarios = [f"{TINY} c={connections}" for connections in TINY_CONNECTIONS]
    rivals: dict[str, Opener] = {
        "taxiway": partial(settings.taxiway, TINY),
        "triton": partial(settings.triton, TINY),
    }
    with bench.opened(scenarios, rivals) as running, contextlib.ExitStack() as stack:
        bench.checked(running, scenarios, {TINY: request})
        size = servers.check(running["taxiway"], TINY, request) if "taxiway" in running else HELLO_BYTES
        floor: dict[str, Opener] = {"hello": partial(servers.hello, size, set(settings.server_cores))}
        running.update(stack.enter_context(bench.opened(scenarios, floor)))
        for name in bench.turns(list(running)):
            for scenario, connections in zip(scenarios, TINY_CONNECTIONS, strict=True):
                with bench.noting(scenario, name):
                    figures = bench.closed(running[name], request, connections, settings.seconds)
                    bench.record.add(scenario, name, **figures)


def loop_name(batch: int) -> str:
    """Name the bare loop at one batch as a server."""
    return f"bare loop x{batch}"


def measure_large(bench: Bench, model: str) -> None:
    """Saturate a larger model: taxiway, Triton, and the bare loop at each batch."""
    settings, request = bench.settings, servers.json_request(model)
    rivals: dict[str, Opener] = {
        "taxiway": partial(settings.taxiway, model),
        "triton": partial(settings.triton, model),
    }
    with bench.opened([model], rivals) as running:
        bench.checked(running, [model], {model: request})
        for name in bench.turns([*running, "bare loop"]):
            if name == "bare loop":
                _measure_bare(bench, model)
                continue
            with bench.noting(model, name):
                figures = bench.closed(running[name], request, CONNECTIONS, settings.seconds)
                bench.record.add(model, name, **figures)


def _measure_bare(bench: Bench, model: str) -> None:
    # A third of a server's time for each batch: six of them take twice as long as one server.
    seen = bare_loop(model, bench.settings.seconds / 3, set(bench.settings.server_cores))
    for batch, rate in seen.rows_per_s.items():
        cpu_us = seen.run_cpu_s[batch] / batch * 1e6
        bench.record.add(model, loop_name(batch), rate=rate, cpu_us=cpu_us)


def over_bare_loop(model: str, record: Record) -> float:
    """Return taxiway's rate over the bare loop's at the batch that suited the loop best."""
    best = record.best(model, "rate", [loop_name(batch) for batch in BATCHES])
    return record.ratio(model, "rate", "taxiway", best)


def measure_mixed(bench: Bench) -> None:
    """Ask the tiny model in an open loop while MiniLM is saturated in the same server."""
    settings = bench.settings
    requests = {TINY: servers.json_request(TINY), "minilm": servers.json_request("minilm")}
    rivals: dict[str, Opener] = {
        "taxiway": partial(settings.taxiway, *requests),
        "triton": partial(settings.triton, *requests),
    }
    scenarios = ["mixed: mlp", "mixed: minilm"]
    with bench.opened(scenarios, rivals) as running:
        bench.checked(running, scenarios, requests)
        for name in bench.turns(list(running)):
            with bench.noting(scenarios[0], name):
                _mixed_round(bench, running[name], requests)


def _mixed_round(bench: Bench, server: Server, requests: Mapping[str, Request]) -> None:
    settings = bench.settings
    lasting = settings.seconds + OPEN_WARMUP_S + SETTLE_S
    cores = set(settings.load_cores)
    with background_load(server.port, requests["minilm"], MIXED_CONNECTIONS, lasting, cores) as beside:
        figures = bench.opened_loop(server, requests[TINY], MIXED_RATE)
        saturating = beside.finish()
    bench.record.add("mixed: mlp", server.name, **figures)
    bench.record.add(
        "mixed: minilm",
        server.name,
        rate=saturating.rate,
        p50_ms=saturating.p50_ms,
        p99_ms=saturating.p99_ms,
    )


def measure_open(bench: Bench) -> None:
    """Ask the tiny model 5,000 times a second: taxiway, Triton, and hello for the floor."""
    settings, request = bench.settings, servers.json_request(TINY)
    rivals: dict[str, Opener] = {
        "taxiway": partial(settings.taxiway, TINY),
        "triton": partial(settings.triton, TINY),
    }
    floor: dict[str, Opener] = {"hello": partial(servers.hello, HELLO_BYTES, set(settings.server_cores))}
    with bench.opened(["open"], rivals) as running, bench.opened(["open"], floor) as lowest:
        bench.checked(running, ["open"], {TINY: request})
        running.update(lowest)
        for name in bench.turns(list(running)):
            with bench.noting("open", name):
                bench.record.add("open", name, **bench.opened_loop(running[name], request, OPEN_RATE))


def measure_cores(bench: Bench) -> None:
    """Saturate MiniLM on one core and on both; a start of its own each, where it counts its cores."""
    settings, request = bench.settings, servers.json_request("minilm")
    one = settings.server_cores
    chosen = {"taxiway 1 core": one, "taxiway 2 cores": one | settings.load_cores}
    for name in bench.turns(list(chosen)):
        with bench.noting("two-cores", name), settings.taxiway("minilm", cores=chosen[name]) as server:
            servers.check(server, "minilm", request)
            bench.closed(server, request, CONNECTIONS, min(WARMUP_S, settings.seconds))
            figures = bench.closed(server, request, CONNECTIONS, settings.seconds)
            bench.record.add("two-cores", name, **figures)


def copy_scenario(model: str) -> str:
    """Name the copy scenario of one model."""
    return f"copy: {model}"


def measure_copy(bench: Bench) -> None:
    """Send 10 MiB in binary to taxiway and to raw sinks that copy it not at all and once."""
    for model, answers in LARGE.items():
        scenario, request = copy_scenario(model), servers.binary_request(model)
        cores = set(bench.settings.server_cores)
        rivals: dict[str, Opener] = {
            "taxiway": partial(bench.settings.taxiway, model),
            "sink": partial(servers.sink, answers * LARGE_BYTES, cores, copies=0),
            "copying sink": partial(servers.sink, answers * LARGE_BYTES, cores, copies=1),
        }
        with bench.opened([scenario], rivals) as running:
            # Taken before the first large request: what memory the first one needs, the server may well keep.
            held = {name: processes.resident_bytes(server.pid) for name, server in running.items()}
            for name in bench.turns([*running, "bare loop"]):
                with bench.noting(scenario, name):
                    if name == "bare loop":
                        _measure_run(bench, scenario, model)
                    else:
                        _copy_round(bench, scenario, running[name], request, held[name])
            if "taxiway" in running:
                with bench.noting(scenario, "taxiway"):
                    servers.check(running["taxiway"], model, request)


def _copy_round(bench: Bench, scenario: str, server: Server, request: Request, held_bytes: int) -> None:
    processes.reset_peak(server.pid)
    figures = bench.closed(server, request, 1, bench.settings.seconds)
    growth = (processes.peak_bytes(server.pid) - held_bytes) / LARGE_BYTES
    bench.record.add(scenario, server.name, **figures, buffers=growth)


def _measure_run(bench: Bench, scenario: str, model: str) -> None:
    seen = bare_loop(model, bench.settings.seconds / 3, set(bench.settings.server_cores), batches=[1])
    bench.record.add(scenario, "bare loop", rate=seen.rows_per_s[1], cpu_us=seen.run_cpu_s[1] * 1e6)


def copies(model: str, record: Record) -> float:
    """Read taxiway's CPU per request, less the model's own, on the scale that the two sinks make."""
    scenario = copy_scenario(model)
    ours, none, one, run = (
        record.median(scenario, name, "cpu_us") for name in ("taxiway", "sink", "copying sink", "bare loop")
    )
    if one <= none:
        raise Unmeasured("the sink that copies was no dearer than the one that does not: measure longer")
    return (ours - run - none) / (one - none)


def buffers(model: str, record: Record) -> float:
    """Return by how many 10 MiB buffers taxiway grew beyond what must be there: the body, and the answer."""
    return record.median(copy_scenario(model), "taxiway", "buffers") - 1 - LARGE[model]


def _median(scenario: str, name: str, server: str = "taxiway") -> Callable[[Record], float]:
    return lambda record: record.median(scenario, server, name)


def _ratio(scenario: str, name: str, over: str, under: str) -> Callable[[Record], float]:
    return lambda record: record.ratio(scenario, name, over, under)


def _tiny_bars() -> Iterator[Bar]:
    for connections in TINY_CONNECTIONS:
        key = f"{TINY} c={connections}"
        ahead = _ratio(key, "rate", "taxiway", "triton")
        yield Bar(f"{key}: rate, times Triton's", "at least", 3.0, ahead, aim="the aim is 4")
        yield Bar(f"{key}: CPU us per request", "at most", 22.0, _median(key, "cpu_us"))
        floor = _ratio(key, "cpu_us", "taxiway", "hello")
        yield Bar(f"{key}: CPU per request, times hello's", "at most", 3.0, floor)


def _large_bars(model: str) -> Iterator[Bar]:
    yield Bar(f"{model}: rate, times Triton's", "at least", 1.0, _ratio(model, "rate", "taxiway", "triton"))
    yield Bar(f"{model}: rate, of the best bare loop", "at least", 0.83, partial(over_bare_loop, model))


def _copy_bars() -> Iterator[Bar]:
    ways = {"largest": "10 MiB in", "identity": "10 MiB in and out"}
    for model, way in ways.items():
        yield Bar(f"copy: {way}, CPU as copies", "at most", COPY_LIMIT, partial(copies, model))
        yield Bar(f"copy: {way}, extra buffers", "at most", 1 + BUFFER_SLACK, partial(buffers, model))


@dataclass(frozen=True)
class Scenario:
    """A name for `--only`, how it is measured, and what it promises."""

    measure: Callable[[Bench], None]
    bars: tuple[Bar, ...]


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "mlp": Scenario(measure_tiny, tuple(_tiny_bars())),
    "minilm": Scenario(partial(measure_large, model="minilm"), tuple(_large_bars("minilm"))),
    "magika": Scenario(partial(measure_large, model="magika"), tuple(_large_bars("magika"))),
    "mixed": Scenario(
        measure_mixed,
        (Bar("mixed: p99 ms of mlp beside minilm", "at most", 10.0, _median("mixed: mlp", "p99_ms")),),
    ),
    "open": Scenario(
        measure_open,
        (Bar("open: p50, times Triton's", "at most", 1.0, _ratio("open", "p50_ms", "taxiway", "triton")),),
    ),
    "two-cores": Scenario(
        measure_cores,
        (
            Bar(
                "two-cores: rate, times one core's",
                "at least",
                1.7,
                _ratio("two-cores", "rate", "taxiway 2 cores", "taxiway 1 core"),
            ),
        ),
    ),
    "copy": Scenario(measure_copy, tuple(_copy_bars())),
}


def _cores(text: str) -> frozenset[int]:
    return frozenset(int(part) for part in text.split(","))


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return names


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_speed", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--only", type=_names, default=list(SCENARIOS), help=",".join(SCENARIOS))
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    parser.add_argument("--server-cores", type=_cores, default=frozenset({0}))
    parser.add_argument("--load-cores", type=_cores, default=frozenset({1}))
    parser.add_argument("--taxiway-python", default=sys.executable, help="the Python that has taxiway")
    parser.add_argument(
        "--taxiway-arg", action="append", default=[], help="pass to `taxiway serve`; the bars are for none"
    )
    return parser.parse_args(arguments)


def machine() -> dict[str, object]:
    """Describe where the figures come from, as far as it explains them."""
    return {
        "cpu": processes.cpu_model(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "kernel": platform.release(),
        "onnxruntime": onnxruntime.__version__,
    }


def report(record: Record, judged: Sequence[Judged], where: Mapping[str, object]) -> str:
    """Write everything that was measured as JSON."""
    rows = [
        {"scenario": key.scenario, "server": key.server, "rounds": row, "median": _medians(row)}
        for key, row in record.series.items()
    ]
    bars = [
        {"bar": one.bar.name, "sense": one.bar.sense, "limit": one.bar.limit}
        | {"measured": one.value, "verdict": one.verdict, "reason": one.reason}
        for one in judged
    ]
    return json.dumps({"machine": dict(where), "figures": rows, "bars": bars}, indent=1) + "\n"


def _medians(row: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in row.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the HTTP data plane beside its rivals and hold it to its bars."""
    options = parse(arguments)
    settings = Settings(
        options.rounds,
        options.seconds,
        options.server_cores,
        options.load_cores,
        options.taxiway_python,
        tuple(options.taxiway_arg),
    )
    where = machine()
    bench = Bench(settings)
    for name in options.only:
        say(f"{name}:")
        SCENARIOS[name].measure(bench)
    judged = [judge(bar, bench.record) for name in options.only for bar in SCENARIOS[name].bars]
    print(", ".join(f"{key}: {value}" for key, value in where.items()), end="\n\n")
    print(figures_table(bench.record), end="\n\n")
    print(bars_table(judged))
    if options.json:
        options.json.write_text(report(bench.record, judged, where), encoding="utf-8")
    return 0 if all(one.verdict is Verdict.PASS for one in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
