"""Assembles the data plane: the only place that constructs everything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from taxiway import __version__
from taxiway.config.machine import available_cpus
from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.core.errors import Unavailable
from taxiway.server.administration import Administration
from taxiway.server.admission import Admission
from taxiway.server.cache.store import AnswerStore
from taxiway.server.channel import Verb
from taxiway.server.fleet import Alone, Fleet
from taxiway.server.models.loading import Host, ModelLoader
from taxiway.server.models.loading_thread import LoadingThread
from taxiway.server.models.manager import ModelManager
from taxiway.server.models.roster import ModelRoutes
from taxiway.server.reloading import run_reloading
from taxiway.server.routing import Snapshot, snapshot_of
from taxiway.server.shared_memory import NO_REGIONS, Regions, SystemRegions
from taxiway.server.statistics import GrpcStatistics, ServerStatistics
from taxiway.server.tracing.gates import TraceGates
from taxiway.server.tracing.plan import TracePlans
from taxiway.server.tracing.sinks import trace_sinks
from taxiway.server.wire.api import inference_routes, make_endpoints
from taxiway.server.wire.cold import ColdDoor, Hold, never_cold
from taxiway.server.wire.complaints import Complaints
from taxiway.server.wire.extensions import SettingsEndpoints
from taxiway.server.wire.front import HttpFront
from taxiway.server.wire.grpc.calls import Calls
from taxiway.server.wire.grpc.credentials import credentials_of
from taxiway.server.wire.grpc.front import GrpcFront
from taxiway.server.wire.grpc.infer import Edge
from taxiway.server.wire.grpc.logged import CallLog
from taxiway.server.wire.grpc.services import Services
from taxiway.server.wire.management import ManagementEndpoints
from taxiway.server.wire.oip import Common
from taxiway.server.wire.reception import Reception
from taxiway.server.wire.routes import Route, RouteTable
from taxiway.server.wire.shared_memory import SharedMemoryEndpoints
from taxiway.server.wire.signature import WireLimits
from taxiway.server.wire.sockets import UnixFile, bind_tcp, close_all, open_unix, url_of
from taxiway.server.wire.status import PROFILES
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.server")
_GOODBYE_S = 0.5
"""What connections get at least, however long the requests took: the last answers must still go out."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where clients reach the data plane; what is off is None."""

    http: str
    grpc: str | None = None
    http_unix: str | None = None


