"""The least a receiver of large tensors can do: a plain socket that reads a body into memory and answers.

The kernel's own copy out of the socket cannot be avoided by anybody, and the body must lie somewhere:
`--copies 0` does just that. `--copies 1` copies the body once more. The two are the scale on which a
server's CPU per request is read as copies. `--answer` sends as many bytes back, from memory that is always
the same.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.hello import body_length

HEAD_LIMIT: Final = 64 * 1024


def read_head(peer: socket.socket) -> tuple[bytes, bytes] | None:
    """Return a request's head and what came of its body with it; None where the peer left."""
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        more = peer.recv(HEAD_LIMIT)
        if not more:
            return None
        received += more
    return received[:end], received[end + 4 :]


def read_body(peer: socket.socket, head: bytes, start: bytes) -> bytearray | memoryview:
    """Let the kernel write the body straight to where it stays."""
    # numpy's memory is not filled with zeros first, which would be a pass over it that nobody needs.
    body = np.empty(body_length(head), np.uint8).data
    body[: len(start)] = start
    at = len(start)
    while at < len(body) and (received := peer.recv_into(body[at:])):
        at += received
    return body


def serve_connection(peer: socket.socket, answer: memoryview, copies: int) -> None:
    """Answer requests on one connection, one at a time, until the peer leaves."""
    while (found := read_head(peer)) is not None:
        body = read_body(peer, *found)
        for _ in range(copies):
            body = bytearray(body)
        peer.sendall(answer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Receive, keep, answer, forget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=int, default=0, help="bytes of body to send back")
    parser.add_argument("--copies", type=int, default=0, help="copies of the body to make")
    options = parser.parse_args(arguments)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
    answer = memoryview(head % options.answer + bytes(options.answer))
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        while True:
            peer, _ = listener.accept()
            # wrk resets its connections when its time is up.
            with peer, contextlib.suppress(ConnectionError):
                serve_connection(peer, answer, options.copies)


if __name__ == "__main__":
    sys.exit(main())
