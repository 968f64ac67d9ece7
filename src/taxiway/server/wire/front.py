"""What all connections of one port share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from taxiway.server.admission import Admission
from taxiway.server.wire.coding import Coder
from taxiway.server.wire.heads import HeadReader
from taxiway.server.wire.http1 import HttpConnection
from taxiway.server.wire.routes import RouteTable
from taxiway.server.wire.status import Profile

if TYPE_CHECKING:
    from taxiway.config.settings import LimitSettings
    from taxiway.server.statistics import ServerStatistics


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
        self._connections: set[HttpConnection] = set()
        self._refused: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    async def listen(self, host: str, port: int, *, backlog: int, reuse_port: bool) -> tuple[str, int]:
        """Open the port; the address it got (port 0 asks for a free one)."""
        self._server = await self.loop.create_server(
            lambda: HttpConnection(self), host, port, backlog=backlog, reuse_port=reuse_port or None
        )
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
        return False

    def connection_gone(self, connection: HttpConnection) -> None:
        """Count it out."""
        self._connections.discard(connection)
        self._refused.discard(connection)
        self.statistics.open_connections -= 1
        if not self._connections:
            self._empty.set()

    async def close(self, timeout_s: float) -> None:
        """Take no more connections, answer what is owed, close the rest; cut what is left after `timeout_s`."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.shut()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.transport.abort()
        self.coder.close()


class BugReport(Protocol):
    """Where an unexpected exception goes: the log, with its traceback."""

    def __call__(self, problem: BaseException) -> None:
        """Record it; never raises."""
