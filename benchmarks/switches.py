"""What hot switches cost those who are being served: `python -m benchmarks.switches`.

A small model is asked all the time over kept-alive connections (`--protocol`: JSON over HTTP, or gRPC through Triton's
own client) while one version after the other is written to its repository and loaded. Each version adds its own number
to what it is sent, so that an answer tells twice which version gave it. Three bars:

- failed: no request is answered by anything but 200;
- wrong: no answer's number disagrees with the version it names, and no answer comes from a version older than one whose
  load had been acknowledged before the request was sent;
- memory: after the first 50 switches resident memory grows by at most 2 % of its size over all those that follow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import onnx
import tritonclient.grpc.aio
import tritonclient.utils
import uvloop
from onnx import TensorProto, helper, numpy_helper

from benchmarks.load import percentile
from benchmarks.processes import resident_bytes

SETTLED_AFTER: Final = 50
GROWTH_LIMIT: Final = 0.02
_MODEL: Final = "counter"
_KEPT_ON_DISK: Final = 3
"""Versions that stay in the repository; a real one is tidied up too."""
_PATIENCE_S: Final = 120.0
"""For one share of the requests; longer, and nobody is being answered any more."""
_WEIGHTS: Final = 250_000
"""Numbers of ballast in each version: a leak of one model must show."""


class Caller(Protocol):
    """One client's connection, whatever its protocol."""

    async def ask(self, number: float) -> tuple[int, float]:
        """Send `number`; the version that answers, and what it answers.

        Raises:
            CallFailed: anything but success.
        """


class CallFailed(Exception):
    """A request was answered by an error, or not at all."""


class HttpCaller:
    """Asks over HTTP, in JSON."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, number: float) -> tuple[int, float]:
        """Send `number`; the version that answers, and what it answers."""
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [number]}
        status, body = await self.post(f"/v2/models/{_MODEL}/infer", json.dumps({"inputs": [tensor]}).encode())
        if status != 200:
            raise CallFailed(f"{status}: {body[:200]!r}")
        told = json.loads(body)
        return int(told["model_version"]), float(told["outputs"][0]["data"][0])

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        return await self._send(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self._send(head.encode() + body)

    async def _send(self, request: bytes) -> tuple[int, bytes]:
        self._writer.write(request)
        try:
            answer = await self._reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            return int(answer.split(b" ", 2)[1]), await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as problem:
            raise CallFailed(f"the connection ended: {problem}") from problem


@contextlib.asynccontextmanager
async def http_caller(port: int) -> AsyncIterator[HttpCaller]:
    """A connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield HttpCaller(reader, writer)
    finally:
        writer.close()


class GrpcCaller:
    """Asks over gRPC, through Triton's own client."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - tritonclient is not annotated
        self._client = client
        self._input = tritonclient.grpc.aio.InferInput("x", [1, 1], "FP32")

    async def ask(self, number: float) -> tuple[int, float]:
        """Send `number`; the version that answers, and what it answers."""
        self._input.set_data_from_numpy(np.asarray([[number]], np.float32))
        try:
            answer = await self._client.infer(_MODEL, [self._input])
        except tritonclient.utils.InferenceServerException as problem:
            raise CallFailed(str(problem)) from problem
        return int(answer.get_response().model_version), float(answer.as_numpy("y")[0, 0])


@contextlib.asynccontextmanager
async def grpc_caller(port: int) -> AsyncIterator[GrpcCaller]:
    """A connection of its own."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    client = tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{port}", channel_args=own)
    try:
        yield GrpcCaller(client)
    finally:
        await client.close()


Connect = Callable[[int], contextlib.AbstractAsyncContextManager[Caller]]
PROTOCOLS: Final[Mapping[str, Connect]] = {"http": http_caller, "grpc": grpc_caller}
"""By name: how to make a connection of it."""


