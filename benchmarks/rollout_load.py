"""Callers for benchmarks of rollouts: an open loop of requests of many users, each told apart by who answered.

It runs in the process that measures, at rates far below what either side can do, and keeps for every request when it
was sent, which version answered, and whether that was right.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

USERS: Final = 10_000
_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when it was sent (UTC, seconds), what came of it, who answered (0: nobody), and whether rightly."""

    sent_at: float
    status: int
    version: int
    right: bool
    took_s: float
    user: str
    value: float


@dataclass
class Caller:
    """Sends `rate` requests a second for a model that adds: `input` -> `input` + what `expected` says.

    Args:
        http: the server's address.
        model: its name.
        values: what a request may ask.
    """

    http: str
    model: str
    rate: float
    values: Callable[[random.Random], float]
    expected: Callable[[float], float]
    connections: int = 16
    calls: list[Call] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _going: bool = True

    def stop(self) -> None:
        """Send no more."""
        self._going = False

    async def run(self) -> None:
        """Send until `stop`; each connection has its own schedule, whatever the server does."""
        await asyncio.gather(*(self._line(number) for number in range(self.connections)))

    async def _line(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - a load
        every_s = self.connections / self.rate
        due = time.monotonic() + chance.random() * every_s
        line = Line(self.http)
        while self._going:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += chance.expovariate(1 / every_s)
            await self._one(line, chance)
        line.close()

    async def _one(self, line: Line, chance: random.Random) -> None:
        value, user = self.values(chance), f"user-{chance.randrange(USERS)}"
        name = f"{chance.getrandbits(64):016x}"
        body = {"id": name, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}]}
        sent_at, began = time.time(), time.perf_counter()
        status, text = await line.post(f"/v2/models/{self.model}/infer", body, {"X-Unit-Id": user})
        took_s = time.perf_counter() - began
        version, right = 0, False
        if status == 200:
            told = json.loads(text)
            version = int(told["model_version"])
            right = abs(told["outputs"][0]["data"][0] - self.expected(value)) < 1e-3
        elif len(self.problems) < 20:
            self.problems.append(f"{status} {text[:200]!r}")
        self.calls.append(Call(sent_at, status, version, right, took_s, user, value))


class Line:
    """One kept-alive connection that is opened again when it is lost."""

    def __init__(self, http: str) -> None:
        parts = urlsplit(http)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: object, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body; 0 and the problem if nobody answered."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._post(path, json.dumps(body).encode(), headers)
        except (OSError, EOFError, TimeoutError, ValueError) as problem:
            self.close()
            return 0, repr(problem).encode()

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        top = await self._reader.readuntil(b"\r\n\r\n")
        status = int(top.split(b" ", 2)[1])
        lower = top.lower()
        length = int(lower.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        content = await self._reader.readexactly(length)
        if b"connection: close" in lower:
            self.close()
        return status, content

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
