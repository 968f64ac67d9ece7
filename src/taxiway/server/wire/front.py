"""What all connections of one port share."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxiway.core.errors import TaxiwayError
from taxiway.server.admission import Admission
from taxiway.server.guard import Guard
from taxiway.server.tls import TlsFiles
from taxiway.server.wire.coding import Coder
from taxiway.server.wire.complaints import BugReport, Complaints
from taxiway.server.wire.guarded import GuardedHeads
from taxiway.server.wire.heads import HeadReader
from taxiway.server.wire.http1 import HttpConnection, peer_of
from taxiway.server.wire.routes import RouteTable
from taxiway.server.wire.sockets import UnixFile, open_tcp, open_unix, shown_address
from taxiway.server.wire.status import Profile
from taxiway.server.wire.tls import TlsLayer
from taxiway.telemetry.logs import Log

if TYPE_CHECKING:
    from taxiway.config.settings import LimitSettings
    from taxiway.server.statistics import ServerStatistics
    from taxiway.server.wire.exchange import Buffer, Exchange

_log = Log("taxiway.http")


@dataclass(frozen=True, slots=True)
class Reception:
    """How callers are received: who may call (`guard`; None: everybody), and over what line (`tls`; None: in clear)."""

    guard: Guard | None = None
    tls: TlsFiles | None = None

    def heads(self, routes: RouteTable, max_headers: int) -> HeadReader:
        """The reader of heads that this takes."""
        if self.guard is None:
            return HeadReader(routes, max_headers)
        return GuardedHeads(routes, max_headers, self.guard)


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
        self._tls = reception.tls
        self._handshaking: set[TlsLayer] = set()
        self._servers: list[asyncio.Server] = []
        self._unix: list[UnixFile] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self._complaints = Complaints(_log, report_bug)

    async def listen(
        self, host: str, port: int, *, backlog: int, reuse_port: bool, section: str = "http"
    ) -> tuple[str, int]:
        """Open the port; the address it got (port 0 asks for a free one).

        Raises:
            FailedPrecondition: it is taken, not ours to open, or no address of this machine.
        """
        opened = open_tcp(host, port, backlog=backlog, reuse_port=reuse_port, section=section)
        for one in opened:
            await self.serve(one, backlog=backlog)
        return shown_address(opened[0])

    async def listen_unix(self, path: str, *, backlog: int, section: str = "http") -> None:
        """Open a Unix socket too; its file goes when the front closes. Never TLS: the file's mode says who may call.

        Raises:
            FailedPrecondition: somebody listens there, or it cannot be made.
        """
        opened, file = open_unix(path, backlog=backlog, section=section)
        self._unix.append(file)
        await self.serve(opened, backlog=backlog)

    async def serve(self, listening: socket.socket, *, backlog: int) -> None:
        """Serve a socket that listens already, such as one that a parent process opened. It is closed with the front.

        Args:
            listening: TCP (TLS is spoken if the front has it) or Unix (never TLS).
            backlog: said to the kernel again when serving begins.
        """
        encrypted = self._tls is not None and listening.family != socket.AF_UNIX
        accept = self._accept_encrypted if encrypted else self._accept
        self._servers.append(await self.loop.create_server(accept, sock=listening, backlog=backlog))

    def _accept(self) -> asyncio.Protocol:
        return HttpConnection(self)

    def _accept_encrypted(self) -> asyncio.Protocol:
        assert self._tls is not None  # noqa: S101 - `serve` looked
        return TlsLayer(self, self._tls.material.context, HttpConnection(self), self.limits.header_timeout_s)

    def handshake_begun(self, layer: TlsLayer) -> bool:
        """Count a handshake in; False if with it there would be more connections than allowed."""
        if len(self._handshaking) + len(self._connections) >= self.limits.max_connections or self.draining:
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

    def note_error(self, exchange: Exchange, error: TaxiwayError) -> None:
        """Log what an operator should know of the errors that callers are told."""
        self._complaints.note(error, exchange.head.match.params, exchange.connection.peer)

    async def close(self, timeout_s: float, given_up: TaxiwayError | None = None) -> bool:
        """Take no more connections, answer what is owed, close the rest; cut what is left after `timeout_s`.

        Args:
            timeout_s: how long clients get to take what they are owed.
            given_up: if not None, what is owed and not known yet is answered by this at once.

        Returns:
            False if a connection had to be cut.
        """
        self.draining = True
        for server in self._servers:
            server.close()
        for file in self._unix:
            file.remove()
        for layer in tuple(self._handshaking):
            layer.abort()
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
