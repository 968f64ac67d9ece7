"""A closed loop of gRPC calls that costs the load's core next to nothing: `python -m benchmarks.grpc_load`.

A client of grpcio spends more on a call than the servers that are measured here. This one speaks just enough HTTP/2:
each call is the same bytes with another stream's number, and of what comes back only frames are told apart. A call
counts when its message has come in the wanted length and its stream has ended; anything else makes the run void.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

import uvloop

from benchmarks.environments import REPOSITORY
from benchmarks.load import GRACE_S, LoadError, percentile
from benchmarks.processes import pinned

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WINDOW: Final = (1 << 31) - 1
INITIAL_WINDOW: Final = 65535
RENEW_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class GrpcCall:
    """One constant unary call; `answer_bytes` is how long its answer's message must be."""

    path: str
    message: Path
    answer_bytes: int


@dataclass(frozen=True)
class GrpcLoop:
    """What the closed loop saw."""

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.calls / self.seconds


def closed_calls(port: int, call: GrpcCall, shape: tuple[int, int], seconds: float, cores: set[int]) -> GrpcLoop:
    """Run the loop to its end in a process of its own; `shape` is connections, and calls at once on each.

    Raises:
        LoadError: a call was not answered as it should be.
    """
    connections, streams = shape
    options = ["--port", port, "--path", call.path, "--message", call.message, "--answer-bytes", call.answer_bytes]
    options += ["--connections", connections, "--streams", streams, "--seconds", seconds]
    command = [sys.executable, "-m", "benchmarks.grpc_load", *map(str, options)]
    with pinned(cores):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + GRACE_S, cwd=REPOSITORY
        )
    if done.returncode != 0:
        raise LoadError(done.stderr.strip() or f"the load ended with {done.returncode}")
    return GrpcLoop(**json.loads(done.stdout))


# --- HTTP/2, as much as it takes -------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def header_block(path: str, port: int) -> bytes:
    """The headers of a call, every one spelled out, so that all calls of a connection may send the same."""
    words = {0x04: path, 0x01: f"127.0.0.1:{port}"}
    block = bytearray(b"\x83\x86")  # :method POST, :scheme http
    for index, value in words.items():
        block += bytes((index, len(value))) + value.encode()
    for name, value in (("content-type", "application/grpc"), ("te", "trailers")):
        block += bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()
    return bytes(block)


class Line(asyncio.Protocol):
    """One connection, always with so many calls on it."""

    def __init__(self, headers: bytes, body: bytes, answer_bytes: int, streams: int) -> None:
        self._headers = headers
        self._body = body
        self._wanted = answer_bytes + 5
        self._streams = streams
        self._next = 1
        self._rest = b""
        self._begun: dict[int, float] = {}
        self._got: dict[int, int] = {}
        self._read = 0
        self._transport: asyncio.Transport | None = None
        self.latencies: list[float] = []
        self.problem = ""
        self.stopping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves, and take whatever comes."""
        self._transport = cast("asyncio.Transport", transport)
        window = frame(WINDOW_UPDATE, 0, 0, (WINDOW - INITIAL_WINDOW).to_bytes(4))
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, b"") + window)

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that hangs up has not answered."""
        if not self.stopping:
            self.problem = self.problem or f"the connection was lost: {exc}"

    def begin(self) -> None:
        """Start the first calls."""
        self._send(self._streams)

    def _send(self, count: int) -> None:
        now = time.perf_counter()
        calls = bytearray()
        for _ in range(count):
            stream = self._next
            self._next += 2
            calls += frame(HEADERS, END_HEADERS, stream, self._headers) + frame(DATA, END_STREAM, stream, self._body)
            self._begun[stream] = now
            self._got[stream] = 0
        if self._transport is not None:
            self._transport.write(bytes(calls))

    def data_received(self, data: bytes) -> None:
        """Take the frames apart; what has ended begins anew."""
        data = self._rest + data if self._rest else data
        position, ended = 0, 0
        while len(data) - position >= 9:
            length = int.from_bytes(data[position : position + 3])
            end = position + 9 + length
            if len(data) < end:
                break
            kind, flags = data[position + 3], data[position + 4]
            stream = int.from_bytes(data[position + 5 : position + 9])
            if kind == DATA:
                self._got[stream] += length
                self._read += length
            elif kind in (SETTINGS, PING, GOAWAY, RST_STREAM):
                self._control(kind, flags, data[position + 9 : end])
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                ended += self._ended(stream)
            position = end
        self._rest = data[position:]
        self._renew()
        if ended and not self.stopping:
            self._send(ended)

    def _ended(self, stream: int) -> int:
        self.latencies.append(time.perf_counter() - self._begun.pop(stream))
        got = self._got.pop(stream)
        if got != self._wanted:
            self.problem = self.problem or f"an answer of {got} bytes where {self._wanted} were wanted"
        return 1

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind in (GOAWAY, RST_STREAM):
            self.problem = self.problem or f"the server sent frame {kind}: {payload!r}"
        elif not flags & ACK and self._transport is not None:
            self._transport.write(frame(kind, ACK, 0, payload if kind == PING else b""))

    def _renew(self) -> None:
        if self._read > RENEW_BYTES and self._transport is not None:
            self._transport.write(frame(WINDOW_UPDATE, 0, 0, self._read.to_bytes(4)))
            self._read = 0


async def _run(options: argparse.Namespace) -> GrpcLoop:
    loop = asyncio.get_running_loop()
    message = options.message.read_bytes()
    headers, body = header_block(options.path, options.port), b"\0" + struct.pack(">I", len(message)) + message
    lines: list[Line] = []
    for _ in range(options.connections):
        line = Line(headers, body, options.answer_bytes, options.streams)
        await loop.create_connection(lambda line=line: line, "127.0.0.1", options.port)  # type: ignore[misc]
        lines.append(line)
    began = time.perf_counter()
    for line in lines:
        line.begin()
    await asyncio.sleep(options.seconds)
    seconds = time.perf_counter() - began
    for line in lines:
        line.stopping = True
    problem = next((line.problem for line in lines if line.problem), "")
    latencies = sorted(latency for line in lines for latency in line.latencies)
    if problem or not latencies:
        raise LoadError(problem or "no call was answered")
    return GrpcLoop(len(latencies), seconds, percentile(latencies, 0.5) * 1e3, percentile(latencies, 0.99) * 1e3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Call one method over and over, and print what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_load", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--message", type=Path, required=True, help="file with the serialized request")
    parser.add_argument("--answer-bytes", type=int, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--streams", type=int, default=1, help="calls at once on each connection")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args(arguments)
    gc.disable()
    try:
        seen = uvloop.run(_run(options))
    except (LoadError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(seen)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
