"""GET /v1/health: whether this process decides, for whoever watches it; open to all."""

from __future__ import annotations

import os
from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway import __version__


def health_routes(leads: Callable[[], bool]) -> list[BaseRoute]:
    """Open to everybody, as the data plane's.

    Args:
        leads: whether this process is the one that decides.
    """

    async def health(_request: Request) -> Response:
        told = {"status": "ok", "version": __version__, "pid": os.getpid(), "leads": leads()}
        return Response(orjson.dumps(told), media_type="application/json")

    return [Route("/v1/health", health, methods=["GET"])]
