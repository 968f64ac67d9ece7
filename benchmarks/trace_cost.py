"""What tracing, and recording a workload, cost a request: bytes to bytes in one process, no sockets, off and on.

    python -m benchmarks.trace_cost

Prints the CPU microseconds of one request (a 2-float ONNX model, JSON, 16 connections) for each setting, the best of
several rounds that take turns. To compare with another commit, run it there with `--only off`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import onnx
import uvloop
from onnx import TensorProto, helper

from taxiway.config.loader import load_settings
from taxiway.server.app import DataPlane
from taxiway.server.wire.http1 import HttpConnection

BODY: Final = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.0,2.0]}]}'
HEAD: Final = b"POST /v2/models/doubler/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
REQUEST: Final = HEAD + BODY
CONNECTIONS: Final = 16
SETTINGS: Final[dict[str, dict[str, Any] | None]] = {
    "off": None,
    "one in 1000": {"trace_level": ["TIMESTAMPS"], "trace_rate": ["1000"]},
    "every one": {"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]},
    "recording": {"trace_level": ["OFF"]},
}

RECORDED: Final = 0.1
"""The share of requests that is recorded, with their content."""


class _Transport(asyncio.Transport):
    """Takes answers, and has the next request come in a turn of its own."""

    def __init__(self, answered: Callable[[], None], closed: Callable[[], object]) -> None:
        super().__init__()
        self._answered = answered
        self.close = closed  # type: ignore[method-assign, assignment]

    def write(self, data: object) -> None:  # noqa: ARG002 - whatever is answered
        self._answered()

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002 - nothing is known
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""


class _Load:
    """Connections that ask one request after the other, until `count` are answered."""

    def __init__(self, plane: DataPlane, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left = 0
        self._done = loop.create_future()
        front = plane._fronts[0]
        self._connections = [HttpConnection(front) for _ in range(CONNECTIONS)]
        for connection in self._connections:
            connection.connection_made(
                _Transport(self._answered(connection), partial(connection.connection_lost, None))
            )

    def _answered(self, connection: HttpConnection) -> Callable[[], None]:
        def answered() -> None:
            self._left -= 1
            if self._left >= CONNECTIONS:
                self._loop.call_soon(connection.data_received, REQUEST)
            elif self._left == 0:
                self._done.set_result(None)

        return answered

    async def run(self, count: int) -> float:
        """CPU microseconds of one request."""
        self._left, self._done = count, self._loop.create_future()
        began = time.process_time()
        for connection in self._connections:
            connection.data_received(REQUEST)
        await self._done
        return (time.process_time() - began) / count * 1e6


def _write_model(folder: Path) -> Path:
    row = ["N", 2]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, row) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubler", [x], [y])
    path = folder / "doubler.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path


async def measure(names: Sequence[str], requests: int, rounds: int) -> dict[str, float]:
    """The best round of each setting."""
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        flags: dict[str, object] = {
            "recording.mode": "inputs",
            "http.port": 0,
            "grpc.port": 0,
            "metrics.enabled": False,
            "trace.file": f"{folder}/t.json",
        }
        model = _write_model(Path(folder))
        plane = DataPlane(load_settings(None, {}, {**flags, "models.paths": [str(model)]}))
        await plane.start()
        load = _Load(plane, asyncio.get_running_loop())
        await load.run(requests)
        for _ in range(rounds):
            for name in names:
                words = SETTINGS[name]
                if words is not None or len(names) > 1:
                    change = words or {"trace_level": ["OFF"]}
                    await plane._administration.change_trace_settings(None, change)
                if name == "recording":
                    await plane._recording.begin("doubler", RECORDED, 1_000_000, with_inputs=True)
                best[name] = min(best.get(name, 1e9), await load.run(requests))
                if len(names) > 1:
                    await plane._recording.end("doubler")
        await plane.stop()
    return best


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace_cost", description=main.__doc__)
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(SETTINGS)
    for name, cost in uvloop.run(measure(names, options.requests, options.rounds)).items():
        print(f"{name:12} {cost:6.2f} us CPU per request")


if __name__ == "__main__":
    main()
