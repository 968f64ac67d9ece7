"""What all connections of one port share."""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from taxiway.core.errors import (
    FailedPrecondition,
    ModelFailed,
    Overloaded,
    PermissionDenied,
    TaxiwayError,
    Unauthenticated,
)
from taxiway.server.admission import Admission
from taxiway.server.guard import Guard
from taxiway.server.wire.coding import Coder
from taxiway.server.wire.guarded import GuardedHeads
from taxiway.server.wire.heads import HeadReader
from taxiway.server.wire.http1 import HttpConnection
from taxiway.server.wire.routes import RouteTable
from taxiway.server.wire.status import Profile
from taxiway.telemetry.log_fields import LogFields
from taxiway.telemetry.logs import Log

if TYPE_CHECKING:
    from taxiway.config.settings import LimitSettings
    from taxiway.server.statistics import ServerStatistics
    from taxiway.server.wire.exchange import Buffer, Exchange

_log = Log("taxiway.http")
_OVERLOADED_EVERY_NS = 1_000_000_000
"""Refusals must stay cheap: between two lines they are only counted."""


class HttpFront:
    """One port: its routes, its limits, its open connections."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        routes: RouteTable,
        limits: LimitSettings,
        profile: Profile,
        admission: Admission,
        statistics: ServerStatistics,
        report_bug: BugReport,
        guard: Guard | None = None,
    ) -> None:
        self.loop = loop
        self.limits = limits
        self.profile = profile
        self.admission = admission
        self.statistics = statistics
        self.heads = (
            HeadReader(routes, limits.max_headers) if guard is None else GuardedHeads(routes, limits.max_headers, guard)
        )
        self.coder = Coder(loop, admission, limits.max_body_bytes)
        self.report_bug = report_bug
        self.draining = False
        self.working: set[asyncio.Task[Buffer]] = set()
        """Answers that are being worked out, held here so that they are not collected meanwhile."""
        self._connections: set[HttpConnection] = set()
        self._refused: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._overloaded = 0
        """Refusals since the last line that told of one."""
        self._overloaded_told_ns = -_OVERLOADED_EVERY_NS

    async def listen(self, host: str, port: int, *, backlog: int, reuse_port: bool) -> tuple[str, int]:
        """Open the port; the address it got (port 0 asks for a free one).

        Raises:
            FailedPrecondition: it is taken, not ours to open, or no address of this machine.
        """
        try:
            self._server = await self.loop.create_server(
                lambda: HttpConnection(self), host, port, backlog=backlog, reuse_port=reuse_port or None
            )
        except OSError as problem:
            raise FailedPrecondition(
                f"cannot listen on {host} port {port}: {problem}",
                hint="choose other ports: --http.port and --metrics.port (0 takes a free one)",
            ) from problem
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    def admit_connection(self, connection: HttpConnection) -> bool:
        """Count a connection in; False if there are as many as allowed. Refused ones take nobody's place."""
        self._connections.add(connection)
        self._empty.clear()
        self.statistics.accepted_connections += 1
        self.statistics.open_connections += 1
        if len(self._connections) - len(self._refused) <= self.limits.max_connections:
            return True
        self._refused.add(connection)
        self.statistics.refused_connections += 1
        _log.warning("connection_refused", peer=connection.peer, limit=self.limits.max_connections)
        return False

    def connection_gone(self, connection: HttpConnection) -> None:
        """Count it out."""
        self._connections.discard(connection)
        self._refused.discard(connection)
        self.statistics.open_connections -= 1
        if not self._connections:
            self._empty.set()

    def note_error(self, exchange: Exchange, error: TaxiwayError) -> None:
        """Log what an operator should know of the errors that callers are told."""
        if isinstance(error, ModelFailed):
            failed: LogFields = {**_asked(exchange), "code": error.code, "error": error}
            _log.error("model_failed", **failed)
        elif isinstance(error, Unauthenticated | PermissionDenied):
            refused: LogFields = {**_asked(exchange), "code": error.code, "reason": error.message}
            refused["peer"] = exchange.connection.peer
            _log.warning("call_refused", **refused)
        elif isinstance(error, Overloaded) and (limit := error.facts.get("limit")) is not None:
            self._overloaded += 1
            now_ns = monotonic_ns()
            if now_ns - self._overloaded_told_ns < _OVERLOADED_EVERY_NS:
                return
            fields: LogFields = {**_asked(exchange), "code": error.code, "count": self._overloaded}
            fields["reason"] = error.message
            if isinstance(limit, int | float):
                fields["limit"] = int(limit)
            fields["setting"] = str(error.facts.get("key", limit))
            self._overloaded, self._overloaded_told_ns = 0, now_ns
            _log.warning("overloaded", **fields)

    async def close(self, timeout_s: float, given_up: TaxiwayError | None = None) -> bool:
        """Take no more connections, answer what is owed, close the rest; cut what is left after `timeout_s`.

        Args:
            timeout_s: how long clients get to take what they are owed.
            given_up: if not None, what is owed and not known yet is answered by this at once.

        Returns:
            False if a connection had to be cut.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.shut()
            if given_up is not None:
                connection.give_up(given_up)
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.transport.abort()
            return False
        finally:
            self.coder.close()
        return True


def _asked(exchange: Exchange) -> LogFields:
    """Which model a request named, and which version if it named one."""
    params = exchange.head.match.params
    return {name: params[name] for name in ("model", "version") if params.get(name)}  # type: ignore[return-value]


class BugReport(Protocol):
    """Where an unexpected exception goes: the log, with its traceback."""

    def __call__(self, problem: BaseException) -> None:
        """Record it; never raises."""
