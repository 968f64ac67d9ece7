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
from taxiway.server.inner import InnerCalls
from taxiway.server.models.host import Host
from taxiway.server.models.loading import ModelLoader
from taxiway.server.models.loading_thread import LoadingThread
from taxiway.server.models.manager import ModelManager
from taxiway.server.models.roster import ModelRoutes
from taxiway.server.recording import RecordingDesk
from taxiway.server.reloading import run_reloading
from taxiway.server.routing import Snapshot, snapshot_of
from taxiway.server.sampling import SamplingDesk
from taxiway.server.shared_memory import NO_REGIONS, Regions, SystemRegions
from taxiway.server.signature import WireLimits
from taxiway.server.totals import GrpcStatistics, ServerStatistics
from taxiway.server.tracing.gates import TraceGates
from taxiway.server.tracing.plan import TracePlans
from taxiway.server.tracing.sinks import trace_sinks
from taxiway.server.traffic import TrafficDesk
from taxiway.server.trying import TryingDesk
from taxiway.server.wire.api import inference_routes, make_endpoints
from taxiway.server.wire.cold import ColdDoor, Hold
from taxiway.server.wire.complaints import Complaints
from taxiway.server.wire.extensions import SettingsEndpoints
from taxiway.server.wire.feedback import FeedbackEndpoint
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
from taxiway.server.wire.recording import RecordingEndpoints
from taxiway.server.wire.routes import Route, RouteTable
from taxiway.server.wire.shared_memory import SharedMemoryEndpoints
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
        worker: which of the server's processes this is, from 0.

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
        worker: int = 0,
    ) -> None:
        self._settings = settings
        self._profile = PROFILES[settings.compat]
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._suppressed_lines = suppressed_lines
        self._admission = Admission(settings.limits.max_requests, settings.limits.max_buffered_bytes)
        self._statistics = ServerStatistics(self._held)
        self._grpc_statistics = GrpcStatistics()
        self._traces = self._make_traces()
        self._store = AnswerStore(settings.cache.max_bytes) if settings.cache.max_bytes else None
        self._sampling = self._make_sampling()
        self._models = self._make_models(cpus or available_cpus())
        self._snapshot = Snapshot()
        self._routes_now: Mapping[str, ModelRoutes] = {}
        self._accepting = False
        self._regions = self._make_regions()
        self.traffic = TrafficDesk(self._models.companions, self._reroute, (worker + 0.5) / settings.workers)
        """How requests are split between versions."""
        self._recording = RecordingDesk(settings.recording, self._traces, settings.limits.max_body_bytes)
        trying = TryingDesk(self._make_inner(), self._clock)
        self._administration = Administration(
            self._routing,
            self._models,
            self._is_accepting,
            __version__,
            self._traces,
            self._regions,
            make_fleet,
            {**self.traffic.verbs(), **self._recording.verbs(), **self._sampling_verbs(), **trying.verbs()},
        )
        self.traffic.fleet = self._recording.fleet = self._administration.fleet
        self.reception = Reception.of(settings, self._clock)
        """How callers are received."""
        self._fronts: list[HttpFront] = []
        self._grpc_fronts: list[GrpcFront] = []
        self._reloading: asyncio.Task[None] | None = None
        self._unix: UnixFile | None = None
        self._address = ""
        self._grpc_address = "off"

    # --- from the start to the end ------------------------------------------------------------------------

    async def start(self) -> Addresses:
        """Open the ports that the settings name and load the models; until then we say that we are alive, not ready.

        Where ports are shared with other servers the models come first: the kernel gives a share of the connections
        to whoever listens.

        Raises:
            TaxiwayError: a model cannot be served, or a port cannot be opened; nothing stays open.
        """
        http = self._settings.http
        sockets = bind_tcp(http.host, http.port, reuse_port=http.reuse_port)
        try:
            if http.unix_socket:
                opened, self._unix = open_unix(http.unix_socket, backlog=http.backlog)
                sockets.append(opened)
            if http.reuse_port:
                await self.load()
            addresses = await self.open(sockets)
            if not http.reuse_port:
                await self.load()
        except BaseException:
            await asyncio.gather(*(door.close(0) for door in self._doors()))
            close_all(sockets)
            self._leave_nothing_behind()
            raise
        self.admit()
        return addresses

    async def load(self) -> None:
        """Load the models that are served from the start.

        Raises:
            TaxiwayError: one of them cannot be served.
        """
        await self._models.start()

    async def open(self, sockets: Sequence[socket.socket], *, held: bool = False) -> Addresses:
        """Answer on these bound sockets, which are ours from now on: the first is of HTTP's port.

        Args:
            sockets: of HTTP.
            held: somebody holds gRPC's port for us, and for others (SO_REUSEPORT).

        Raises:
            TaxiwayError: a port cannot be opened.
        """
        self._address = url_of(sockets[0], self.reception.scheme)
        front = self._make_http()
        self._fronts.append(front)
        for bound in sockets:
            await front.serve(bound, backlog=self._settings.http.backlog)
        if sources := self.reception.reloadable():
            self._reloading = self._loop.create_task(run_reloading(sources))
        grpc = await self._open_grpc(held=held) if self._settings.grpc.enabled else None
        self._grpc_address = grpc or "off"
        return Addresses(self._address, grpc, self._settings.http.unix_socket or None)

    def admit(self) -> None:
        """Everything is as it should be: say that we are ready."""
        self._accept(True)
        models = {served.name for served in self._models.served}
        _log.info("ready", address=self._address, grpc=self._grpc_address, models=len(models))

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
        _log.info("draining", requests=self._admission.requests, delay_s=delay_s, timeout_s=timeout_s)
        await asyncio.sleep(delay_s)
        began_s = self._loop.time()
        await self._models.wind_down(timeout_s)  # the doors are open: a sequence comes with requests yet to be sent
        drained = await self._drain(max(timeout_s - (self._loop.time() - began_s), _GOODBYE_S))
        await self._loop.run_in_executor(None, self._traces.close, _GOODBYE_S)
        self._leave_nothing_behind()
        _log.info("stopped")
        return drained

    async def give_way(self, linger_s: float) -> bool:
        """Another server listens beside us: send our clients there without losing a request, then close everything.

        Whoever is connected learns by its next answer that it should connect anew, which leads it to the other one.
        So we are ready to the last.

        Args:
            linger_s: how long to wait for that.

        Returns:
            As `stop`.
        """
        timeout_s = self._settings.limits.drain_timeout_s
        _log.info("giving_way", requests=self._admission.requests, delay_s=linger_s, timeout_s=timeout_s)
        await asyncio.gather(*(front.stop_listening() for front in self._fronts))
        for door in self._doors():
            door.retire()  # only now: whoever connects anew shall not come to us again
        await asyncio.gather(*(front.give_way() for front in self._grpc_fronts))
        await self._models.wind_down(linger_s)
        await asyncio.gather(*(front.emptied(linger_s) for front in self._fronts))
        drained = await self._drain(timeout_s)
        await self._loop.run_in_executor(None, self._traces.close, _GOODBYE_S)
        self._leave_nothing_behind()
        _log.info("stopped")
        return drained

    async def _drain(self, timeout_s: float) -> bool:
        """Close every door, answering what was taken, and then the models; False if something was given up."""
        deadline = self._loop.time() + timeout_s
        closed = await asyncio.gather(*(door.close(timeout_s) for door in self._doors()))
        self._admission.draining = True
        drained = await self._models.drain(max(deadline - self._loop.time(), _GOODBYE_S))
        if not all(closed):
            given_up = Unavailable("the server is shutting down", hint="ask another replica")
            await asyncio.gather(*(door.give_up(given_up, _GOODBYE_S) for door in self._doors()))
            if drained:
                _log.warning("drain_timeout", reason="clients did not send, or read, what was left in time")
        return drained and all(closed)

    def _leave_nothing_behind(self) -> None:
        if self._reloading is not None:
            self._reloading.cancel()
        if self._unix is not None:
            self._unix.remove()

    # --- what is told -------------------------------------------------------------------------------------

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

    def _held(self) -> tuple[int, int, int]:
        return self._admission.requests, self._admission.bytes, self._admission.refused

    # --- what all of them share ---------------------------------------------------------------------------

    def _doors(self) -> list[HttpFront | GrpcFront]:
        """Every front door that was opened."""
        return [*self._fronts, *self._grpc_fronts]

    def _routing(self) -> Snapshot:
        return self._snapshot

    def _route(self, routes: Mapping[str, ModelRoutes]) -> None:
        """From here on these are the routes; what connections remember of the last ones would keep it in memory."""
        self._routes_now = routes
        self._reroute()

    def _reroute(self) -> None:
        """The routes, or how requests are split, have changed."""
        routes = self._routes_now
        self._snapshot = snapshot_of(routes, self.traffic.splits(routes))
        for door in self._doors():
            door.forget_routes()
        self._administration.readiness_changed()

    def _is_accepting(self) -> bool:
        return self._accepting

    def _accept(self, accepting: bool) -> None:
        self._accepting = accepting
        self._administration.readiness_changed()

    def _wire_limits(self) -> WireLimits:
        limits = self._settings.limits
        return WireLimits(limits.max_elements, limits.max_json_depth)

    # --- how each is made ---------------------------------------------------------------------------------

    def _make_traces(self) -> TraceGates:
        trace = self._settings.trace
        sinks = trace_sinks(trace, self._settings.workers, self._clock)
        return TraceGates(TracePlans.of(trace), self._clock, self._loop, sinks)

    def _make_sampling(self) -> SamplingDesk | None:
        """None: nobody would fetch what is sampled."""
        sampling = self._settings.monitoring.sampling
        watched = sampling.enabled and self._settings.control.enabled
        return SamplingDesk(sampling.max_bytes // self._settings.workers) if watched else None

    def _sampling_verbs(self) -> Mapping[str, Verb]:
        return {} if self._sampling is None else self._sampling.verbs()

    def _make_models(self, cpus: int) -> ModelManager:
        sampler = None if self._sampling is None else self._sampling.sampler
        host = Host(self._loop, self._clock, cpus, self._make_inner(), self._traces.gate, sampler)
        models = self._settings.models
        loader = ModelLoader(self._settings, host, self._store)
        loading = LoadingThread(loader, models.paths, self._loop, self._settings.pipelines)
        return ModelManager(loading, models, self._clock, self._admission, self._route)

    def _make_inner(self) -> InnerCalls:
        return InnerCalls(self._routing, lambda: self._models.cold, self._wire_limits(), self._clock)

    def _make_regions(self) -> Regions:
        memory = self._settings.shared_memory
        if not memory.system:
            return NO_REGIONS
        return SystemRegions(memory.max_regions, self._settings.limits.max_body_bytes)

    def _make_http(self) -> HttpFront:
        return HttpFront(
            loop=self._loop,
            routes=RouteTable(self._routes()),
            limits=self._settings.limits,
            profile=self._profile,
            admission=self._admission,
            statistics=self._statistics,
            report_bug=_report_bug,
            reception=self.reception,
        )

    def _routes(self) -> list[Route]:
        manage = ManagementEndpoints(self._administration, self._profile)
        settings = SettingsEndpoints(self._administration)
        memory = SharedMemoryEndpoints(self._administration)
        common = Common(self._routing, self._admission, self._wire_limits(), self._regions, self._make_hold())
        feedback = FeedbackEndpoint(self._administration.fleet.ask_control)
        recording = RecordingEndpoints(self._recording)
        endpoints = make_endpoints(common, manage, settings, memory, feedback, recording, self._profile)
        return inference_routes(endpoints, self._profile, __version__)

    def _make_hold(self) -> Hold:
        """Also without models.memory_bytes: while one version is exchanged for another, requests wait."""
        return ColdDoor(self._models.cold, peeks=self._settings.compat == "strict")

    async def _open_grpc(self, *, held: bool) -> str:
        """Open its port; the address it got."""
        settings, tls = self._settings.grpc, self.reception.tls
        front = GrpcFront(settings, self._settings.limits, self._make_services())
        self._grpc_fronts.append(front)
        host, port = await front.listen(
            settings.host,
            settings.port,
            reuse_port=held,
            unix_socket=settings.unix_socket,
            credentials=None if tls is None else credentials_of(tls),
        )
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _make_services(self) -> Services:
        guard, access = self.reception.guard, self.reception.access
        calls = Calls(self._profile, self._grpc_statistics, Complaints(Log("taxiway.grpc"), _report_bug))
        edge = Edge(self._routing, self._admission, self._wire_limits(), calls, self._models.cold, guard, self._regions)
        log = None if access is None else CallLog(access, guard)
        settings, limits = self._settings.grpc, self._settings.limits
        return Services(edge, self._administration, self._profile, settings, limits, log)


def _report_bug(problem: BaseException) -> None:
    _log.error("bug", error=problem)
