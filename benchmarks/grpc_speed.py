"""The speed bars of the gRPC data plane: `python -m benchmarks.grpc_speed`.

As `http_speed.py` does it: every server up at once, one of them at work at a time, rounds that begin with another one
each time, and a bar on the median of each round's ratio. README.md says what each bar means.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks import processes, servers
from benchmarks.figures import Bar, Verdict, bars_table, figures_table, judge
from benchmarks.grpc_load import GrpcCall, closed_calls
from benchmarks.http_speed import Bench, Opener, Settings, machine, report, say
from benchmarks.models import CATALOGUE, MODELS, ensure_models, expected
from benchmarks.servers import TOLERANCE, Server, ServerError

MODEL: Final = "mlp"
PATH: Final = "/inference.GRPCInferenceService/ModelInfer"
SHAPES: Final = {"16 connections": (16, 1), "4 connections x 16": (4, 16)}
"""Connections, and calls at once on each."""
WARMUP_S: Final = 1.0
ASK_TIMEOUT_S: Final = 30.0


def request_message() -> Path:
    """Write one row of the model as a ModelInferRequest with raw contents."""
    ensure_models(MODEL)
    message = service_pb2.ModelInferRequest(model_name=MODEL)
    for name, value in CATALOGUE[MODEL].row().items():
        message.inputs.add(name=name, datatype="FP32", shape=value.shape)
        message.raw_input_contents.append(value.tobytes())
    body = MODELS / f"{MODEL}.pb"
    body.write_bytes(message.SerializeToString())
    return body


def check(server: Server, body: Path) -> int:
    """Ask once and compare with ONNX Runtime in process; the length of the answer's message."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        try:
            content = channel.unary_unary(PATH, None, None)(body.read_bytes(), timeout=ASK_TIMEOUT_S)
        except grpc.RpcError as error:
            raise ServerError(f"{server.name} did not answer: {error}") from error
    answer = service_pb2.ModelInferResponse.FromString(content)
    for index, (name, wanted) in enumerate(expected(CATALOGUE[MODEL]).items()):
        found = np.frombuffer(answer.raw_output_contents[index], wanted.dtype)
        if answer.outputs[index].name != name or not np.allclose(found, wanted.ravel(), atol=TOLERANCE):
            raise ServerError(f"{server.name} answered with wrong numbers")
    return len(content)


def measure(bench: Bench) -> None:
    """Saturate the tiny model at each shape of load: taxiway, the bare server, Triton."""
    settings, body = bench.settings, request_message()
    cores = set(settings.server_cores)
    openers: dict[str, Opener] = {
        "taxiway": partial(servers.taxiway_grpc, [MODEL], cores, settings.taxiway_python, settings.taxiway_extra),
        "bare grpc.aio": partial(servers.bare_grpc, MODEL, cores),
        "triton": partial(servers.triton, [MODEL], cores, over_grpc=True),
    }
    with bench.opened(list(SHAPES), openers) as running:
        calls: dict[str, GrpcCall] = {}
        for name, server in list(running.items()):
            with bench.noting(next(iter(SHAPES)), name):
                calls[name] = GrpcCall(PATH, body, check(server, body))
                closed_calls(server.port, calls[name], (16, 1), WARMUP_S, set(settings.load_cores))
        for name in bench.turns(list(calls)):
            for scenario, shape in SHAPES.items():
                with bench.noting(scenario, name):
                    bench.record.add(scenario, name, **_round(settings, running[name], calls[name], shape))


def _round(settings: Settings, server: Server, call: GrpcCall, shape: tuple[int, int]) -> dict[str, float]:
    cores = settings.server_cores
    before, all_before = server.cpu_s, processes.busy_s(cores)
    seen = closed_calls(server.port, call, shape, settings.seconds, set(settings.load_cores))
    burnt, all_burnt = server.cpu_s - before, processes.busy_s(cores) - all_before
    return {
        "rate": seen.rate,
        "cpu_us": burnt / seen.calls * 1e6,
        "busy": burnt / seen.seconds,
        "others": max(0.0, all_burnt - burnt) / seen.seconds,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "mib": server.resident_mib,
    }


BARS: Final = tuple(
    Bar(
        f"{scenario}: rate, times a bare grpc.aio server's",
        "at least",
        1.0,
        lambda record, scenario=scenario: record.ratio(scenario, "rate", "taxiway", "bare grpc.aio"),  # type: ignore[misc]
    )
    for scenario in SHAPES
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the gRPC data plane beside its rivals and hold it to its bars."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_speed", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    parser.add_argument("--taxiway-arg", action="append", default=[], help="pass to `taxiway serve`")
    options = parser.parse_args(arguments)
    where = machine()
    bench = Bench(Settings(options.rounds, options.seconds, taxiway_extra=tuple(options.taxiway_arg)))
    say("gRPC:")
    measure(bench)
    judged = [judge(bar, bench.record) for bar in BARS]
    print(", ".join(f"{key}: {value}" for key, value in where.items()), end="\n\n")
    print(figures_table(bench.record), end="\n\n")
    print(bars_table(judged))
    if options.json:
        options.json.write_text(report(bench.record, judged, where), encoding="utf-8")
    return 0 if all(one.verdict is Verdict.PASS for one in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
