"""Assembles the data plane: the only place that constructs everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from taxiway import __version__
from taxiway.config.machine import available_cpus
from taxiway.config.settings import Settings
from taxiway.core.clock import Clock, SystemClock
from taxiway.core.errors import TaxiwayError, Unavailable
from taxiway.server.administration import Administration
from taxiway.server.admission import Admission
from taxiway.server.models.loading import Host, ModelLoader
from taxiway.server.models.manager import ModelManager
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Service, Snapshot
from taxiway.server.statistics import GrpcStatistics, ServerStatistics
from taxiway.server.wire.api import inference_routes, make_endpoints, metrics_routes, reply_metrics
from taxiway.server.wire.complaints import Complaints
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.front import HttpFront
from taxiway.server.wire.grpc.calls import Calls
from taxiway.server.wire.grpc.front import GrpcFront
from taxiway.server.wire.grpc.infer import Edge
from taxiway.server.wire.grpc.services import Services
from taxiway.server.wire.management import ManagementEndpoints
from taxiway.server.wire.routes import Route, RouteTable
from taxiway.server.wire.signature import WireLimits
from taxiway.server.wire.status import PROFILES
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.host import HostSampler, build_point
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point, render_metrics

_log = Log("taxiway.server")
_GOODBYE_S = 0.5
"""What connections get at least, however long the requests took: the last answers must still go out."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens; None where a port is off."""

    http: str
    metrics: str | None
    grpc: str | None


class DataPlane:
    """One server in one process. `start` returns when it is ready; `stop` when nothing is owed to anybody.

    Args:
        suppressed_lines: asked at a scrape for the log lines held back so far.
    """

    def __init__(
        self, settings: Settings, clock: Clock | None = None, suppressed_lines: Callable[[], int] = int
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(settings.limits.max_requests, settings.limits.max_buffered_bytes)
        admission = self._admission
        self._statistics = ServerStatistics(lambda: (admission.requests, admission.bytes, admission.refused))
        self._snapshot = Snapshot()
        self._accepting = False
        self._host = HostSampler()
        self._suppressed_lines = suppressed_lines
        loader = ModelLoader(settings, Host(self._loop, self._clock, available_cpus()))
        self._models = ModelManager(loader, self._clock)
        self._administration = Administration(self._routing, self._is_ready, __version__)
        self._fronts: list[HttpFront | GrpcFront] = []
        self._grpc_statistics = GrpcStatistics()

    async def start(self) -> Addresses:
        """Load the models, then open the ports.

        Raises:
            TaxiwayError: a model cannot be served, or a port cannot be opened.
        """
        self._models.load_all(self._settings.models.paths)
        self._snapshot = snapshot_of(self._models.served)
        try:
            addresses = await self._open_ports()
        except TaxiwayError:
            await self.stop()
            raise
        self._accept(True)
        _log.info("ready", address=addresses.http, count=len(self._models.served))
        return addresses

    async def _open_ports(self) -> Addresses:
        http = self._settings.http
        front = self._front(RouteTable(self._routes()), self._statistics)
        address = await front.listen(http.host, http.port, backlog=http.backlog, reuse_port=http.reuse_port)
        grpc = await self._open_grpc() if self._settings.grpc.enabled else None
        metrics = await self._open_metrics() if self._settings.metrics.enabled else None
        return Addresses(_url(*address), metrics, grpc)

    async def stop(self) -> bool:
        """Refuse what is new, answer what was taken, close everything: all within `limits.drain_timeout_s`.

        Returns:
            False if that time ran out: something was refused that had been taken, and may still be running.
        """
        self._accept(False)
        self._admission.draining = True
        timeout_s = self._settings.limits.drain_timeout_s
        _log.info("draining", count=self._admission.requests, limit=round(timeout_s))
        deadline = self._loop.time() + timeout_s
        drained = await self._models.drain(timeout_s)
        left_s = max(deadline - self._loop.time(), _GOODBYE_S)
        given_up = None if drained else Unavailable("the server is shutting down", hint="ask another replica")
        closed = await asyncio.gather(*(front.close(left_s, given_up) for front in self._fronts))
        if drained and not all(closed):
            _log.warning("drain_timeout", reason="clients did not send, or read, what was left in time")
        _log.info("stopped")
        return drained and all(closed)

    def _routes(self) -> list[Route]:
        profile = PROFILES[self._settings.compat]
        manage = ManagementEndpoints(self._administration, profile)
        endpoints = make_endpoints(self._routing, self._admission, self._wire_limits(), manage, profile)
        return inference_routes(endpoints, profile, __version__)

    def _wire_limits(self) -> WireLimits:
        limits = self._settings.limits
        return WireLimits(limits.max_elements, limits.max_json_depth)

    def _routing(self) -> Snapshot:
        return self._snapshot

    def _accept(self, accepting: bool) -> None:
        self._accepting = accepting
        self._administration.readiness_changed()

    def _is_ready(self) -> bool:
        return self._accepting and self._models.all_ready()

    def _front(self, routes: RouteTable, statistics: ServerStatistics) -> HttpFront:
        front = HttpFront(
            loop=self._loop,
            routes=routes,
            limits=self._settings.limits,
            profile=PROFILES[self._settings.compat],
            admission=self._admission,
            statistics=statistics,
            report_bug=_report_bug,
        )
        self._fronts.append(front)
        return front

    async def _open_grpc(self) -> str:
        settings, limits, profile = self._settings.grpc, self._settings.limits, PROFILES[self._settings.compat]
        calls = Calls(profile, self._grpc_statistics, Complaints(Log("taxiway.grpc"), _report_bug))
        edge = Edge(self._routing, self._admission, self._wire_limits(), calls, guard=None)
        services = Services(edge, self._administration, profile, settings, limits)
        front = GrpcFront(settings, limits, services)
        self._fronts.append(front)
        host, port = await front.listen(settings.host, settings.port, unix_socket=settings.unix_socket)
        return _address(host, port)

    async def _open_metrics(self) -> str:
        metrics = self._settings.metrics
        front = self._front(metrics_routes(self._reply_metrics), ServerStatistics(_nothing_held))
        return _url(*await front.listen(metrics.host, metrics.port, backlog=16, reuse_port=False))

    def _reply_metrics(self, exchange: Exchange) -> None:
        reply_metrics(exchange, render_metrics(self._points()))

    def _points(self) -> Iterator[Point]:
        yield build_point(__version__)
        yield from self._host.points()
        yield from self._statistics.points()
        yield from self._grpc_statistics.points()
        yield Point(names.LOG_SUPPRESSED, (), self._suppressed_lines())
        for served in self._models.served:
            yield from served.statistics.points()


def snapshot_of(served: Sequence[ServedModel]) -> Snapshot:
    """A snapshot in which the latest version of each model answers for its name."""
    versions: dict[str, dict[int, ServedModel]] = {}
    for one in served:
        versions.setdefault(one.name, {})[one.version] = one
    services = {name: Service(name, MappingProxyType(own), own[max(own)]) for name, own in versions.items()}
    return Snapshot(MappingProxyType(services))


def _report_bug(problem: BaseException) -> None:
    _log.error("bug", error=problem)


def _nothing_held() -> tuple[int, int, int]:
    return (0, 0, 0)


def _url(host: str, port: int) -> str:
    return f"http://{_address(host, port)}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
