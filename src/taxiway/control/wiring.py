"""Makes everything in the control process, and ends it; the only place that knows all of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from taxiway.config.places import capture_place, journal_url, mlflow_places, monitoring_place, registry_places
from taxiway.config.settings import Settings
from taxiway.control.app import make_app
from taxiway.control.callers import Callers
from taxiway.control.console.feed import Feed, make_desk
from taxiway.control.console.models import DataPlane, model_routes
from taxiway.control.console.pages import page_routes
from taxiway.control.console.parts import Parts
from taxiway.control.console.past import history_routes
from taxiway.control.console.records import record_routes
from taxiway.control.console.shelf import Shelf
from taxiway.control.console.signing_in import session_routes
from taxiway.control.console.slos import Budgets, slo_routes
from taxiway.control.console.streams import stream_routes
from taxiway.control.drift import drift_routes
from taxiway.control.functions import ProcessFunctions
from taxiway.control.health import health_routes
from taxiway.control.http_port import ControlPort
from taxiway.control.judging import judge_routes
from taxiway.control.monitoring import Monitoring, Reporter, Sink
from taxiway.control.names import Names
from taxiway.control.rollouts import RolloutRoutes
from taxiway.control.server import server_routes
from taxiway.control.sessions import Sessions
from taxiway.control.traffic import ChannelTraffic
from taxiway.core.clock import SystemClock
from taxiway.core.errors import NotFound, TaxiwayError
from taxiway.intake.mlflow.server import Mlflow
from taxiway.monitor.capture.capture import Capture
from taxiway.monitor.mlflow.exporter import MlflowExporter
from taxiway.registry import Registry
from taxiway.registry.canonical import canonical_json, digest_of
from taxiway.rollout.controller import RolloutController
from taxiway.rollout.errands import Errands
from taxiway.rollout.journal import Journal
from taxiway.rollout.office import RolloutOffice
from taxiway.rollout.quality import QualityDesk
from taxiway.rollout.resolving import Resolver
from taxiway.server.channel import Channel, Verb
from taxiway.server.reloading import run_reloading
from taxiway.server.wire.reception import Reception
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.control")
_LEAD_S = 0.2


class Control:
    """The whole of it.

    Args:
        settings: the server's.
        channel: to the supervisor.
        environ: where defaults of places come from.

    Raises:
        InvalidConfig: the keys file, or a file of TLS, cannot be read or breaks a rule.
    """

    def __init__(self, settings: Settings, channel: Channel, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._clock = SystemClock()
        self._reception = Reception.of(settings, self._clock)
        directory = monitoring_place(settings.monitoring.directory, environ)
        self._sessions = Sessions(directory / "console.secret", self._clock, secure=bool(settings.tls.certificate))
        self._callers = Callers(self._reception.guard, self._sessions)
        self._channel = channel
        self._traffic = ChannelTraffic(channel)
        self._verbs: Mapping[str, Verb] = {"feedback": self._feedback}
        self._journal = Journal.open(journal_url(settings, environ))
        control = settings.control
        folder = Path(control.python or Path.cwd())
        self._functions = ProcessFunctions(folder, control.python_timeout_s, control.python_memory_bytes)
        self._quality = QualityDesk(self._journal, self._functions)
        self._errands = Errands(self._journal, self._open_registry)
        self._resolver = Resolver(self._open_registry, registry_places(settings.registry, environ).cache)
        self._controller = RolloutController(
            self._journal,
            self._traffic,
            self._quality,
            self._deliver,
            self._resolver.found_again,
            self._clock,
            settings.control.look_every_s,
        )
        self._office = self._make_office()
        self._parts = Parts(self._journal, self._controller)
        self._feed = self._make_feed(directory)
        self._budgets = Budgets(settings.monitoring.slos, self._feed)
        self._monitoring = Monitoring(
            settings.monitoring, channel, directory, self._sinks(directory), self._reporters()
        )
        self._port = self._make_port()
        self._reloading: asyncio.Task[None] | None = None
        self._declaring: asyncio.Task[None] | None = None

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Go on with what the journal says, and take requests on these sockets."""
        if sources := self._reception.reloadable():
            self._reloading = asyncio.get_running_loop().create_task(run_reloading(sources))
        self._controller.begin()
        self._monitoring.begin()
        if self._feed is not None:
            self._feed.begin()
        self._declaring = asyncio.get_running_loop().create_task(self._start_declared())
        await self._port.open(sockets)

    async def close(self) -> None:
        """Decide no more, and answer what was asked."""
        if self._reloading is not None:
            self._reloading.cancel()
        if self._declaring is not None:
            self._declaring.cancel()
        if self._feed is not None:
            await self._feed.end()
        await self._monitoring.end()
        await self._controller.end()
        await self._port.close()
        await asyncio.to_thread(self._functions.close)
        self._journal.close()

    async def do(self, verb: str, words: Mapping[str, Any]) -> object:
        """What a data-plane process asks.

        Raises:
            NotFound: there is no such verb.
        """
        if verb not in self._verbs:
            raise NotFound(f"the control process knows no {verb!r}")
        return await self._verbs[verb](words)

    def points(self, suppressed_lines: int) -> Iterator[Point]:
        """Every metric series of this process."""
        yield Point(names.LOG_SUPPRESSED, (), suppressed_lines)
        yield Point(names.ANSWERS_NOT_JUDGED, (), self._quality.dropped)
        yield from self._reception.points()
        yield from self._monitoring.points()
        if self._feed is not None:
            yield from self._feed.points()

    # --- rollouts -------------------------------------------------------------------------------------------

    async def _start_declared(self) -> None:
        """Begin the rollouts of the manifest, each once: its plan is its key, however often the server is started."""
        declared = {name: plan for name, plan in self._settings.rollouts.items() if plan.to or plan.arms}
        while declared and not self._controller.leads:  # noqa: ASYNC110 - a lease has no event
            await asyncio.sleep(_LEAD_S)
        for service, plan in declared.items():
            said = plan.model_dump(mode="json", exclude_unset=True)
            key = f"manifest:{service}:{digest_of(canonical_json(said))}"
            try:
                await self._office.start(service, {}, actor="manifest", reason="the manifest", force=False, key=key)
            except TaxiwayError as error:
                _log.warning("rollout_not_started", model=service, error=error)

    def _sinks(self, directory: Path) -> list[Sink]:
        """Who is shown sampled rows, beside drift."""
        told = self._settings.monitoring
        features = {model: one.features for model, one in told.drift.models.items()}
        place = capture_place(told.capture.directory, directory)
        capture = Capture(told.capture, place, directory / "capture.key", features)
        return [capture] if capture.is_on else []

    def _reporters(self) -> list[Reporter]:
        """Who is told what is known of versions in service."""
        told = self._settings.monitoring.mlflow
        place = mlflow_places(self._settings.mlflow, self._environ)
        return [MlflowExporter(told, partial(Mlflow.connect, place.tracking_uri))] if told.enabled else []

    async def _feedback(self, words: Mapping[str, Any]) -> object:
        told = await asyncio.to_thread(self._quality.give, words)
        labels = {one["request"]: one["value"] for one in words["feedback"] if one["kind"] == "label"}
        if labels and self._monitoring.watches:
            await self._monitoring.labelled(words["service"], labels)
        return told

    async def _deliver(self) -> None:
        await asyncio.to_thread(self._errands.deliver)

    def _make_office(self) -> RolloutOffice:
        rollouts, replicas = self._settings.rollouts, self._settings.workers
        return RolloutOffice(
            self._journal,
            self._traffic,
            self._resolver,
            self._controller,
            self._clock,
            rollouts,
            replicas,
            self._quality,
        )

    def _open_registry(self) -> Registry | None:
        """None if there is none: who serves files needs no database."""
        places = registry_places(self._settings.registry, self._environ)
        file = places.url.removeprefix("sqlite:///")
        if "://" not in file and not Path(file).exists():
            return None
        return Registry.open(places.url, places.blobs)

    def _make_feed(self, directory: Path) -> Feed | None:
        """None: nothing is looked at, and nothing kept."""
        kept = self._settings.monitoring.history
        if not kept.enabled:
            return None
        make = partial(make_desk, directory / "history.db", kept.days, kept.max_bytes, kept.max_series)
        return Feed(self._channel, make, self._told_beside)

    async def _told_beside(self) -> Mapping[str, Any]:
        """What the event stream tells that is no metric."""
        return {**await self._parts.told(), "alerts": self._budgets.alerts()}

    def _console(self) -> list[BaseRoute]:
        callers, feed, shelf = self._callers, self._feed, Shelf(self._open_registry)
        models = model_routes(callers, DataPlane(self._channel), shelf, self._journal, self._parts)
        streams = [] if feed is None else stream_routes(callers, feed.streams)
        slos = slo_routes(callers, self._budgets)
        past, records = history_routes(callers, feed), record_routes(callers, shelf, self._journal)
        return [
            *streams,
            *slos,
            *past,
            *models,
            *records,
            *session_routes(callers, self._sessions),
            *page_routes(callers, feed),
        ]

    def _make_port(self) -> ControlPort:
        control = self._settings.control
        rollouts = RolloutRoutes(self._office, self._journal, self._callers).routes()
        judging = judge_routes(self._callers, self._office, self._journal)
        server = server_routes(self._callers, self._channel)
        drift = drift_routes(self._callers, self._monitoring)
        names = Names(control.host, control.allowed_hosts)
        app = make_app(
            [*health_routes(lambda: self._controller.leads), *server, *drift, *judging, *rollouts, *self._console()],
            names,
            self._reception.access,
        )
        return ControlPort(app, self._reception.tls)
