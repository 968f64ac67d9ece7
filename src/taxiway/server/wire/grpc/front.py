"""The gRPC port: opened, bounded, closed."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

import grpc
import grpc.aio

from taxiway.config.settings import GrpcSettings, LimitSettings
from taxiway.core.errors import FailedPrecondition, TaxiwayError, Unavailable
from taxiway.server.wire.grpc.infer import MAX_MESSAGE_BYTES
from taxiway.server.wire.grpc.services import Services
from taxiway.server.wire.sockets import unix_place

_COMPRESSION = {
    "none": None,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}
_PATIENCE_S: Final = 3600.0
"""grpcio shall cut nobody off by itself: whoever closes it says when, by giving up."""
_REFUSING_S: Final = 0.1
_HOLDING_S: Final = 0.05
"""As long as most answers take, and then as long as it takes GOAWAY to get to clients."""
_SPARE_CALLS: Final = 256
"""Calls beside inference that are answered although as many requests are in flight as may be: health above all."""

_GRPCIO: Final = "grpc._cython.cygrpc"
"""The logger of grpcio's server."""


class GoneClients(logging.Filter):
    """Drops what grpcio says of clients that went while they were answered: an error to it, if it hears late."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        return not str(record.msg).startswith("ExecuteBatchError raised in core by servicer method")


_GONE_CLIENTS: Final = GoneClients()


class GrpcFront:
    """One server of grpcio on the running event loop, on as many addresses as it is told to listen on."""

    def __init__(self, settings: GrpcSettings, limits: LimitSettings, services: Services) -> None:
        self._settings = settings
        self._limits = limits
        self._services = services
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def listen(
        self,
        host: str,
        port: int,
        *,
        reuse_port: bool = False,
        unix_socket: str = "",
        credentials: grpc.ServerCredentials | None = None,
    ) -> tuple[str, int]:
        """Open the port; the address it got (port 0 asks for a free one).

        Args:
            host: a name or an address, IPv4 or IPv6.
            port: 0 takes a free one.
            reuse_port: share the port with other processes (SO_REUSEPORT).
            unix_socket: path of a Unix socket to listen on as well (never TLS: the file's mode says who may call);
                grpcio removes it when it closes.
            credentials: for TLS.

        Raises:
            FailedPrecondition: it is taken, not ours to open, or no address of this machine.
        """
        logging.getLogger(_GRPCIO).addFilter(_GONE_CLIENTS)
        host = host.strip("[]")
        _probe(host, port, reuse_port=reuse_port)
        server = grpc.aio.server(
            handlers=[self._services.table],
            options=self._options(reuse_port=reuse_port),
            maximum_concurrent_rpcs=self._limits.max_requests + self._limits.max_connections + _SPARE_CALLS,
            compression=_COMPRESSION[self._settings.compression],
        )
        got = self._open(server, f"[{host}]" if ":" in host else host, port, credentials)
        if unix_socket:
            with unix_place(unix_socket, section="grpc"):
                self._open_address(server, f"unix:{unix_socket}", None)
        await server.start()
        self._server = server
        return host, got

    def forget_routes(self) -> None:
        """The routes have changed: remember nothing of the last ones."""
        self._services.infer.forget_routes()

    def retire(self) -> None:
        """Go on as before; that we are not ready is told by whoever watches our health. HTTP/2 has no gentler word."""

    async def give_way(self) -> None:
        """Another server listens beside us: send our clients there (GOAWAY), and answer what they have asked.

        While grpcio stops, it cancels the calls of clients that have not heard of it yet. So calls that come are made
        to wait for a moment before: whoever asks one after the other then asks nothing while it hears of it.
        """
        if self._server is None:
            return
        self._services.infer.hold_back()
        await asyncio.sleep(_HOLDING_S)
        self._stopping = asyncio.create_task(self._server.stop(_PATIENCE_S))
        await asyncio.sleep(_HOLDING_S)
        self._services.infer.go_on()

    async def close(self, timeout_s: float) -> bool:
        """Take no more calls (GOAWAY), and answer what is owed.

        Once grpcio is told to stop, it cancels the calls of clients that have not heard of it yet. So calls are
        refused as UNAVAILABLE for a moment before: busy clients hear that, and know that they may ask elsewhere.

        Returns:
            False if something is still owed after `timeout_s`.
        """
        services = self._services
        services.health.close()
        services.stream.shut()
        if self._server is None:
            return True
        if self._stopping is None:
            services.infer.refuse(Unavailable("the server is shutting down", hint="send the call to another replica"))
            await asyncio.sleep(_REFUSING_S)
            self._stopping = asyncio.create_task(self._server.stop(timeout_s + _PATIENCE_S))
        _, late = await asyncio.wait([self._stopping], timeout=timeout_s)
        return not late

    async def give_up(self, error: TaxiwayError, timeout_s: float) -> None:
        """Answer by `error` what is owed and not known yet; after `timeout_s` cut whatever is left."""
        self._services.infer.give_up(error)
        self._services.stream.give_up(error)
        if self._server is not None:
            await self._server.stop(timeout_s)

    def _options(self, *, reuse_port: bool) -> list[tuple[str, int]]:
        limits = self._limits
        return [
            ("grpc.so_reuseport", int(reuse_port)),
            ("grpc.max_receive_message_length", min(limits.max_body_bytes, MAX_MESSAGE_BYTES)),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_metadata_size", limits.max_header_bytes),
            ("grpc.absolute_max_metadata_size", limits.max_header_bytes),
            ("grpc.max_concurrent_streams", limits.max_requests),
            ("grpc.max_allowed_incoming_connections", limits.max_connections),
            ("grpc.server_handshake_timeout_ms", round(limits.header_timeout_s * 1000)),
            # Clients that ping to keep connections open, as Triton's documents it, are not cut for it.
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]

    def _open(self, server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
        return self._open_address(server, f"{host}:{port}", credentials)

    def _open_address(self, server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, credentials)
        except RuntimeError as problem:
            raise _cannot_listen(address, problem) from problem


def _probe(host: str, port: int, *, reuse_port: bool) -> None:
    """Bind the address and let it go again: grpcio does not say why it could not.

    Raises:
        FailedPrecondition: it cannot be bound.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if reuse_port:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                probe.bind(address)
    except OSError as problem:
        raise _cannot_listen(f"{host} port {port}", problem) from problem


def _cannot_listen(where: str, problem: Exception) -> FailedPrecondition:
    return FailedPrecondition(
        f"cannot listen on {where}: {problem}",
        hint="choose another port: --grpc.port (0 takes a free one), or --no-grpc.enabled",
    )
