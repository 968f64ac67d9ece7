"""Start, check and stop what is measured: taxiway, real Triton, a hello Protocol and a raw sink.

Every one is a context manager that yields a `Server` once it answers its readiness probe, pinned to the
cores it was given, and that leaves nothing running behind it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tools.oracle_triton import OracleUnavailable, TritonServer, ensure_triton

from benchmarks import processes
from benchmarks.environments import CACHE, REPOSITORY
from benchmarks.load import Request
from benchmarks.models import (
    CATALOGUE,
    MODELS,
    Model,
    binary_body,
    ensure_models,
    expected,
    json_body,
    repository,
)

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05
TOLERANCE: Final = 1e-4
HEADER_LENGTH: Final = "Inference-Header-Content-Length"


class ServerError(RuntimeError):
    """A server did not start, or answered wrongly."""


@dataclass(frozen=True)
class Server:
    """A running server; `pid` is the root of its tree of processes."""

    name: str
    port: int
    pid: int

    @property
    def cpu_s(self) -> float:
        """CPU seconds burnt by the whole tree so far."""
        return processes.cpu_s(self.pid)

    @property
    def resident_mib(self) -> float:
        """Resident memory of the whole tree."""
        return processes.resident_bytes(self.pid) / 2**20


@contextlib.contextmanager
def taxiway(
    names: Sequence[str], cores: set[int], python: str = sys.executable, extra: Sequence[str] = ()
) -> Iterator[Server]:
    """Serve bare ONNX files with everything as it is by default; `extra` is for experiments."""
    ensure_models(*names)
    paths = [str(CATALOGUE[name].path) for name in names]

    def command(port: int, metrics: int) -> list[str]:
        ports = ["--http.port", str(port), "--metrics.port", str(metrics), "--grpc.port", "0", "--no-control.enabled"]
        return [python, "-m", "taxiway", "serve", *paths, *ports, "--limits.drain-delay-s", "0", *extra]

    with _launched("taxiway", command, cores) as server:
        yield server


@contextlib.contextmanager
def taxiway_grpc(
    names: Sequence[str], cores: set[int], python: str = sys.executable, extra: Sequence[str] = ()
) -> Iterator[Server]:
    """Serve the same over gRPC; `port` of what is yielded is the gRPC one."""
    ensure_models(*names)
    paths = [str(CATALOGUE[name].path) for name in names]

    def command(port: int, other: int) -> list[str]:
        ports = ["--grpc.port", str(port), "--http.port", str(other), "--metrics.port", "0", "--no-control.enabled"]
        return [python, "-m", "taxiway", "serve", *paths, *ports, *extra]

    with _launched("taxiway-grpc", command, cores, lambda _port, other: _is_ready(other)) as server:
        yield server


@contextlib.contextmanager
def bare_grpc(name: str, cores: set[int]) -> Iterator[Server]:
    """Serve one model with grpc.aio and nothing else."""
    ensure_models(name)

    def command(port: int, _other: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.bare_grpc", str(CATALOGUE[name].path), "--port", str(port)]

    with _launched("bare-grpc", command, cores, lambda port, _other: _listens(port)) as server:
        yield server


@contextlib.contextmanager
def hello(size: int, cores: set[int]) -> Iterator[Server]:
    """Answer a constant of `size` bytes."""

    def command(port: int, _metrics: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.hello", "--port", str(port), "--bytes", str(size)]

    with _launched("hello", command, cores) as server:
        yield server


@contextlib.contextmanager
def sink(answer_bytes: int, cores: set[int], copies: int = 0) -> Iterator[Server]:
    """Receive, copy so many times, then send `answer_bytes`."""

    def command(port: int, _metrics: int) -> list[str]:
        options = ["--answer", str(answer_bytes), "--copies", str(copies)]
        return [sys.executable, "-m", "benchmarks.sink", "--port", str(port), *options]

    with _launched("sink", command, cores) as server:
        yield server


@contextlib.contextmanager
def triton(names: Sequence[str], cores: set[int], *, over_grpc: bool = False) -> Iterator[Server]:
    """Serve the same ONNX files through real Triton's Python backend; `over_grpc` says which port is yielded."""
    log = _log("triton")
    try:
        running = TritonServer(ensure_triton(), repository("python", *names), log=log)
        with contextlib.ExitStack() as stack:
            with processes.pinned(cores):
                stack.enter_context(running)
            yield Server("triton", running.grpc_port if over_grpc else running.http_port, running.pid)
    except OracleUnavailable as error:
        raise ServerError(str(error)) from error


