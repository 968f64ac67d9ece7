"""A registry of versions that differ as candidates do, and a server of it, for benchmarks of rollouts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

MODEL: Final = "pay"
AMOUNT: Final = 1.0
LIMIT: Final = 1000
"""Versions that fail do so for inputs from `LIMIT` on; the others take twice as many."""

EQUAL, SLOW, FAILING, WRONG, TRAP = 2, 3, 4, 5, 6
"""Versions: 1 is the baseline, 2 answers the same, 3 takes longer, 4 fails for some, 5 is wrong, 6 fails for all."""
_START_S: Final = 60.0


def adder(path: Path, *, amount: float = AMOUNT, table: int = 2 * LIMIT, work: int = 200) -> Path:
    """An ONNX file of y = x + `amount`; x must be below `table`, and a matrix of `work` rows is squared meanwhile."""
    constants = [
        numpy_helper.from_array(np.arange(table, dtype=np.float32), "table"),
        numpy_helper.from_array(np.float32(amount), "amount"),
        numpy_helper.from_array(np.eye(work, dtype=np.float32), "matrix"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.array([0, 1], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["looked"]),
        helper.make_node("ReduceSum", ["looked", "axes"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "zero"], ["nothing"]),
        helper.make_node("Add", ["matrix", "nothing"], ["busy"]),  # depends on x: nobody folds it at load
        helper.make_node("MatMul", ["busy", "busy"], ["squared"]),
        helper.make_node("ReduceMax", ["squared"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "amount"], ["more"]),
        helper.make_node("Add", ["looked", "more"], ["y"]),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, MODEL, shapes[:1], shapes[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, str(path))
    return path


def fill(place: Path) -> dict[str, str]:
    """Register the versions below `place`; the environment in which taxiway finds them."""
    environment = {"XDG_DATA_HOME": str(place / "data"), "XDG_CACHE_HOME": str(place / "cache")}
    worse: list[dict[str, Any]] = [{"work": 800}, {"table": LIMIT}, {"amount": AMOUNT + 1}, {"table": 1}]
    kinds: list[dict[str, Any]] = [{}, {"work": 201}, *worse]
    for number, kind in enumerate(kinds, 1):
        file = adder(place / f"{number}/{MODEL}.onnx", **kind)
        more = ["--alias", "stable"] if number == 1 else []
        command = [sys.executable, "-m", "taxiway", "import", str(file), "--name", MODEL, "--why", f"version {number}"]
        told = subprocess.run(
            [*command, *more], env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        if told.returncode:
            raise RuntimeError(told.stderr)
    return environment


@dataclass
class Served:
    """A server that is up.

    Attributes:
        http, grpc, control: addresses.
    """

    process: subprocess.Popen[str]
    http: str
    grpc: str
    control: str

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """What the control process says."""
        return ask(f"{self.control}{path}", None)

    def post(self, path: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Have it do something."""
        return ask(f"{self.control}{path}", words)

    def control_pid(self) -> int:
        """The control process, which is a child of the server."""
        return int(self.get("/v1/health")["pid"])


def ask(url: str, words: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - JSON
    """JSON from a URL; a refusal is an error with its text."""
    body = None if words is None else json.dumps(words).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
            return json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        raise RuntimeError(f"{url}: {refusal.code} {refusal.read().decode()}") from None


def serving(environment: Mapping[str, str], *words: str) -> contextlib.AbstractContextManager[Served]:
    """`taxiway serve pay@stable` on free ports."""
    return serving_model(environment, f"{MODEL}@stable", *words)


@contextlib.contextmanager
def serving_model(environment: Mapping[str, str], *words: str) -> Iterator[Served]:
    """`taxiway serve` on free ports; its log goes to the screen's error stream."""
    command = [sys.executable, "-m", "taxiway", "serve", *words]
    for port in ("http", "grpc", "metrics", "control"):
        command += [f"--{port}.port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        lines: dict[str, str] = {}
        until = time.monotonic() + _START_S
        while "control" not in lines and time.monotonic() < until:
            label, _, address = process.stdout.readline().strip().rpartition(": ")
            lines["http" if "ready" in label else label] = address
        yield Served(process, lines["http"], lines["grpc"], lines["control"])
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.communicate()
