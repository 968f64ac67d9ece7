"""A server replaced under load, again and again: `python -m benchmarks.upgrade [--times N]`.

A served model is asked over HTTP by an open loop of many users, and over gRPC by clients that try nothing again, while
`taxiway admin upgrade` has one server take the place of another. The bar: no request fails. How long the slowest
request took while servers changed, and how long that took, is told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np

from benchmarks.load import percentile
from benchmarks.rollout_load import Caller
from benchmarks.rollout_place import AMOUNT, LIMIT, MODEL, Served, fill, serving
from taxiway.server.wire.grpc.protos import INFERENCE, message_class

_RATE: Final = 400.0
_GRPC_CLIENTS: Final = 4
_APART_S: Final = 8.0
"""Between one upgrade and the next."""
_PATIENCE_S: Final = 60.0


class GrpcCallers:
    """Clients that ask one thing after the other, each on a connection of its own."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._going = True
        self.ended: Counter[str] = Counter()
        self.took_s: list[float] = []

    def stop(self) -> None:
        """Ask no more."""
        self._going = False

    async def run(self) -> None:
        """Until `stop`."""
        await asyncio.gather(*(self._ask() for _ in range(_GRPC_CLIENTS)))

    async def _ask(self) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        kind = message_class("inference.ModelInferRequest")
        request = kind(model_name=MODEL)
        request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
        request.raw_input_contents.append(np.zeros((1, 1), np.float32).tobytes())
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            response = message_class("inference.ModelInferResponse")
            infer = channel.unary_unary(f"/{INFERENCE}/ModelInfer", kind.SerializeToString, response.FromString)
            while self._going:
                began = time.monotonic()
                try:
                    await infer(request)
                    self.ended["OK"] += 1
                except grpc.aio.AioRpcError as problem:
                    self.ended[f"{problem.code().name} {problem.details()}"] += 1
                self.took_s.append(time.monotonic() - began)
                await asyncio.sleep(0.002)


async def upgrade(served: Served) -> float:
    """Have another server take the place of this one; how many seconds until it decides."""
    began, before = time.monotonic(), (await _told(served))["pid"]
    await asyncio.to_thread(served.post, "/v1/server/upgrade", {})
    while time.monotonic() - began < _PATIENCE_S:
        try:
            told = await _told(served)
        except (OSError, RuntimeError):
            continue  # neither decides
        if told["pid"] != before:
            return time.monotonic() - began
        if told["upgrade"]["state"] == "failed":
            raise RuntimeError(told["upgrade"]["error"])
        await asyncio.sleep(0.05)
    raise TimeoutError("the new server does not serve")


async def _told(served: Served) -> dict[str, Any]:
    told: dict[str, Any] = await asyncio.to_thread(served.get, "/v1/server")
    return told


async def measure(served: Served, times: int) -> bool:
    """Whether the bar is met; prints what was found."""
    caller = Caller(served.http, MODEL, _RATE, lambda chance: float(chance.randrange(LIMIT)), lambda x: x + AMOUNT)
    grpc_callers = GrpcCallers(served.grpc)
    running = [asyncio.create_task(caller.run()), asyncio.create_task(grpc_callers.run())]
    took: list[float] = []
    await asyncio.sleep(_APART_S)
    for _ in range(times):
        took.append(await upgrade(served))
        await asyncio.sleep(_APART_S)
    caller.stop()
    grpc_callers.stop()
    await asyncio.gather(*running)
    statuses = Counter(call.status for call in caller.calls)
    slowest = max(call.took_s for call in caller.calls)
    print(f"{times} upgrades, median {percentile(sorted(took), 0.5):.1f} s until the new server decides")
    print(f"HTTP, {_RATE:g}/s: {dict(statuses)}; slowest {1000 * slowest:.0f} ms")
    print(
        f"gRPC, {_GRPC_CLIENTS} clients: {dict(grpc_callers.ended)}; slowest {1000 * max(grpc_callers.took_s):.0f} ms"
    )
    return set(grpc_callers.ended) == {"OK"} and all(call.right for call in caller.calls)


async def _measure_all(times: int) -> bool:
    with tempfile.TemporaryDirectory() as place, serving(fill(Path(place))) as served:
        try:
            return await measure(served, times)
        finally:
            os.kill(int(served.get("/v1/server")["pid"]), signal.SIGTERM)


def main() -> None:
    """Measure, print, and say by the exit status whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="upgrades (10)")
    sys.exit(not asyncio.run(_measure_all(parser.parse_args().times)))


if __name__ == "__main__":
    main()
