"""What all connections of one port share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taxiway.core.errors import FailedPrecondition, TaxiwayError
from taxiway.server.admission import Admission
from taxiway.server.wire.coding import Coder
from taxiway.server.wire.complaints import BugReport, Complaints
from taxiway.server.wire.heads import HeadReader
from taxiway.server.wire.http1 import HttpConnection
from taxiway.server.wire.routes import RouteTable
from taxiway.server.wire.status import Profile
from taxiway.telemetry.logs import Log

if TYPE_CHECKING:
    from taxiway.config.settings import LimitSettings
    from taxiway.server.statistics import ServerStatistics
    from taxiway.server.wire.exchange import Buffer, Exchange

_log = Log("taxiway.http")


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
    ) -> None:
        self.loop = loop
        self.limits = limits
        self.profile = profile
        self.admission = admission
        self.statistics = statistics
        self.heads = HeadReader(routes, limits.max_headers)
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
        self._complaints = Complaints(_log, report_bug)

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
        self._complaints.note(error, exchange.head.match.params)

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