@dataclass
class Tally:
    """What was seen."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    acknowledged: int = 1
    """The newest version whose load was answered."""
    resident: list[int] = field(default_factory=list)
    switches_ms: list[float] = field(default_factory=list)


def write_version(repository: Path, version: int, model: str = _MODEL, weights: int = _WEIGHTS) -> None:
    """Write the version that adds its own number, whole, by renaming it into its place."""
    constants = [
        numpy_helper.from_array(np.asarray(version, np.float32), "amount"),
        numpy_helper.from_array(np.zeros(weights, np.float32), "ballast"),
        numpy_helper.from_array(np.asarray(0, np.int64), "first"),
    ]
    nodes = [
        helper.make_node("Add", ["x", "amount"], ["sum"]),
        helper.make_node("Gather", ["ballast", "first"], ["nothing"]),
        helper.make_node("Add", ["sum", "nothing"], ["y"]),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in "xy"]
    graph = helper.make_graph(nodes, "counter", tensors[:1], tensors[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    hidden = repository / model / f".{version}"
    hidden.mkdir(parents=True)
    onnx.save(made, str(hidden / "model.onnx"))
    hidden.rename(repository / model / str(version))


class Running(NamedTuple):
    """A server: its process id and its ports."""

    pid: int
    http: int
    grpc: int
    metrics: int


@contextlib.contextmanager
def serve(repository: Path, extra: Sequence[str]) -> Iterator[Running]:
    """A server of its own, once it is ready."""
    ports = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}.port", "0")]
    command = [sys.executable, "-m", "taxiway", "serve", str(repository), *ports, "--no-control.enabled"]
    command += ["--models.control", "explicit", "--log.level", "warning", *extra]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found: dict[str, int] = {}
            while len(found) < 3 and (line := process.stdout.readline()):
                name, _, address = line.partition(":")
                found[name.split()[0]] = int(address.rsplit(":", 1)[1].partition("/")[0])
            yield Running(process.pid, found["taxiway"], found["grpc"], found["metrics"])
        finally:
            process.terminate()
            process.wait(60)


async def _keep_asking(caller: Caller, tally: Tally, over: asyncio.Event) -> None:
    while not over.is_set():
        least = tally.acknowledged
        number = float(tally.asked % 1000)
        began = time.perf_counter()
        tally.asked += 1
        try:
            version, answer = await caller.ask(number)
        except CallFailed as problem:
            tally.failed.append(str(problem))
            if "connection" in str(problem):
                return
            continue
        tally.latencies_ms.append((time.perf_counter() - began) * 1e3)
        if answer != number + version or version < least:
            tally.wrong.append(f"version {version} answered {answer} to {number}; {least} was acknowledged before")


async def _switch(repository: Path, admin: HttpCaller, tally: Tally, switches: int, requests: int, pid: int) -> None:
    """One version after the other, each asked its share of the requests before the next one comes."""
    for version in range(2, switches + 2):
        enough = tally.asked + requests // switches
        await asyncio.to_thread(write_version, repository, version)
        began = time.perf_counter()
        status, body = await admin.post(f"/v2/repository/models/{_MODEL}/load", b"")
        if status != 200:
            raise CallFailed(f"load of version {version}: {status} {body[:300]!r}")
        tally.switches_ms.append((time.perf_counter() - began) * 1e3)
        tally.acknowledged = version
        shutil.rmtree(repository / _MODEL / str(version - _KEPT_ON_DISK), ignore_errors=True)
        await _asked(tally, enough)
        tally.resident.append(resident_bytes(pid))


async def _asked(tally: Tally, count: int) -> None:
    """Until so many requests were sent."""
    async with asyncio.timeout(_PATIENCE_S):
        while tally.asked < count:  # noqa: ASYNC110 - an event would cost every caller
            await asyncio.sleep(0.002)


async def run(repository: Path, server: Running, words: argparse.Namespace) -> Tally:
    """Ask and switch until both are done."""
    tally = Tally()
    over = asyncio.Event()
    connect = PROTOCOLS[words.protocol]
    async with contextlib.AsyncExitStack() as stack:
        admin = await stack.enter_async_context(http_caller(server.http))
        port = getattr(server, words.protocol)
        callers = [await stack.enter_async_context(connect(port)) for _ in range(words.connections)]
        asking = [asyncio.create_task(_keep_asking(caller, tally, over)) for caller in callers]
        try:
            await _switch(repository, admin, tally, words.switches, words.requests, server.pid)
            await _asked(tally, words.requests)
        finally:
            over.set()
            await asyncio.gather(*asking)
    return tally


def growth(resident: Sequence[int], skipped: int) -> float:
    """By what share of its size memory grows after the first `skipped` switches, on the line that fits best."""
    settled = resident[skipped:]
    if len(settled) < 2:
        return 0.0
    slope = statistics.linear_regression(range(len(settled)), settled).slope
    return slope * len(settled) / statistics.fmean(settled)


def report(tally: Tally, skipped: int) -> bool:
    """Print what was seen; whether every bar is met."""
    share = growth(tally.resident, skipped)
    latencies = sorted(tally.latencies_ms)
    shown = (
        ", ".join(f"p{p:g} {percentile(latencies, p / 100):.2f}" for p in (50, 99, 99.9)) + f", max {latencies[-1]:.2f}"
    )
    mib = [size / 2**20 for size in tally.resident]
    print(f"requests {tally.asked}, switches {len(tally.switches_ms)}")
    print(f"latency ms: {shown}")
    print(f"load call ms: median {statistics.median(tally.switches_ms):.1f}, max {max(tally.switches_ms):.1f}")
    print(
        f"resident MiB: first {mib[0]:.1f}, after {skipped} {mib[min(skipped, len(mib) - 1)]:.1f}, last {mib[-1]:.1f}"
    )
    bars = {
        f"failed: {len(tally.failed)}": not tally.failed,
        f"wrong: {len(tally.wrong)}": not tally.wrong,
        f"memory: {share:+.2%} over {max(0, len(mib) - skipped)} switches, at most {GROWTH_LIMIT:.0%}": share
        <= GROWTH_LIMIT,
    }
    for text, passed in bars.items():
        print(f"{'pass' if passed else 'FAIL'}  {text}")
    for problem in [*tally.failed[:3], *tally.wrong[:3]]:
        print(f"      {problem}")
    return all(bars.values())


def main() -> int:
    """Measure, print, and say by the exit status whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--switches", type=int, default=200)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="http")
    parser.add_argument("--taxiway-arg", action="append", default=[], help="passed to the server, for experiments")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        write_version(repository, 1)
        with serve(repository, words.taxiway_arg) as server:
            tally = uvloop.run(run(repository, server, words))
    return 0 if report(tally, min(SETTLED_AFTER, words.switches // 4)) else 1


if __name__ == "__main__":
    sys.exit(main())
