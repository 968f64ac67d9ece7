"""A Python model over HTTP, on taxiway and on real Triton's Python backend: `python -m benchmarks.python_model`.

The same repository, byte for byte: `echo`, which returns what it is given and does not batch, and `adder`, which adds
two tensors and is batched dynamically. Small tensors, so that what is measured is everything around the model: the
front door, the queue, the way to the model's process and back. Both servers run beside each other and one works at a
time, round after round, each round beginning with the other.

The bar: at least as many requests a second as Triton, in every scenario.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from tools.oracle_triton import OracleUnavailable, TritonServer, ensure_triton

from benchmarks import processes, servers
from benchmarks.environments import CACHE
from benchmarks.figures import Bar, Record, Verdict, bars_table, figures_table, judge
from benchmarks.http_speed import ORDINARY, Bench, Settings, machine, report, say
from benchmarks.load import Request
from benchmarks.servers import HEADER_LENGTH, Server, ServerError

CONNECTIONS: Final = (1, 16, 64)
FORMS: Final = ("json", "binary")
WIDTH: Final = 16
_HEAD = "import numpy as np\nimport triton_python_backend_utils as pb_utils\n\n"
_ECHO = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(request, "X").as_numpy())]
            )
            for request in requests
        ]
"""
_ADDER = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "A").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "B").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", a + b)]))
        return responses
