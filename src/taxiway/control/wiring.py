"""Makes everything in the control process, and ends it; the only place that knows all of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taxiway.config.settings import Settings
from taxiway.control.app import make_app
from taxiway.control.callers import Callers
from taxiway.control.health import health_routes
from taxiway.control.http_port import ControlPort
from taxiway.control.names import Names
from taxiway.control.traffic import ChannelTraffic
from taxiway.core.clock import SystemClock
from taxiway.core.errors import NotFound
from taxiway.server.channel import Channel, Verb
from taxiway.server.reloading import run_reloading
from taxiway.server.wire.reception import Reception
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.render import Point


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
        self._callers = Callers(self._reception.guard)
        self._traffic = ChannelTraffic(channel)
        self._verbs: Mapping[str, Verb] = {}
        self._port = self._make_port()
        self._reloading: asyncio.Task[None] | None = None

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Go on with what the journal says, and take requests on these sockets."""
        if sources := self._reception.reloadable():
            self._reloading = asyncio.get_running_loop().create_task(run_reloading(sources))
        await self._port.open(sockets)

    async def close(self) -> None:
        """Decide no more, and answer what was asked."""
        if self._reloading is not None:
            self._reloading.cancel()
        await self._port.close()

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
        yield from self._reception.points()

    def _make_port(self) -> ControlPort:
        control = self._settings.control
        app = make_app([*health_routes()], Names(control.host, control.allowed_hosts), self._reception.access)
        return ControlPort(app, self._reception.tls)
