"""What all connections of one port share."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from taxiway.core.errors import FailedPrecondition, TaxiwayError
from taxiway.server.admission import Admission
from taxiway.server.wire.coding import Coder
from taxiway.server.wire.complaints import BugReport, Complaints
from taxiway.server.wire.http1 import HttpConnection, peer_of
from taxiway.server.wire.reception import Reception
from taxiway.server.wire.routes import RouteTable
from taxiway.server.wire.sockets import refuse_beginnings
from taxiway.server.wire.status import Profile
from taxiway.server.wire.tls import TlsLayer
from taxiway.telemetry.logs import Log

if TYPE_CHECKING:
    from taxiway.config.settings import LimitSettings
    from taxiway.server.totals import ServerStatistics
    from taxiway.server.wire.exchange import Buffer, Exchange

_log = Log("taxiway.http")
_LAST_LOOK_S = 0.02


class HttpFront:
    """One front door, on a port, a Unix socket or both: its routes, its limits, its open connections."""

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
        reception: Reception | None = None,
    ) -> None:
        reception = reception or Reception()
        self.loop = loop
        self.limits = limits
        self.profile = profile
        self.admission = admission
        self.statistics = statistics
        self.heads = reception.heads(routes, limits.max_headers)
        self.coder = Coder(loop, admission, limits.max_body_bytes)
        self.report_bug = report_bug
        self.draining = False
        self.working: set[asyncio.Task[Buffer]] = set()
        """Answers that are being worked out, held here so that they are not collected meanwhile."""
        self._connections: set[HttpConnection] = set()
        self._refused: set[HttpConnection] = set()
        self._accept = reception.connection(self)
        self._tls = reception.tls
        self._handshaking: set[TlsLayer] = set()
        self._servers: list[asyncio.Server] = []
        self._listening: list[socket.socket] = []
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._complaints = Complaints(_log, report_bug)

    async def serve(self, bound: socket.socket, *, backlog: int) -> None:
        """Take connections from a bound socket, which is ours from now on; a parent process may have opened it.

        Args:
            bound: TCP (TLS is spoken if the front has it) or Unix (never TLS: the file's mode says who may call).
            backlog: connections that the kernel holds until they are accepted.

        Raises:
            FailedPrecondition: somebody else has begun to listen there.
        """
        encrypted = self._tls is not None and bound.family != socket.AF_UNIX
        accept = self._accept_encrypted if encrypted else self._accept
        try:
            server = await self.loop.create_server(accept, sock=bound, backlog=backlog)
        except OSError as problem:
            raise FailedPrecondition(
                f"cannot listen on {bound.getsockname()}: {problem}", hint="choose another, see --http.port"
            ) from problem
        self._servers.append(server)
        self._listening.append(bound)

    def _accept_encrypted(self) -> asyncio.Protocol:
        assert self._tls is not None  # noqa: S101 - `serve` looked
        return TlsLayer(self, self._tls.material.context, self._accept(), self.limits.header_timeout_s)

    def handshake_begun(self, layer: TlsLayer) -> bool:
        """Count a handshake in; False if with it there would be more connections than allowed."""
        if len(self._handshaking) + len(self._connections) >= self.limits.max_connections or self._closing:
            self.statistics.refused_connections += 1
            return False
        self._handshaking.add(layer)
        return True

    def handshake_over(self, layer: TlsLayer, outcome: str, reason: str) -> None:
        """Count it out, and log the ones that came to nothing."""
        self._handshaking.discard(layer)
        self.statistics.handshakes[outcome] += 1
        if reason:
            _log.info("handshake_failed", peer=peer_of(layer), state=outcome, reason=reason)

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

    def forget_routes(self) -> None:
        """The routes have changed: remember nothing of the last ones."""
        self.heads.forget_routes()

    def note_error(self, exchange: Exchange, error: TaxiwayError) -> None:
        """Log what an operator should know of the errors that callers are told."""
        self._complaints.note(error, exchange.head.match.params, exchange.connection.peer)

    def retire(self) -> None:
        """Go on as before, but have each answer say that its connection closes with it: clients look elsewhere."""
        self.draining = True

    async def close(self, timeout_s: float) -> bool:
        """Take no more connections, answer what is owed, close the rest.

        Returns:
            False if some are still open after `timeout_s`.
        """
        self.draining = True
        await self.stop_listening()
        self._closing = True
        for layer in tuple(self._handshaking):
            layer.abort()
        for connection in tuple(self._connections):
            connection.shut()
        emptied = await self.emptied(timeout_s)
        if emptied:
            self.coder.close()
        return emptied

    async def give_up(self, error: TaxiwayError, timeout_s: float) -> None:
        """Answer by `error` what is owed and not known yet; after `timeout_s` cut whoever is left."""
        for connection in tuple(self._connections):
            connection.give_up(error)
        if not await self.emptied(timeout_s):
            for connection in tuple(self._connections):
                connection.transport.abort()
        self.coder.close()

    async def stop_listening(self) -> None:
        """Take no more connections, but for those that the kernel holds for us: it would reset them."""
        for bound in self._listening:
            refuse_beginnings(bound)
        for _ in range(2 if self._listening else 0):
            # Between the two the loop has surely looked at the sockets once, however late it was.
            await asyncio.sleep(_LAST_LOOK_S)
        for server in self._servers:
            server.close()
        self._listening.clear()

    async def emptied(self, timeout_s: float) -> bool:
        """Wait until nobody is connected; False if somebody still is after `timeout_s`."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
