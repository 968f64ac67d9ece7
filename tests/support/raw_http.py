"""A client that says exactly the bytes a test gives it, and a server process to say them to."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

PATIENCE_S = 30.0
"""How long anything is waited for; reached only when a test fails."""


@dataclass(frozen=True)
class Reply:
    """One answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def output(self) -> Any:
        """The elements of the first output."""
        return self.json()["outputs"][0]["data"]


class Raw:
    """A connection without manners."""

    def __init__(self, address: tuple[str, int], *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> Self:
        """Send each part in a packet of its own, as far as that can be had."""
        for part in parts:
            self.socket.sendall(part)
        return self

    def reply(self, *, to_head: bool = False) -> Reply:
        """The next answer; to HEAD it has no body."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        length = 0 if to_head or int(status) < 200 else int(headers["content-length"])
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return Reply(int(status), headers, body)

    def until(self, mark: bytes) -> bytes:
        """What comes before `mark`, which is read too."""
        while mark not in self._read:
            self._more()
        told, _, self._read = self._read.partition(mark)
        return told

    def take(self, count: int) -> bytes:
        """So many bytes."""
        while len(self._read) < count:
            self._more()
        told, self._read = self._read[:count], self._read[count:]
        return told

    def until_closed(self) -> bytes:
        """All that comes until the server closes."""
        while got := self.socket.recv(1 << 20):
            self._read += got
        told, self._read = self._read, b""
        return told

    def at_end(self) -> bool:
        """Whether the server closes now without saying any more; waits until it does one or the other."""
        if not self._read:
            with contextlib.suppress(ConnectionResetError):
                self._read = self.socket.recv(65536)
        return not self._read

    def silent(self) -> bool:
        """Whether nothing has come and the connection is open, at this moment."""
        self.socket.setblocking(False)
        try:
            self._read += self.socket.recv(65536)
        except BlockingIOError:
            return not self._read
        finally:
            self.socket.settimeout(PATIENCE_S)
        return False

    def _more(self) -> None:
        got = self.socket.recv(1 << 20)
        assert got, f"the server closed after {self._read[:500]!r}"
        self._read += got


def request(
    method: str = "GET", path: str = "/v2/health/live", body: bytes | None = None, *headers: str, version: str = "1.1"
) -> bytes:
    """The bytes of a request; Content-Length is added if there is a body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: h", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def infer(model: str, rows: list[Any], datatype: str, *headers: str, **members: Any) -> bytes:
    """An inference request in JSON, of rows for input `x`."""
    shape = [len(rows), len(rows[0]) if isinstance(rows[0], list) else 1]
    one = {"name": "x", "shape": shape, "datatype": datatype, "data": rows}
    return request("POST", f"/v2/models/{model}/infer", json.dumps({**members, "inputs": [one]}).encode(), *headers)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Ask until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.002)


def children(pid: int) -> list[int]:
    """The processes that it started and that run, in the order of their ids."""
    try:
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except FileNotFoundError:
        return []


def _is_control(pid: int) -> bool:
    try:
        return b"taxiway.control.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False


def _is_hosted(pid: int, parents: Collection[int]) -> bool:
    """Whether it is a model process that one of `parents` has started."""
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return parent in parents and b"hosted" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False


@dataclass
class Process:
    """`python -m taxiway serve` in a process of its own."""

    process: subprocess.Popen[str] = field(repr=False)
    address: tuple[str, int]
    metrics_address: tuple[str, int]
    grpc: str = ""
    control: str = ""

    def connect(self, *, receive_buffer: int = 0) -> Raw:
        """A new connection to the front door."""
        return Raw(self.address, receive_buffer=receive_buffer)

    def ask(self, raw: bytes) -> Reply:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.send(raw).reply()

    def metrics(self) -> dict[str, float]:
        """Every series of GET /metrics."""
        with Raw(self.metrics_address) as connection:
            text = connection.send(request("GET", "/metrics")).reply().body.decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def workers(self) -> list[int]:
        """Process ids of the data-plane processes, by when they were started."""
        return [pid for pid in children(self.process.pid) if not _is_control(pid)]

    def control_processes(self) -> list[int]:
        """The process id of the control process, if it is there."""
        return [pid for pid in children(self.process.pid) if _is_control(pid)]

    def model_processes(self) -> list[int]:
        """The processes of all models; a data-plane process starts them from whatever thread of its."""
        workers = set(self.workers())
        running = [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]
        return sorted(pid for pid in running if _is_hosted(pid, workers))

    def resident_bytes(self) -> int:
        """Memory that the server's processes occupy."""
        pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in (self.process.pid, *self.workers()))
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def serve_process(what: Path | Sequence[str], log: IO[str] | None = None, /, **flags: object) -> Iterator[Process]:
    """Serve a folder, or what these words name, until the block ends; flags as `limits__max_headers=5`."""
    named = {
        "http.port": 0,
        "metrics.port": 0,
        "grpc.port": 0,
        "control.enabled": False,
        "control.standby": False,
        "batching.measure": False,
        "limits.drain-delay-s": 0,
        "log.level": "warning",
        **{name.replace("__", ".").replace("_", "-"): value for name, value in flags.items()},
    }
    words = [word for name, value in named.items() for word in _flag(name, value)]
    served = [str(what)] if isinstance(what, Path) else what
    command = [sys.executable, "-m", "taxiway", "serve", *served, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        assert process.stdout is not None
        try:
            addresses = [_address(process.stdout.readline()) for _ in range(2)]
            grpc = _told_address("grpc", process.stdout) if named.get("grpc.enabled", True) else ""
            control = _told_address("control", process.stdout) if named["control.enabled"] else ""
            yield Process(process, addresses[0], addresses[1], grpc, control)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()


def _flag(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _told_address(what: str, lines: Iterable[str]) -> str:
    return next((line.split()[1] for line in lines if line.startswith(f"{what}: ")), "")


def _address(line: str) -> tuple[str, int]:
    parts = urlsplit(line.rsplit(maxsplit=1)[-1])
    return str(parts.hostname), int(parts.port or 0)
