"""Servers whose latency is known: one that stalls once, and one that waits as long as it draws.

    python -m benchmarks.profile_servers --port 9000 --stall-after 10 --stall 2
    python -m benchmarks.profile_servers --port 9000 --delay-ms 8

They answer any request with the same bytes, on one event loop. What they did is printed when they are told to end: the
monotonic times of the stall.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from typing import cast

import uvloop

from benchmarks.hello import body_length, constant_answer


class Script:
    """When to stall, or how long to wait for each answer."""

    def __init__(self, stall_after_s: float, stall_s: float, delay_ms: float) -> None:
        self._stall_after_s = stall_after_s
        self._stall_s = stall_s
        self._delay_s = delay_ms / 1e3
        self._random = random.Random(7)  # noqa: S311 - the same delays each time
        self._first = 0.0
        self.stalled: tuple[float, float] | None = None

    def delay_s(self) -> float:
        """How long this answer waits: a minimum, and something exponential on top."""
        return self._delay_s * (0.5 + self._random.expovariate(2.0)) if self._delay_s else 0.0

    def maybe_stall(self) -> None:
        """Block the whole server, once."""
        now = time.monotonic()
        self._first = self._first or now
        if self._stall_s and self.stalled is None and now - self._first >= self._stall_after_s:
            time.sleep(self._stall_s)
            self.stalled = (now, time.monotonic())


class Scripted(asyncio.Protocol):
    """Answers one request at a time on each connection, when the script says."""

    def __init__(self, script: Script, answer: bytes) -> None:
        self._script = script
        self._answer = answer
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        data = self._rest + data if self._rest else data
        while (head := data.find(b"\r\n\r\n")) >= 0 and len(data) >= (end := head + 4 + body_length(data[:head])):
            self._script.maybe_stall()
            delay = self._script.delay_s()
            if delay:
                asyncio.get_running_loop().call_later(delay, self._write)
            else:
                self._write()
            data = data[end:]
        self._rest = data

    def _write(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._answer)


async def serve(port: int, script: Script) -> None:
    """Serve until told to end, then say what was done."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    answer = constant_answer(160)
    server = await loop.create_server(lambda: Scripted(script, answer), "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    await over.wait()
    server.close()
    print(json.dumps({"stalled": script.stalled}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve as the script says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_servers", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stall-after", type=float, default=0.0, help="seconds after the first request")
    parser.add_argument("--stall", type=float, default=0.0, help="seconds; once")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="mean of the wait for each answer")
    options = parser.parse_args(arguments)
    uvloop.run(serve(options.port, Script(options.stall_after, options.stall, options.delay_ms)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
