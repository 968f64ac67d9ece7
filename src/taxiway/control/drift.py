"""The routes of drift: /v1/monitor/drift. What is known, and what rows are held against."""

from __future__ import annotations

import time
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.control.callers import Callers
from taxiway.control.monitoring import Monitoring
from taxiway.core.errors import InvalidArgument
from taxiway.monitor.drift.reference import Reference


def drift_routes(callers: Callers, monitoring: Monitoring) -> list[BaseRoute]:
    """All of them."""
    routes = _DriftRoutes(callers, monitoring)
    return [
        Route("/v1/monitor/drift", routes.summaries, methods=["GET"]),
        Route("/v1/monitor/drift/{model}", routes.report, methods=["GET"]),
        Route("/v1/monitor/drift/{model}/reference", routes.hold_against, methods=["PUT"]),
        Route("/v1/monitor/drift/{model}/reference", routes.hold_like, methods=["POST"]),
        Route("/v1/monitor/drift/{model}/reference", routes.learn_again, methods=["DELETE"]),
    ]


class _DriftRoutes:
    def __init__(self, callers: Callers, monitoring: Monitoring) -> None:
        self._callers = callers
        self._monitoring = monitoring

    async def summaries(self, request: Request) -> Response:
        """Every watched version the caller may see, those with the most evidence first."""
        self._callers.check(request, "read", None)
        told = await self._monitoring.ask(lambda desk: desk.summaries())
        seen = [one for one in told if self._callers.may_see(request, one["model"])]
        return _answer({"watches": seen})

    async def report(self, request: Request) -> Response:
        """All that is known of one version: the newest, or ?version=."""
        model = request.path_params["model"]
        self._callers.check(request, "read", model)
        version = _version(request, required=False)
        return _answer(await self._monitoring.ask(lambda desk: desk.report(model, version)))

    async def hold_against(self, request: Request) -> Response:
        """Hold ?version= against the reference in the body, as `taxiway monitor reference` makes it."""
        model = request.path_params["model"]
        self._callers.check(request, "rollout", model)
        version = _version(request) or 0
        reference = Reference.decode(await request.body())
        return _answer(await self._monitoring.ask(lambda desk: desk.hold_against(model, version, reference)))

    async def hold_like(self, request: Request) -> Response:
        """Hold ?version= against the last rows of ?like=, another version or itself."""
        model = request.path_params["model"]
        self._callers.check(request, "rollout", model)
        version, other = (_version(request, name) or 0 for name in ("version", "like"))
        now_ns = time.time_ns()
        return _answer(await self._monitoring.ask(lambda desk: desk.hold_like(model, version, other, now_ns)))

    async def learn_again(self, request: Request) -> Response:
        """Forget the reference of ?version=, and learn one from the next rows."""
        model = request.path_params["model"]
        self._callers.check(request, "rollout", model)
        version = _version(request) or 0
        return _answer(await self._monitoring.ask(lambda desk: desk.learn_again(model, version)))


def _version(request: Request, name: str = "version", *, required: bool = True) -> int | None:
    said = request.query_params.get(name, "")
    if not said and not required:
        return None
    if not (said.isascii() and said.isdigit() and 0 < int(said) < 1 << 31):
        raise InvalidArgument(f"{name} = {said!r}: must be a version's number", hint=f"as ?{name}=3")
    return int(said)


def _answer(told: dict[str, Any]) -> Response:
    return Response(orjson.dumps(told), media_type="application/json")
