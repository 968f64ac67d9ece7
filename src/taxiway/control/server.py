"""GET /v1/server: which server this is, and POST /v1/server/upgrade: have another one take its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.control.callers import Callers
from taxiway.core.errors import Unavailable
from taxiway.server.channel import Channel, Gone

_ASK_S = 10.0


def server_routes(callers: Callers, channel: Channel) -> list[BaseRoute]:
    """Both; the supervisor at the other end of `channel` answers."""
    routes = _ServerRoutes(callers, channel)
    return [
        Route("/v1/server", routes.tell, methods=["GET"]),
        Route("/v1/server/upgrade", routes.upgrade, methods=["POST"]),
    ]


class _ServerRoutes:
    def __init__(self, callers: Callers, channel: Channel) -> None:
        self._callers = callers
        self._channel = channel

    async def tell(self, request: Request) -> Response:
        """Process id and version of the server, and how its upgrade goes."""
        self._callers.check(request, "read", None)
        return _answer(await self._ask("told"))

    async def upgrade(self, request: Request) -> Response:
        """Begin it. 202: how it goes is told by GET, at the end by the new server."""
        self._callers.check(request, "admin", None)
        return _answer(await self._ask("upgrade"), 202)

    async def _ask(self, verb: str) -> Mapping[str, Any]:
        try:
            told: Mapping[str, Any] = await self._channel.ask("server", {"verb": verb}, _ASK_S)
        except (Gone, TimeoutError):
            raise Unavailable("the server does not answer", hint="its log tells what it does") from None
        return told


def _answer(told: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(told), status, media_type="application/json")
