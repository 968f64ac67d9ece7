"""What crosses to a generator process and back: plain data, in msgpack."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

READY: Final = b"ready"
"""What a process says when it is connected and waits for the moment to begin."""
LENGTH_BYTES: Final = 8


def framed(message: bytes) -> bytes:
    """A message with its length before it, big-endian, as each crosses the pipes."""
    return len(message).to_bytes(LENGTH_BYTES) + message


class Shot(msgspec.Struct, frozen=True):
    """One request, rendered: over HTTP head and body, over gRPC the message."""

    wire: bytes
    metadata: tuple[tuple[str, str], ...] = ()


class Door(msgspec.Struct, frozen=True):
    """Where requests go, and how.

    Attributes:
        host, port: of the server.
        tls: whether the connection is encrypted; certificates are checked against the system's authorities.
        method: of gRPC, as `/inference.GRPCInferenceService/ModelInfer`; empty for HTTP.
        events: whether the answer is a stream of events with tokens in them.
    """

    host: str
    port: int
    tls: bool = False
    method: str = ""
    events: bool = False

    @property
    def authority(self) -> str:
        """Host and port in one word, as `[::1]:8001`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Job(msgspec.Struct, frozen=True):
    """The share of one process.

    Attributes:
        shots: the requests there are.
        due: float64 seconds from the beginning, sorted; empty for a closed loop.
        which: uint32 indices into `shots`, one for each due time; a closed loop goes through them again and again.
        concurrency: requests under way at all times; 0 is an open loop.
        duration_s: how long a closed loop goes on.
        query: requests of a closed loop that are sent together, and waited for together.
        timeout_s: how long an answer is waited for.
        connections: at most.
        spin_s: how long before a request is due the process stops sleeping.
        patient: whether requests wait for a connection as long as it takes, all being due at once.
    """

    door: Door
    shots: list[Shot]
    due: bytes
    which: bytes
    concurrency: int
    duration_s: float
    query: int
    timeout_s: float
    connections: int
    spin_s: float
    patient: bool = False

    @property
    def due_s(self) -> NDArray[np.float64]:
        """`due` as an array."""
        return np.frombuffer(self.due, np.float64)

    @property
    def indices(self) -> NDArray[np.uint32]:
        """`which` as an array."""
        return np.frombuffer(self.which, np.uint32)


class Report(msgspec.Struct, frozen=True):
    """What became of it.

    Attributes:
        rows: float64 [requests, 6], see samples.py.
        gaps: float64 [tokens after the first, 2], see samples.py.
        examples: of each kind of error, what the first one said.
        cpu_s: of this process, while it sent.
        problem: why there was nothing to send to; the rest is empty then.
    """

    rows: bytes
    gaps: bytes
    examples: dict[str, str]
    cpu_s: float
    problem: str = ""
