"""The control port: uvicorn on sockets that others hold, so that callers wait while this process is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taxiway.core.errors import InternalError
from taxiway.server.tls import TlsFiles

ABORT = "taxiway.abort"
"""What an endpoint calls, as a member of the scope, to give up a caller who does not read."""
_MAX_CONNECTIONS = 256
_HEAD_S = 10.0
"""How long a head may take, from its first byte or from the connection's beginning."""
_MAX_HEAD_BYTES = 64 << 10
_GOODBYE_S = 1
_STARTED_WITHIN_S = 10.0


class _Server(uvicorn.Server):
    """Signals are the supervisor's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Patient(HttpToolsProtocol):
    """uvicorn's, which waits for a head for ever, and takes one of any length; this one does not."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > _MAX_HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_read()
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)[ABORT] = self.transport.abort

    def _expect_head(self) -> None:
        self._head_read()
        self._head_timer = self.loop.call_later(_HEAD_S, self.transport.abort)

    def _head_read(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class ControlPort:
    """Serves an application.

    Args:
        app: what answers.
        tls: what connections are made with; None: in clear. What changes there holds for the next connection.
    """

    def __init__(self, app: ASGIApp, tls: TlsFiles | None) -> None:
        config = uvicorn.Config(
            app,
            http=_Patient,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_GOODBYE_S,
        )
        config.load()
        if tls is not None:
            config.ssl = _renewing(tls)
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on these sockets, which are ours from now on.

        Raises:
            InternalError: that cannot be done.
        """
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(list(sockets)))
        async with asyncio.timeout(_STARTED_WITHIN_S):
            while not self._server.started:
                if self._serving.done():
                    raise InternalError("the control port could not be opened", hint="see the log")
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        """Answer what was asked, and close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


def _renewing(files: TlsFiles) -> ssl.SSLContext:
    """A context that gives each connection what is in force when it comes."""
    context = files.material.context

    def renew(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = files.material.context

    context.sni_callback = renew
    return context
