"""GET /v1/history and /v1/history/heatmap: what was, for charts."""

from __future__ import annotations

from time import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.control.callers import Callers
from taxiway.control.console.asking import answer, number
from taxiway.control.console.feed import Feed
from taxiway.control.entrance import required
from taxiway.core.errors import InvalidArgument, Unavailable
from taxiway.monitor.history.desk import Stretch

_KINDS = ("version", "host", "gpu", "rollout", "drift")
_OF_MODELS = frozenset({"version", "drift"})
_MAX_SPAN_S = 400 * 86_400
_USUAL_SPAN_S = 300
_MAX_FIELDS = 64


def history_routes(callers: Callers, feed: Feed | None) -> list[BaseRoute]:
    """Both; None: nothing is kept."""
    routes = _HistoryRoutes(callers, feed)
    return [
        Route("/v1/history", routes.columns, methods=["GET"]),
        Route("/v1/history/heatmap", routes.heat, methods=["GET"]),
    ]


class _HistoryRoutes:
    def __init__(self, callers: Callers, feed: Feed | None) -> None:
        self._callers = callers
        self._feed = feed

    async def columns(self, request: Request) -> Response:
        """Columns of each series that is asked for."""
        said = request.query_params
        kind = said.get("kind", "version")
        if kind not in _KINDS:
            raise InvalidArgument(f"kind = {kind[:40]!r}: is not known", hint=f"known are {', '.join(_KINDS)}")
        first = said.get("model" if kind in _OF_MODELS else "name", "")
        self._callers.check(request, "read", first if first and kind in (*_OF_MODELS, "rollout") else None)
        named = [name for name in (first, said.get("version", "")) if name]
        stretch, fields = _stretch(request), _fields(request)
        feed = _kept(self._feed)
        return answer(await feed.ask(lambda desk: desk.history(kind, named, fields, stretch)))

    async def heat(self, request: Request) -> Response:
        """How many requests of one version took how long."""
        model = required(request.query_params.get("model", ""), "model")
        version = required(request.query_params.get("version", ""), "version")
        if request.query_params.get("of", "request") != "request":
            raise InvalidArgument("of must be request", hint="queue and infer are told as quantiles: GET /v1/history")
        self._callers.check(request, "read", model)
        stretch = _stretch(request)
        return answer(await _kept(self._feed).ask(lambda desk: desk.heat(("version", model, version), stretch)))


def _kept(feed: Feed | None) -> Feed:
    if feed is None:
        raise Unavailable("nothing is kept of the past", hint="set monitoring.history.enabled: true")
    return feed


def _stretch(request: Request) -> Stretch:
    now_ms = time() * 1000
    span_s = number(request, "span_s", _USUAL_SPAN_S, 1, _MAX_SPAN_S)
    return Stretch.of(span_s, number(request, "until_ms", now_ms, 0, now_ms + 86_400_000) / 1000)


def _fields(request: Request) -> list[str] | None:
    said = request.query_params.get("fields", "")
    if said == "*":
        return []
    fields = [name for name in said.split(",") if name]
    if len(fields) > _MAX_FIELDS:
        raise InvalidArgument(f"{len(fields)} fields: at most {_MAX_FIELDS}", hint="ask for fewer, or for *")
    return fields or None