class DataPlane:
    """The data plane of one process. `start` returns when it is ready; `stop` when nothing is owed to anybody.

    `start` is `load`, `open` and `admit`, in the order that suits the ports; a worker's supervisor calls for each.

    Args:
        make_fleet: from what every process must be able to do, the fleet that has them all do it.
        cpus: processors that are ours; None: all that this process may use.
        suppressed_lines: asked at a scrape for the log lines held back so far.

    Raises:
        InvalidConfig: the keys file, or a file of TLS, cannot be read or breaks a rule.
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
        self._traces = TraceGates(
            TracePlans.of(settings.trace),
            self._clock,
            self._loop,
            trace_sinks(settings.trace, settings.workers, self._clock),
        )
        self._store = AnswerStore(settings.cache.max_bytes) if settings.cache.max_bytes else None
        host = Host(self._loop, self._clock, cpus or available_cpus(), self._traces.gate)
        loading = LoadingThread(ModelLoader(settings, host, self._store), settings.models.paths, self._loop)
        self._models = ModelManager(loading, settings.models, self._clock, admission, self._route)
        self._regions = _regions(settings)
        self._administration = Administration(
            self._routing, self._models, self._is_accepting, __version__, self._traces, self._regions, make_fleet
        )
        self._fronts: list[HttpFront] = []
        self._grpc_fronts: list[GrpcFront] = []
        self._grpc_statistics = GrpcStatistics()
        self.reception = Reception.of(settings, self._clock)
        """How callers are received."""
        self._reloading: asyncio.Task[None] | None = None
        self._unix: UnixFile | None = None
        self._address = ""

    async def start(self) -> Addresses:
        """Open the ports that the settings name and load the models; until then we say that we are alive, not ready.

        Where ports are shared with other servers the models come first: the kernel gives a share of the connections
        to whoever listens.

        Raises:
            TaxiwayError: a model cannot be served, or a port cannot be opened; nothing stays open.
        """
        http = self._settings.http
        sockets = bind_tcp(http.host, http.port, reuse_port=http.reuse_port)
        if http.unix_socket:
            opened, self._unix = open_unix(http.unix_socket, backlog=http.backlog)
            sockets.append(opened)
        try:
            if http.reuse_port:
                await self.load()
            addresses = await self.open(sockets)
            if not http.reuse_port:
                await self.load()
        except BaseException:
            await asyncio.gather(*(door.close(0) for door in self._doors()))
            close_all(sockets)
            raise
        self.admit()
        return addresses

    async def load(self) -> None:
        """Load the models that are served from the start.

        Raises:
            TaxiwayError: one of them cannot be served.
        """
        await self._models.start()

    async def open(self, sockets: Sequence[socket.socket]) -> Addresses:
        """Answer on these bound sockets, which are ours from now on: the first is of HTTP's port.

        Raises:
            TaxiwayError: a port cannot be opened.
        """
        http = self._settings.http
        address = url_of(sockets[0], self.reception.scheme)
        front = self._front(RouteTable(self._routes()))
        for bound in sockets:
            await front.serve(bound, backlog=http.backlog)
        if sources := self.reception.reloadable():
            self._reloading = self._loop.create_task(run_reloading(sources))
        self._address = address
        grpc = await self._open_grpc() if self._settings.grpc.enabled else None
        return Addresses(address, grpc, http.unix_socket or None)

    def admit(self) -> None:
        """Everything is as it should be: say that we are ready."""
        self._accept(True)
        _log.info("ready", address=self._address, count=len(self._models.served))

    async def stop(self, delay_s: float = 0.0) -> bool:
        """Take no more connections, answer what was taken, close everything: within `limits.drain_timeout_s`.

        Args:
            delay_s: how long before that to say that we are not ready, to send clients elsewhere, and yet to serve.

        Returns:
            False if that time ran out: something was refused that had been taken, and may still be running.
        """
        self._accept(False)
        for door in self._doors():
            door.retire()
        timeout_s = self._settings.limits.drain_timeout_s
        _log.info("draining", count=self._admission.requests, limit=round(timeout_s))
        await asyncio.sleep(delay_s)
        if self._reloading is not None:
            self._reloading.cancel()
        deadline = self._loop.time() + timeout_s
        closed = await asyncio.gather(*(door.close(timeout_s) for door in self._doors()))
        self._admission.draining = True
        drained = await self._models.drain(max(deadline - self._loop.time(), _GOODBYE_S))
        if not all(closed):
            given_up = Unavailable("the server is shutting down", hint="ask another replica")
            await asyncio.gather(*(door.give_up(given_up, _GOODBYE_S) for door in self._doors()))
            if drained:
                _log.warning("drain_timeout", reason="clients did not send, or read, what was left in time")
        await self._loop.run_in_executor(None, self._traces.close, _GOODBYE_S)
        if self._unix is not None:
            self._unix.remove()
        _log.info("stopped")
        return drained and all(closed)

    def points(self) -> Iterator[Point]:
        """Every metric series of this process."""
        yield from self._statistics.points()
        yield from self.reception.points()
        yield from self._traces.points()
        yield from self._grpc_statistics.points()
        yield Point(names.LOG_SUPPRESSED, (), self._suppressed_lines())
        if self._store is not None:
            yield from self._store.points()
        yield from self._regions.points()
        yield from self._models.points()

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
        for door in self._doors():
            door.forget_routes()
        self._administration.readiness_changed()

    def _is_accepting(self) -> bool:
        return self._accepting

    def _accept(self, accepting: bool) -> None:
        self._accepting = accepting
        self._administration.readiness_changed()

    def _front(self, routes: RouteTable) -> HttpFront:
        front = HttpFront(
            loop=self._loop,
            routes=routes,
            limits=self._settings.limits,
            profile=PROFILES[self._settings.compat],
            admission=self._admission,
            statistics=self._statistics,
            report_bug=_report_bug,
            reception=self.reception,
        )
        self._fronts.append(front)
        return front

    async def _open_grpc(self) -> str:
        settings, limits, profile = self._settings.grpc, self._settings.limits, PROFILES[self._settings.compat]
        calls = Calls(profile, self._grpc_statistics, Complaints(Log("taxiway.grpc"), _report_bug))
        guard, tls, access = self.reception.guard, self.reception.tls, self.reception.access
        limited = self._wire_limits()
        edge = Edge(self._routing, self._admission, limited, calls, self._models.cold, guard, self._regions)
        log = None if access is None else CallLog(access, guard)
        services = Services(edge, self._administration, profile, settings, limits, log)
        front = GrpcFront(settings, limits, services)
        self._grpc_fronts.append(front)
        host, port = await front.listen(
            settings.host,
            settings.port,
            reuse_port=self._settings.workers > 1,
            unix_socket=settings.unix_socket,
            credentials=None if tls is None else credentials_of(tls),
        )
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _regions(settings: Settings) -> Regions:
    memory = settings.shared_memory
    return SystemRegions(memory.max_regions, settings.limits.max_body_bytes) if memory.system else NO_REGIONS


def _report_bug(problem: BaseException) -> None:
    _log.error("bug", error=problem)
