"""How late a queue timeout is answered, beside how late this machine's timers are: `python -m benchmarks.deadlines`.

Eighty callers ask MiniLM, unbatched on one core, for one sentence at a time with a `timeout` of 50 to 250 ms: more than
it can do, so many of them must be answered 504 when their time is up. A timer in the calling process, set for the same
moment, says what "on time" can mean on a busy machine. The bar: the 99th percentile of the lateness is at most 5 ms
above the 99th percentile of the timers' own. Triton 2.51 answers a timeout of 200 ms after 890 (it polls).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time

import uvloop

from benchmarks.load import percentile
from benchmarks.servers import Server, taxiway

LIMIT_MS = 5.0
EXPIRED = 504
FEWEST = 100
"""Answers without which the percentiles say nothing."""
_CALLERS = 80


def _body(timeout_us: int) -> bytes:
    inputs = [
        {"name": name, "shape": [1, 32], "datatype": "INT64", "data": data}
        for name, data in (("input_ids", [101, *([2023] * 30), 102]), ("attention_mask", [1] * 32))
    ]
    return json.dumps({"inputs": inputs, "parameters": {"timeout": timeout_us}}).encode()


class _Caller:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, body: bytes) -> int:
        """Send one inference request; the status of its answer."""
        head = f"POST /v2/models/minilm/infer HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(answer.split(b" ", 2)[1])


async def _expire(caller: _Caller, until: float, late_ms: list[float], lag_ms: list[float], statuses: set[int]) -> None:
    loop = asyncio.get_running_loop()
    dice = random.Random(id(caller))  # noqa: S311 - a schedule, not a secret
    while time.monotonic() < until:
        timeout_s = dice.uniform(0.05, 0.25)
        due = time.monotonic() + timeout_s
        loop.call_later(timeout_s, _note_lag, due, lag_ms)
        status = await caller.ask(_body(int(timeout_s * 1e6)))
        statuses.add(status)
        if status == EXPIRED:
            _note_lag(due, late_ms)


def _note_lag(due: float, into_ms: list[float]) -> None:
    into_ms.append((time.monotonic() - due) * 1e3)


async def _run(server: Server, seconds: float) -> tuple[list[float], list[float], set[int]]:
    callers = [_Caller(*await asyncio.open_connection("127.0.0.1", server.port)) for _ in range(_CALLERS)]
    until = time.monotonic() + seconds
    late_ms: list[float] = []
    lag_ms: list[float] = []
    statuses: set[int] = set()
    await asyncio.gather(*(_expire(caller, until, late_ms, lag_ms, statuses) for caller in callers))
    return sorted(late_ms), sorted(lag_ms), statuses


def main() -> int:
    """Measure, print, and say by the exit status whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    extra = ["--batching.best-batch", "1", "--execution.mode", "thread"]
    with taxiway(["minilm"], {0}, extra=extra) as server:
        late_ms, lag_ms, statuses = uvloop.run(_run(server, seconds))
    excess = percentile(late_ms, 0.99) - percentile(lag_ms, 0.99)
    for name, values in (("answer", late_ms), ("timer", lag_ms)):
        shown = f"median {statistics.median(values):6.2f}  p99 {percentile(values, 0.99):6.2f}  max {values[-1]:6.2f}"
        print(f"{name:7} late by ms: {shown}  ({len(values)})")
    verdict = excess <= LIMIT_MS and statuses <= {200, EXPIRED} and len(late_ms) >= FEWEST
    print(f"p99 beyond the timers' own: {excess:.2f} ms, at most {LIMIT_MS}; statuses {sorted(statuses)}: {verdict}")
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
