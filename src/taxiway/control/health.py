"""GET /v1/health: whether this process decides, for whoever watches it; open to all."""

from __future__ import annotations

import os

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway import __version__


def health_routes() -> list[BaseRoute]:
    """Open to everybody, as the data plane's."""
    return [Route("/v1/health", _health, methods=["GET"])]


async def _health(_request: Request) -> Response:
    return Response(
        orjson.dumps({"status": "ok", "version": __version__, "pid": os.getpid()}), media_type="application/json"
    )
