"""Assembles the data plane: the only place that constructs everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from taxiway import __version__
from taxiway.config.machine import available_cpus
from taxiway.config.settings import Settings
from taxiway.core.clock import Clock, SystemClock
from taxiway.core.errors import Unavailable
from taxiway.server.administration import Administration
from taxiway.server.admission import Admission
from taxiway.server.cache.store import AnswerStore
from taxiway.server.guard import Guard
from taxiway.server.models.loading import Host, ModelLoader
from taxiway.server.models.loading_thread import LoadingThread
from taxiway.server.models.manager import ModelManager
from taxiway.server.models.roster import ModelRoutes
from taxiway.server.reloading import Reloadable, run_reloading
from taxiway.server.routing import Snapshot, snapshot_of
from taxiway.server.shared_memory import NO_REGIONS, Regions, SystemRegions
from taxiway.server.statistics import GrpcStatistics, ServerStatistics
from taxiway.server.tls import TlsFiles
from taxiway.server.tracing.gates import TraceGates
from taxiway.server.tracing.plan import TracePlans
from taxiway.server.tracing.sinks import trace_sinks
from taxiway.server.wire.api import inference_routes, make_endpoints, metrics_routes, reply_metrics
from taxiway.server.wire.cold import ColdDoor, Hold, never_cold
from taxiway.server.wire.complaints import Complaints
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.extensions import SettingsEndpoints
from taxiway.server.wire.front import HttpFront, Reception
from taxiway.server.wire.grpc.calls import Calls
from taxiway.server.wire.grpc.front import GrpcFront
from taxiway.server.wire.grpc.infer import Edge
from taxiway.server.wire.grpc.services import Services
from taxiway.server.wire.management import ManagementEndpoints
from taxiway.server.wire.oip import Common
from taxiway.server.wire.routes import Route, RouteTable
from taxiway.server.wire.shared_memory import SharedMemoryEndpoints
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
    """Where the server listens; what is off is None."""

    http: str
    metrics: str | None
    grpc: str | None = None
    http_unix: str | None = None


class DataPlane:
    """One server in one process. `start` returns when it is ready; `stop` when nothing is owed to anybody.

    Args:
        suppressed_lines: asked at a scrape for the log lines held back so far.

    Raises:
        InvalidConfig: the keys file, or a file of TLS, cannot be read or breaks a rule.
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
        self._traces = TraceGates(
            TracePlans.of(settings.trace),
            self._clock,
            self._loop,
            trace_sinks(settings.trace, settings.workers, self._clock),
        )
        self._store = AnswerStore(settings.cache.max_bytes) if settings.cache.max_bytes else None
        host = Host(self._loop, self._clock, available_cpus(), self._traces.gate)
        loading = LoadingThread(ModelLoader(settings, host, self._store), settings.models.paths, self._loop)
        self._models = ModelManager(loading, settings.models, self._clock, admission, self._route)
        self._regions = _regions(settings)
        self._administration = Administration(
            self._routing, self._models, self._is_accepting, __version__, self._traces, self._regions
        )
        self._fronts: list[HttpFront] = []
        self._grpc_fronts: list[GrpcFront] = []
        self._grpc_statistics = GrpcStatistics()
        keys_file = settings.auth.keys_file
        self._guard = Guard(Path(keys_file), self._clock) if keys_file else None
        self._tls = TlsFiles(settings.tls) if settings.tls.certificate else None
        self._reloading: asyncio.Task[None] | None = None

    async def start(self) -> Addresses:
        """Open the ports and load the models: until that is done, the server says that it is alive and not ready.

        Where ports are shared with other servers the models come first: the kernel gives a share of the connections
        to whoever listens.

        Raises:
            TaxiwayError: a model cannot be served, or a port cannot be opened; nothing stays open.
        """
        try:
            if self._settings.http.reuse_port:
                await self._models.start()
                addresses = await self._open()
            else:
                addresses = await self._open()
                await self._models.start()
        except BaseException:
            await asyncio.gather(*(door.close(0) for door in self._doors()))
            raise
        self._accept(True)
        _log.info("ready", address=addresses.http, count=len(self._models.served))
        return addresses

    async def _open(self) -> Addresses:
        http = self._settings.http
        front = self._front(RouteTable(self._routes()), self._statistics)
        address = await front.listen(http.host, http.port, backlog=http.backlog, reuse_port=http.reuse_port)
        if http.unix_socket:
            await front.listen_unix(http.unix_socket, backlog=http.backlog)
        grpc = await self._open_grpc() if self._settings.grpc.enabled else None
        metrics = await self._open_metrics() if self._settings.metrics.enabled else None
        if sources := self._reloadable():
            self._reloading = self._loop.create_task(run_reloading(sources))
        return Addresses(self._url(*address), metrics, grpc, http.unix_socket or None)

    async def stop(self) -> bool:
        """Refuse what is new, answer what was taken, close everything: all within `limits.drain_timeout_s`.

        Returns:
            False if that time ran out: something was refused that had been taken, and may still be running.
        """
        self._accept(False)
        self._admission.draining = True
        if self._reloading is not None:
            self._reloading.cancel()
        timeout_s = self._settings.limits.drain_timeout_s
        _log.info("draining", count=self._admission.requests, limit=round(timeout_s))
        deadline = self._loop.time() + timeout_s
        drained = await self._models.drain(timeout_s)
        left_s = max(deadline - self._loop.time(), _GOODBYE_S)
        given_up = None if drained else Unavailable("the server is shutting down", hint="ask another replica")
        closed = await asyncio.gather(*(door.close(left_s, given_up) for door in self._doors()))
        if drained and not all(closed):
            _log.warning("drain_timeout", reason="clients did not send, or read, what was left in time")
        await self._loop.run_in_executor(None, self._traces.close, _GOODBYE_S)
        _log.info("stopped")
        return drained and all(closed)

    def _doors(self) -> list[HttpFront | GrpcFront]:
        """Every front door that was opened."""
        return [*self._fronts, *self._grpc_fronts]

    def _routes(self) -> list[Route]:
        profile = PROFILES[self._settings.compat]
        manage = ManagementEndpoints(self._administration, profile)
        settings = SettingsEndpoints(self._administration)
        memory = SharedMemoryEndpoints(self._administration)
        hold: Hold = never_cold
        if self._settings.models.memory_bytes:
            hold = ColdDoor(self._models.cold, peeks=self._settings.compat == "strict")
        common = Common(self._routing, self._admission, self._wire_limits(), self._regions, hold)
        endpoints = make_endpoints(common, manage, settings, memory, profile)
        return inference_routes(endpoints, profile, __version__)

    def _wire_limits(self) -> WireLimits:
        limits = self._settings.limits
        return WireLimits(limits.max_elements, limits.max_json_depth)

    def _routing(self) -> Snapshot:
        return self._snapshot

    def _route(self, routes: Mapping[str, ModelRoutes]) -> None:
        """From here on these are the routes; what connections remember of the last ones would keep it in memory."""
        self._snapshot = snapshot_of(routes)
        for front in self._fronts:
            front.heads.forget_routes()
        self._administration.readiness_changed()

    def _is_accepting(self) -> bool:
        return self._accepting

    def _reloadable(self) -> list[Reloadable]:
        return [source for source in (self._guard, self._tls) if source is not None]

    def _accept(self, accepting: bool) -> None:
        self._accepting = accepting
        self._administration.readiness_changed()

    def _front(self, routes: RouteTable, statistics: ServerStatistics) -> HttpFront:
        front = HttpFront(
            loop=self._loop,
            routes=routes,
            limits=self._settings.limits,
            profile=PROFILES[self._settings.compat],
            admission=self._admission,
            statistics=statistics,
            report_bug=_report_bug,
            reception=Reception(self._guard, self._tls),
        )
        self._fronts.append(front)
        return front

    async def _open_grpc(self) -> str:
        settings, limits, profile = self._settings.grpc, self._settings.limits, PROFILES[self._settings.compat]
        calls = Calls(profile, self._grpc_statistics, Complaints(Log("taxiway.grpc"), _report_bug))
        edge = Edge(self._routing, self._admission, self._wire_limits(), calls, guard=None, regions=self._regions)
        services = Services(edge, self._administration, profile, settings, limits)
        front = GrpcFront(settings, limits, services)
        self._grpc_fronts.append(front)
        host, port = await front.listen(settings.host, settings.port, unix_socket=settings.unix_socket)
        return _shown(host, port)

    async def _open_metrics(self) -> str:
        metrics = self._settings.metrics
        front = self._front(metrics_routes(self._reply_metrics), ServerStatistics(_nothing_held))
        address = await front.listen(metrics.host, metrics.port, backlog=16, reuse_port=False, section="metrics")
        return self._url(*address)

    def _url(self, host: str, port: int) -> str:
        return f"{'http' if self._tls is None else 'https'}://{_shown(host, port)}"

    def _reply_metrics(self, exchange: Exchange) -> None:
        reply_metrics(exchange, render_metrics(self._points()))

    def _points(self) -> Iterator[Point]:
        yield build_point(__version__)
        yield from self._host.points()
        yield from self._statistics.points()
        if self._guard is not None:
            yield from self._guard.points()
        yield from self._traces.points()
        if self._tls is not None:
            yield from self._tls.points()
        yield from self._grpc_statistics.points()
        yield Point(names.LOG_SUPPRESSED, (), self._suppressed_lines())
        if self._store is not None:
            yield from self._store.points()
        yield from self._regions.points()
        yield from self._models.points()


def _regions(settings: Settings) -> Regions:
    memory = settings.shared_memory
    return SystemRegions(memory.max_regions, settings.limits.max_body_bytes) if memory.system else NO_REGIONS


def _report_bug(problem: BaseException) -> None:
    _log.error("bug", error=problem)


def _nothing_held() -> tuple[int, int, int]:
    return (0, 0, 0)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