"""
_ECHO_CONFIG = """max_batch_size: 0
input [ { name: "X" data_type: TYPE_FP32 dims: [-1] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [-1] } ]
"""
_ADDER_CONFIG = """max_batch_size: 64
dynamic_batching { }
input [ { name: "A" data_type: TYPE_FP32 dims: [-1] }, { name: "B" data_type: TYPE_FP32 dims: [-1] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [-1] } ]
"""
_MODELS: Final = {
    "echo": (_ECHO_CONFIG, _ECHO, ("X",), (WIDTH,)),
    "adder": (_ADDER_CONFIG, _ADDER, ("A", "B"), (1, WIDTH)),
}
"""Configuration, code, names of the inputs and their shape."""


def write_repository() -> Path:
    """The models, in the cache."""
    root = CACHE / "python_models"
    for name, (config, code, _, _) in _MODELS.items():
        (root / name / "1").mkdir(parents=True, exist_ok=True)
        group = "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
        (root / name / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "python"\n{config}{group}')
        (root / name / "1" / "model.py").write_text(_HEAD + code)
    return root


def request_of(name: str, form: str) -> Request:
    """One request for the model, in JSON or binary both ways."""
    _, _, inputs, shape = _MODELS[name]
    row = np.arange(WIDTH, dtype=np.float32).reshape(shape) / 8
    document: dict[str, Any] = {
        "inputs": [
            {"name": one, "shape": shape, "datatype": "FP32"}
            | ({"data": row.ravel().tolist()} if form == "json" else {"parameters": {"binary_data_size": row.nbytes}})
            for one in inputs
        ]
    }
    if form == "binary":
        document["outputs"] = [{"name": "Y", "parameters": {"binary_data": True}}]
    text = json.dumps(document).encode()
    body = CACHE / "python_models" / f"{name}.{form}"
    body.write_bytes(text + (row.tobytes() * len(inputs) if form == "binary" else b""))
    path = f"/v2/models/{name}/infer"
    return Request(path, body, "application/octet-stream", len(text)) if form == "binary" else Request(path, body)


def check(server: Server, name: str, request: Request) -> None:
    """Ask once: a wrong answer is never worth measuring."""
    _, _, inputs, shape = _MODELS[name]
    expected = np.arange(WIDTH, dtype=np.float32).reshape(shape) / 8 * len(inputs)
    headers = {"Content-Type": request.content_type}
    if request.header_length:
        headers[HEADER_LENGTH] = str(request.header_length)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=servers.READY_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("POST", request.path, request.body.read_bytes(), headers)
        answer = connection.getresponse()
        content = answer.read()
        length = int(answer.getheader(HEADER_LENGTH) or len(content))
    if answer.status != http.client.OK:
        raise ServerError(f"{server.name} answered {name} with {answer.status}: {content[:300]!r}")
    (output,) = json.loads(content[:length])["outputs"]
    found = np.array(output["data"]) if "data" in output else np.frombuffer(content[length:], np.float32)
    if output["shape"] != list(shape) or not np.array_equal(found, expected.ravel()):
        raise ServerError(f"{server.name} answered {name} wrongly: {content[:300]!r}")


@contextlib.contextmanager
def triton(repository: Path, cores: set[int]) -> Iterator[Server]:
    """Real Triton on the repository."""
    try:
        running = TritonServer(ensure_triton(), repository, models=tuple(_MODELS), log=servers._log("triton"))
        with contextlib.ExitStack() as stack:
            with processes.pinned(cores):
                stack.enter_context(running)
            yield Server("triton", running.http_port, running.pid)
    except OracleUnavailable as error:
        raise ServerError(str(error)) from error


@contextlib.contextmanager
def taxiway(repository: Path, cores: set[int], extra: Sequence[str]) -> Iterator[Server]:
    """Taxiway on the same, with everything as it is by default."""

    def command(port: int, metrics: int) -> list[str]:
        ports = ["--http.port", str(port), "--metrics.port", str(metrics), "--grpc.port", "0", "--no-control.enabled"]
        return [
            sys.executable,
            "-m",
            "taxiway",
            "serve",
            str(repository),
            *ports,
            "--limits.drain-delay-s",
            "0",
            *extra,
        ]

    with servers._launched("taxiway", command, cores) as server:
        yield server


def scenario_of(name: str, form: str, connections: int) -> str:
    """Its name in the tables."""
    return f"{name} {form} c={connections}"


def measure(bench: Bench, models: Sequence[str]) -> None:
    """Saturate each model over each number of connections, in both forms."""
    settings = bench.settings
    repository, cores = write_repository(), set(settings.server_cores)
    requests = {(name, form): request_of(name, form) for name in models for form in FORMS}
    scenarios = [scenario_of(*key, connections) for key in requests for connections in CONNECTIONS]
    openers = {
        "taxiway": partial(taxiway, repository, cores, settings.taxiway_extra),
        "triton": partial(triton, repository, cores),
    }
    with bench.opened(scenarios, openers) as running:
        for server in running.values():
            for (name, _), request in requests.items():
                check(server, name, request)
                bench.closed(server, request, CONNECTIONS[1], min(1.0, settings.seconds))
        for who in bench.turns(list(running)):
            for (name, form), request in requests.items():
                for connections in CONNECTIONS:
                    scenario = scenario_of(name, form, connections)
                    with bench.noting(scenario, who):
                        bench.record.add(
                            scenario, who, **bench.closed(running[who], request, connections, settings.seconds)
                        )


def bars(models: Sequence[str]) -> list[Bar]:
    """At least Triton's rate, everywhere."""

    def ratio(scenario: str, record: Record) -> float:
        return record.ratio(scenario, "rate", "taxiway", "triton")

    keys = [scenario_of(name, form, number) for name in models for form in FORMS for number in CONNECTIONS]
    return [Bar(f"{key}: rate, times Triton's", "at least", 1.0, partial(ratio, key)) for key in keys]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure Python models over HTTP, beside real Triton's Python backend."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.python_model", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--only", default=",".join(_MODELS), help="echo,adder")
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    parser.add_argument("--server-cores", default="0", help="cores of the server and its model's process, as 0,1")
    parser.add_argument("--load-cores", default="1")
    parser.add_argument("--taxiway-arg", action="append", default=[], help="pass to `taxiway serve`; for experiments")
    options = parser.parse_args(arguments)
    server, load = (frozenset(map(int, text.split(","))) for text in (options.server_cores, options.load_cores))
    settings = Settings(options.rounds, options.seconds, server, load, taxiway_extra=tuple(options.taxiway_arg))
    models, where = options.only.split(","), machine()
    bench = Bench(settings)
    try:
        measure(bench, models)
    except ORDINARY as error:
        say(f"nothing is measured: {error}")
        return 2
    judged = [judge(bar, bench.record) for bar in bars(models)]
    print(figures_table(bench.record), bars_table(judged), sep="\n\n")
    if options.json:
        options.json.write_text(report(bench.record, judged, where), encoding="utf-8")
    return 0 if all(one.verdict is Verdict.PASS for one in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
