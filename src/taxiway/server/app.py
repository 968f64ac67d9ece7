"""Assembles the data plane: the only place that constructs everything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from taxiway import __version__
from taxiway.config.machine import available_cpus
from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.core.errors import Unavailable
from taxiway.server.administration import Administration
from taxiway.server.admission import Admission
from taxiway.server.channel import Verb
from taxiway.server.fleet import Alone, Fleet
from taxiway.server.models.loading import Host, ModelLoader
from taxiway.server.models.manager import ModelManager
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Service, Snapshot
from taxiway.server.statistics import ServerStatistics
from taxiway.server.wire.api import inference_routes, make_endpoints
from taxiway.server.wire.binding import bind_port, url_of
from taxiway.server.wire.front import HttpFront
from taxiway.server.wire.management import ManagementEndpoints
from taxiway.server.wire.oip_requests import WireLimits
from taxiway.server.wire.routes import Route, RouteTable
from taxiway.server.wire.status import PROFILES
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.server")
_GOODBYE_S = 0.5
"""What connections get at least, however long the requests took: the last answers must still go out."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where clients reach the data plane."""

    http: str


class DataPlane:
    """The data plane of one process. `start` returns when it is ready; `stop` when nothing is owed to anybody.

    Args:
        make_fleet: from what every process must be able to do, the fleet that has them all do it.
        cpus: processors that are ours.
        suppressed_lines: asked at a scrape for the log lines held back so far.
    """

    def __init__(
        self,
        settings: Settings,
        make_fleet: Callable[[Mapping[str, Verb]], Fleet] = Alone,
        *,
        cpus: int | None = None,
        suppressed_lines: Callable[[], int] = int,
    ) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(settings.limits.max_requests, settings.limits.max_buffered_bytes)
        admission = self._admission
        self._statistics = ServerStatistics(lambda: (admission.requests, admission.bytes, admission.refused))
        self._snapshot = Snapshot()
        self._accepting = False
        self._suppressed_lines = suppressed_lines
        loader = ModelLoader(settings, Host(self._loop, self._clock, cpus or available_cpus()))
        self._models = ModelManager(loader, self._clock)
        self._administration = Administration(self._routing, self._is_ready, __version__, make_fleet)
        self._fronts: list[HttpFront] = []

    async def start(self) -> Addresses:
        """Load the models, then open the ports that the settings name.

        Raises:
            TaxiwayError: a model cannot be served, or a port cannot be opened.
        """
        self.load()
        http = self._settings.http
        return await self.open(bind_port(http.host, http.port, reuse_port=http.reuse_port))

    def load(self) -> None:
        """Load the models that are served from the start.

        Raises:
            TaxiwayError: one of them cannot be served.
        """
        self._models.load_all(self._settings.models.paths)
        self._snapshot = snapshot_of(self._models.served)

    async def open(self, http: Sequence[socket.socket]) -> Addresses:
        """Take requests from now on: over HTTP on these bound sockets, which are ours from now on.

        Raises:
            TaxiwayError: a port cannot be opened.
        """
        address = url_of(http[0])
        await self._front(RouteTable(self._routes())).listen_on(http, backlog=self._settings.http.backlog)
        self._accepting = True
        _log.info("ready", address=address, count=len(self._models.served))
        return Addresses(address)

    async def stop(self, delay_s: float = 0.0) -> bool:
        """Take no more connections, answer what was taken, close everything: within `limits.drain_timeout_s`.

        Args:
            delay_s: how long before that to say that we are not ready, to send clients elsewhere, and yet to serve.

        Returns:
            False if that time ran out: something was refused that had been taken, and may still be running.
        """
        self._accepting = False
        for front in self._fronts:
            front.retire()
        timeout_s = self._settings.limits.drain_timeout_s
        _log.info("draining", count=self._admission.requests, limit=round(timeout_s))
        await asyncio.sleep(delay_s)
        deadline = self._loop.time() + timeout_s
        closed = await asyncio.gather(*(front.close(timeout_s) for front in self._fronts))
        self._admission.draining = True
        drained = await self._models.drain(max(deadline - self._loop.time(), _GOODBYE_S))
        if not all(closed):
            given_up = Unavailable("the server is shutting down", hint="ask another replica")
            await asyncio.gather(*(front.give_up(given_up, _GOODBYE_S) for front in self._fronts))
            if drained:
                _log.warning("drain_timeout", reason="clients did not send, or read, what was left in time")
        _log.info("stopped")
        return drained and all(closed)

    def points(self) -> Iterator[Point]:
        """Every metric series of this process."""
        yield from self._statistics.points()
        yield Point(names.LOG_SUPPRESSED, (), self._suppressed_lines())
        for served in self._models.served:
            yield from served.statistics.points()

    def _routes(self) -> list[Route]:
        limits = self._settings.limits
        profile = PROFILES[self._settings.compat]
        wire_limits = WireLimits(limits.max_elements, limits.max_json_depth)
        manage = ManagementEndpoints(self._administration, profile)
        endpoints = make_endpoints(self._routing, self._admission, wire_limits, manage, profile)
        return inference_routes(endpoints, profile, __version__)

    def _routing(self) -> Snapshot:
        return self._snapshot

    def _is_ready(self) -> bool:
        return self._accepting and self._models.all_ready()

    def _front(self, routes: RouteTable) -> HttpFront:
        front = HttpFront(
            loop=self._loop,
            routes=routes,
            limits=self._settings.limits,
            profile=PROFILES[self._settings.compat],
            admission=self._admission,
            statistics=self._statistics,
            report_bug=_report_bug,
        )
        self._fronts.append(front)
        return front


def snapshot_of(served: Sequence[ServedModel]) -> Snapshot:
    """A snapshot in which the latest version of each model answers for its name."""
    versions: dict[str, dict[int, ServedModel]] = {}
    for one in served:
        versions.setdefault(one.name, {})[one.version] = one
    services = {name: Service(name, MappingProxyType(own), own[max(own)]) for name, own in versions.items()}
    return Snapshot(MappingProxyType(services))


def _report_bug(problem: BaseException) -> None:
    _log.error("bug", error=problem)
