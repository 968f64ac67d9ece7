"""The least a Python server can do: a bare Protocol on uvloop that answers a constant JSON to every request.

It finds the end of the head and the Content-Length, and nothing else: no router, no tensors, no model. What a
real server costs beyond this is what its features cost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import cast

import uvloop

LENGTH = b"\r\ncontent-length:"


def constant_answer(size: int) -> bytes:
    """Return a whole HTTP answer whose JSON body has `size` bytes."""
    body = b'{"model_name":"hello","padding":"' + b"x" * max(0, size - 35) + b'"}'
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def body_length(head: bytes) -> int:
    """Read the Content-Length out of a request's head; none is a request without a body."""
    lower = head.lower()
    at = lower.find(LENGTH)
    if at < 0:
        return 0
    start = at + len(LENGTH)
    end = lower.find(b"\r\n", start)
    return int(lower[start : end if end >= 0 else None])


class Hello(asyncio.Protocol):
    """Answers whatever was asked with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every complete request among what came; keep the rest."""
        assert self._transport is not None
        data = self._rest + data if self._rest else data
        while (head := data.find(b"\r\n\r\n")) >= 0:
            end = head + 4 + body_length(data[:head])
            if len(data) < end:
                break
            self._transport.write(self._answer)
            data = data[end:]
        self._rest = data


async def serve(port: int, size: int) -> None:
    """Serve until the process is told to end."""
    answer = constant_answer(size)
    server = await asyncio.get_running_loop().create_server(lambda: Hello(answer), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a constant answer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hello", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, default=160, help="size of the answer's body")
    options = parser.parse_args(arguments)
    uvloop.run(serve(options.port, options.bytes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
