"""/v1/console/session: who looks at the console, and how a browser signs in with an API key."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway import __version__
from taxiway.control.callers import Callers
from taxiway.control.console.asking import answer
from taxiway.control.sessions import HEADER, Sessions
from taxiway.core.errors import InvalidArgument, MalformedJson, PermissionDenied, TaxiwayError

_MAX_KEY_CHARS = 512


def session_routes(callers: Callers, sessions: Sessions) -> list[BaseRoute]:
    """The one, with three methods."""
    routes = _SessionRoutes(callers, sessions)
    path = "/v1/console/session"
    return [
        Route(path, routes.tell, methods=["GET"]),
        Route(path, routes.begin, methods=["POST"]),
        Route(path, routes.end, methods=["DELETE"]),
    ]


class _SessionRoutes:
    def __init__(self, callers: Callers, sessions: Sessions) -> None:
        self._callers = callers
        self._sessions = sessions

    async def tell(self, request: Request) -> Response:
        """Whether a key is asked for, and who calls, as far as that is known."""
        try:
            name, scopes = self._callers.who(request)
        except TaxiwayError:
            return answer(self._told(None))
        return answer(self._told({"name": name, "scopes": scopes}))

    async def begin(self, request: Request) -> Response:
        """Take a key for a cookie."""
        _check_header(request)
        key = await _key(request)
        name, scopes = self._callers.holder(key)
        response = answer(self._told({"name": name, "scopes": scopes}))
        if self._callers.asks:
            await asyncio.to_thread(self._sessions.begin, request, response, key)
        return response

    async def end(self, request: Request) -> Response:
        """Sign out."""
        _check_header(request)
        response = answer(self._told(None))
        self._sessions.end(request, response)
        return response

    def _told(self, caller: dict[str, Any] | None) -> dict[str, Any]:
        return {"auth": self._callers.asks, "caller": caller, "version": __version__}


def _check_header(request: Request) -> None:
    if HEADER not in request.headers:
        raise PermissionDenied(
            "only pages of the console sign in here", hint=f"send the header {HEADER}", reason="scope"
        )


async def _key(request: Request) -> str:
    try:
        words = json.loads(await request.body() or b"{}")
    except ValueError as problem:
        raise MalformedJson(f"the body is not JSON: {problem}", hint='send {"key": "tw_..."}') from None
    key = words.get("key") if isinstance(words, dict) else None
    if not isinstance(key, str) or len(key) > _MAX_KEY_CHARS:
        raise InvalidArgument("key is missing, or no key", hint='send {"key": "tw_..."}')
    return key.strip()
