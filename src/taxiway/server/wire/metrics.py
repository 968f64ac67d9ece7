"""The metrics port: Prometheus scrapes on a port of their own, which inference never holds up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from taxiway.config.settings import Settings
from taxiway.core.errors import Unavailable
from taxiway.server.admission import Admission
from taxiway.server.totals import ServerStatistics
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.front import HttpFront
from taxiway.server.wire.reception import Reception
from taxiway.server.wire.routes import Route, RouteTable
from taxiway.server.wire.status import PROFILES
from taxiway.telemetry.dialects import in_dialects
from taxiway.telemetry.exposition import Exposition, exposition_for
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.server")
_BACKLOG = 16
_MAX_REQUESTS = 64
_GOODBYE_S = 0.5


class MetricsPort:
    """GET /metrics.

    Args:
        reception: how callers are received; whoever made it reloads it.
        scrape: gives the points of one scrape.
    """

    def __init__(
        self, settings: Settings, reception: Reception, scrape: Callable[[], Awaitable[Iterable[Point]]]
    ) -> None:
        self._scrape = scrape
        self._dialects = settings.metrics.dialects
        route = Route(
            "GET", "/metrics", self._reply, "Metrics, as Prometheus text or OpenMetrics", body_limit=0, scope="metrics"
        )
        self._front = HttpFront(
            loop=asyncio.get_running_loop(),
            routes=RouteTable([route]),
            limits=settings.limits,
            profile=PROFILES[settings.compat],
            admission=Admission(_MAX_REQUESTS, settings.limits.max_buffered_bytes),
            statistics=ServerStatistics(lambda: (0, 0, 0)),
            report_bug=_report_bug,
            reception=reception,
        )

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on these bound sockets, which are ours from now on.

        Raises:
            FailedPrecondition: somebody else has begun to listen there.
        """
        for bound in sockets:
            await self._front.serve(bound, backlog=_BACKLOG)

    async def close(self) -> None:
        """Answer what was asked, and close."""
        if not await self._front.close(_GOODBYE_S):
            await self._front.give_up(Unavailable("the server is shutting down"), 0.0)

    def _reply(self, exchange: Exchange) -> None:
        exposition = exposition_for(exchange.head.headers.get(b"accept", b"").decode("latin-1"))
        exchange.reply_with(self._written(exposition), exposition.content_type)

    async def _written(self, exposition: Exposition) -> bytes:
        return exposition.write(in_dialects(await self._scrape(), self._dialects))


def _report_bug(problem: BaseException) -> None:
    _log.error("bug", error=problem)