def _log(name: str) -> Path:
    logs = CACHE / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return logs / f"{name}.log"


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@contextlib.contextmanager
def _launched(
    name: str,
    command: Callable[[int, int], list[str]],
    cores: set[int],
    is_ready: Callable[[int, int], bool] | None = None,
) -> Iterator[Server]:
    port, metrics = _free_ports()
    log = _log(name)
    with processes.pinned(cores), log.open("wb") as output:
        process = subprocess.Popen(
            command(port, metrics),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    try:
        ready = (lambda: _is_ready(port)) if is_ready is None else (lambda: is_ready(port, metrics))
        _wait_ready(name, process, ready, log)
        yield Server(name, port, process.pid)
    finally:
        _stop(process)


def _wait_ready(name: str, process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not ready():
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = process.wait(timeout=POLL_S)
            raise ServerError(f"{name} ended with {ended}: {_tail(log)}")
        if time.monotonic() > deadline:
            raise ServerError(f"{name} was not ready in {READY_TIMEOUT_S:g} s: {_tail(log)}")


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, wait, then make sure of everything that was below it, even in a session of its own."""
    below = set(processes.tree(process.pid)) - {process.pid}
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    survivors = [pid for pid in below if (processes.PROC / str(pid)).exists()]
    for pid in survivors:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def json_request(name: str) -> Request:
    """Return one row of the model as v2 JSON."""
    ensure_models(name)
    body = MODELS / f"{name}.json"
    body.write_bytes(json_body(CATALOGUE[name]))
    return Request(f"/v2/models/{name}/infer", body)


def binary_request(name: str) -> Request:
    """Return one row of the model in the binary extension, to be answered in binary."""
    ensure_models(name)
    content, header_length = binary_body(CATALOGUE[name])
    body = MODELS / f"{name}.bin"
    body.write_bytes(content)
    return Request(f"/v2/models/{name}/infer", body, "application/octet-stream", header_length)


def check(server: Server, name: str, request: Request) -> int:
    """Ask once and compare with ONNX Runtime in process: a wrong answer is never worth measuring.

    Returns the size of the answer's body, which the hello server copies.
    """
    headers = {"Content-Type": request.content_type}
    if request.header_length:
        headers[HEADER_LENGTH] = str(request.header_length)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=READY_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("POST", request.path, request.body.read_bytes(), headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            raise ServerError(f"{server.name} answered {name} with {response.status}: {content[:300]!r}")
        header_length = int(response.getheader(HEADER_LENGTH) or len(content))
    try:
        _compare(server, CATALOGUE[name], json.loads(content[:header_length]), content[header_length:])
    except (KeyError, ValueError) as error:
        raise ServerError(f"{server.name} answered {name} with no v2 answer: {error!r}") from error
    return len(content)


def _compare(server: Server, model: Model, answer: dict[str, Any], binary: bytes) -> None:
    outputs = {output["name"]: output for output in answer["outputs"]}
    wanted = expected(model)
    if binary:
        # One binary output is all that the models of this benchmark have.
        found = {name: np.frombuffer(binary, value.dtype) for name, value in wanted.items()}
    else:
        found = {name: np.array(outputs[name]["data"]) for name in wanted}
    for name, value in wanted.items():
        if list(value.shape) != outputs[name]["shape"]:
            raise ServerError(f"{server.name} answered {model.name} in shape {outputs[name]['shape']}")
        if not np.allclose(found[name], value.ravel(), atol=TOLERANCE):
            raise ServerError(f"{server.name} answered {model.name} with wrong numbers")
