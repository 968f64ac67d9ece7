"""What every request passes before its endpoint: its names, its time, its size; and what is told of errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic_ns

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxiway.control.names import Names
from taxiway.control.problems import problem_of
from taxiway.core.errors import DeadlineExceeded, InternalError, InvalidArgument, RequestTimeout, TaxiwayError, TooLarge
from taxiway.server.access import AccessLog
from taxiway.telemetry.logs import Log

_log = Log("taxiway.control")
MAX_BODY_BYTES = 4 << 20
READ_S = 15.0
"""How long a caller may take to send a body."""
ANSWER_S = 60.0
"""How long an answer may take; long polls are shorter."""

LASTS = "taxiway.lasts"
"""What an endpoint calls, as a member of the scope, whose answer goes on for as long as somebody reads it."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Entrance:
    """The ASGI application around all endpoints.

    Args:
        app: the router.
        names: by which callers may come.
        access: where requests are logged; None: nowhere.
    """

    def __init__(self, app: ASGIApp, names: Names, access: AccessLog | None) -> None:
        self._app = app
        self._names = names
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever becomes of it."""
        if scope["type"] != "http":
            return
        arrived_ns, told = monotonic_ns(), _Told(send)
        try:
            async with asyncio.timeout(ANSWER_S) as limit:
                scope[LASTS] = lambda: limit.reschedule(None)
                request = Request(scope)
                self._names.check(request.headers.get("host", ""), request.headers.get("origin"))
                await self._app(scope, _Bounded(receive), told)
        except TimeoutError:
            await _tell(DeadlineExceeded(f"it took over {ANSWER_S:g} s"), scope, receive, told)
        except TaxiwayError as error:
            await _tell(error, scope, receive, told)
        except Exception as problem:  # noqa: BLE001 - the boundary: one request's defect is its own
            _log.error("bug", error=problem)
            await _tell(InternalError("internal error; the server's log has the details"), scope, receive, told)
        if self._access is not None:
            client = scope.get("client") or ("", 0)
            method, path, caller = scope["method"], scope["path"], scope.get("caller", "")
            self._access.tell(
                arrived_ns, method=method, path=path, status=told.status, peer=str(client[0]), caller=caller
            )


class _Told:
    """Sends, and remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _Bounded:
    """Receives a body of bounded length within a bounded time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MAX_BODY_BYTES
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:  # what comes next is the end of the connection, whenever that is
            return await self._receive()
        try:
            async with asyncio.timeout(READ_S):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout(f"no more of the body came in {READ_S:g} s", hint="send it at once") from None
        self._whole = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLarge(f"the body is over {MAX_BODY_BYTES} bytes", hint="send less", limit=MAX_BODY_BYTES)
        return message


async def _tell(error: TaxiwayError, scope: Scope, receive: Receive, told: _Told) -> None:
    """Unless an answer has begun: then there is nothing more to be said."""
    if not told.status:
        await problem_of(error)(scope, receive, told)


def required(value: str, name: str) -> str:
    """A parameter that must not be empty.

    Raises:
        InvalidArgument: it is.
    """
    if not value:
        raise InvalidArgument(f"{name} is missing", hint=f"give {name}")
    return value
