"""What all acts of the demo stand on: a server that is started and stopped, requests, and words on the screen."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

LOG: Final = Path("build/demo.log")
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0


class DemoFailed(Exception):
    """Something was not as promised."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is up: its process and its addresses; without a control process, that one is empty."""

    process: subprocess.Popen[str]
    http: str
    metrics: str
    grpc: str
    control: str = ""


@contextlib.contextmanager
def serving(*words: str, environment: Mapping[str, str] | None = None, control: bool = False) -> Iterator[Running]:
    """Run `taxiway serve` on free ports; whatever happens, no process is left behind."""
    title(f"taxiway serve {' '.join(words)}")
    began = time.monotonic()
    command = [sys.executable, "-m", "taxiway", "serve", *words]
    command += ["--http.port", "0", "--metrics.port", "0", "--grpc.port", "0"]
    command += ["--control.port", "0", "--control.look-every-s", "0.2"] if control else ["--no-control.enabled"]
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **(environment or {})}
        )
    try:
        server = wait_until_ready(process, 4 if control else 3)
        say("ready", f"in {time.monotonic() - began:.1f} s at {server.http}, gRPC at {server.grpc}")
        yield server
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(process: subprocess.Popen[str], addresses: int) -> Running:
    """Read the addresses that the server prints once it is ready."""
    too_late = threading.Timer(START_TIMEOUT_S, process.kill)
    too_late.start()
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        lines = [process.stdout.readline().rpartition(": ")[2].strip() for _ in range(addresses)]
    finally:
        too_late.cancel()
    require(all(lines), f"the server did not get ready:\n{LOG.read_text(encoding='utf-8')}")
    return Running(process, *lines)


def stop(server: Running) -> None:
    """SIGTERM: the server answers what it took and leaves with status 0."""
    title("Stop")
    server.process.send_signal(signal.SIGTERM)
    try:
        status = server.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"still there {STOP_TIMEOUT_S:.0f} s after SIGTERM") from None
    say("SIGTERM", f"exit status {status}")
    require(status == 0, f"exit status {status} instead of 0:\n{LOG.read_text(encoding='utf-8')}")


def fetch(url: str, body: str | None = None) -> tuple[int, str]:
    """Status and body of one plain HTTP request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", parts.path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def require(kept: bool, promise: str) -> None:
    """End the demo if a promise is not kept."""
    if not kept:
        raise DemoFailed(promise)


def title(text: str) -> None:
    """Begin a chapter."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def say(label: str, text: str) -> None:
    """One line of it."""
    print(f"  {label:<10} {text}", flush=True)
