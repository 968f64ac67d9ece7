"""The routes of the control API.

Every answer is JSON; every refusal is a problem (problems.py) whose hint says what would be allowed.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Router
from starlette.types import Receive, Scope, Send

from taxiway.control.entrance import Entrance
from taxiway.control.names import Names
from taxiway.core.errors import MethodNotAllowed, RouteNotFound
from taxiway.server.access import AccessLog


def make_app(routes: list[BaseRoute], names: Names, access: AccessLog | None) -> Entrance:
    """The application that answers at these routes."""
    return Entrance(_Routes(routes), names, access)


class _Routes(Router):
    """Starlette's, with errors of ours."""

    def __init__(self, routes: list[BaseRoute]) -> None:
        super().__init__(routes, redirect_slashes=False, default=_not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # then a wrong method is told as an exception
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as problem:
            if problem.status_code != 405:
                raise
            allowed = (problem.headers or {}).get("Allow", "")
            raise MethodNotAllowed(
                f"{scope['path']} does not take {scope['method']}", hint=f"it takes {allowed}"
            ) from None


async def _not_found(scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RouteNotFound(f"there is no {scope['path']}", hint="docs/rollouts.md lists the routes")
