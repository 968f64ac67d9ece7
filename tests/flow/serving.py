"""A whole server in this process, on ports of its own, for tests that speak to it from outside.

    with serve(path, compat="triton", limits__max_elements=100) as server:
        answer = server.ask("POST", "/v2/models/doubler/infer", {"inputs": [...]})
        assert answer.status == 200, answer.body

The server runs on a uvloop in a thread; leaving the block drains it. Small models to serve are in
`tests/support/onnx_models.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from taxiway import __version__
from taxiway.config.loader import load_settings
from taxiway.server.app import DataPlane
from taxiway.server.wire.metrics import MetricsPort
from taxiway.server.wire.sockets import bind_tcp, url_of
from taxiway.telemetry.host import HostSampler, build_point
from taxiway.telemetry.render import Point

QUICK: Mapping[str, object] = {
    "http.port": 0,
    "grpc.port": 0,
    "metrics.port": 0,
    "batching.measure": False,
    "execution.mode": "inline",
    "execution.instances": 1,
    "limits.drain_timeout_s": 5,
    "log.level": "error",
}
"""Settings that make a test's server start in milliseconds; any of them may be overridden."""

_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; NaN and Infinity are numbers."""
        return json.loads(self.body)


@dataclass
class Server:
    """A running server: the addresses of its front doors and of its metrics, and the data plane itself."""

    http: str
    grpc: str
    metrics: str
    plane: DataPlane
    loop: asyncio.AbstractEventLoop = field(repr=False)

    stopping: asyncio.Event = field(repr=False)

    def stop(self) -> None:
        """Have it drain while the block still runs."""
        with contextlib.suppress(RuntimeError):  # it has left already
            self.loop.call_soon_threadsafe(self.stopping.set)

    def url(self, path: str) -> str:
        """The front door's address of `path`."""
        return self.http + path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the front door, for a socket."""
        parts = urlsplit(self.http)
        return str(parts.hostname), int(parts.port or 0)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return ask(self.http, method, path, raw, headers or {})

    def scrape(self) -> str:
        """The text of GET /metrics."""
        return self.scrape_as("").body.decode()

    def scrape_as(self, accept: str) -> Answer:
        """GET /metrics, in the form that is asked for."""
        return ask(self.metrics, "GET", "/metrics", None, {"Accept": accept} if accept else {})


def ask(base: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    """One request to the server at `base`, whatever the path looks like."""
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(str(parts.hostname), int(parts.port or 80), timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
    finally:
        connection.close()


async def _scrape(plane: DataPlane) -> list[Point]:
    return [build_point(__version__), *HostSampler().points(), *plane.points()]


@contextmanager
def serve(paths: Path | Iterable[Path], **flags: object) -> Iterator[Server]:
    """Serve what is at `paths` until the block ends.

    Args:
        paths: model files, or directories of models, or one of them.
        flags: settings, written `batching__max_delay_ms=5` for `batching.max_delay_ms`.

    Raises:
        TaxiwayError: the models or the settings are refused.
    """
    given = [paths] if isinstance(paths, Path) else list(paths)
    named = {name.replace("__", "."): value for name, value in flags.items()}
    settings = load_settings(None, {}, {**QUICK, "models.paths": [str(path) for path in given], **named})
    started: Future[Server] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        plane = DataPlane(settings)
        addresses = await plane.start()
        metrics = MetricsPort(settings, plane.reception, lambda: _scrape(plane))
        sockets = bind_tcp("127.0.0.1", 0, reuse_port=False)
        address = url_of(sockets[0], plane.reception.scheme)
        await metrics.open(sockets)
        loop = asyncio.get_running_loop()
        started.set_result(Server(addresses.http, addresses.grpc or "", address, plane, loop, stop))
        await stop.wait()
        await plane.stop()
        await metrics.close()

    def thread_main() -> None:
        try:
            uvloop.run(run())
        except BaseException as problem:  # handed to the test that waits
            if started.done():
                raise
            started.set_exception(problem)

    thread = threading.Thread(target=thread_main, name="server", daemon=True)
    thread.start()
    try:
        server = started.result(timeout=_START_TIMEOUT_S)
        try:
            yield server
        finally:
            server.stop()
    finally:
        thread.join(timeout=_START_TIMEOUT_S)
    assert not thread.is_alive(), "the server did not stop"
