"""/v1/registry, /v1/audit and /v1/reports: what was kept of models and of changes."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.control.callers import Callers
from taxiway.control.console.asking import answer, number
from taxiway.control.console.shelf import Shelf, next_page
from taxiway.rollout.journal import Journal

_MOST = 1000
_USUAL = 100


def record_routes(callers: Callers, shelf: Shelf, journal: Journal) -> list[BaseRoute]:
    """All of them."""
    routes = _RecordRoutes(callers, shelf, journal)
    return [
        Route("/v1/registry", routes.registry, methods=["GET"]),
        Route("/v1/registry/{model}", routes.model, methods=["GET"]),
        Route("/v1/reports", routes.reports, methods=["GET"]),
        Route("/v1/audit", routes.audit, methods=["GET"]),
        Route("/v1/audit/rollouts", routes.journal, methods=["GET"]),
    ]


class _RecordRoutes:
    def __init__(self, callers: Callers, shelf: Shelf, journal: Journal) -> None:
        self._callers = callers
        self._shelf = shelf
        self._journal = journal

    async def registry(self, request: Request) -> Response:
        """What is registered."""
        self._callers.check(request, "read", None)
        return answer(await asyncio.to_thread(self._shelf.overview))

    async def model(self, request: Request) -> Response:
        """Versions, moves and lineage of one model."""
        model = request.path_params["model"]
        self._callers.check(request, "read", model)
        return answer(await asyncio.to_thread(self._shelf.model, model))

    async def reports(self, request: Request) -> Response:
        """What was profiled and optimized."""
        model = request.query_params.get("model") or None
        self._callers.check(request, "read", model)
        return answer(await asyncio.to_thread(self._shelf.reports, model))

    async def audit(self, request: Request) -> Response:
        """Changes of the registry, newest first."""
        self._callers.check(request, "read", None)
        before, limit = _page(request)
        return answer(await asyncio.to_thread(self._shelf.audit, before, limit))

    async def journal(self, request: Request) -> Response:
        """Events of all rollouts, newest first."""
        self._callers.check(request, "read", None)
        before, limit = _page(request)
        found = await asyncio.to_thread(self._journal.history, None, before=before, limit=limit)
        entries = [
            {
                "seq": one.seq,
                "at_ms": one.at_ns // 1_000_000,
                "actor": one.actor,
                "kind": one.kind,
                "subject": one.rollout,
                "payload": one.facts,
                "hash": one.hash,
            }
            for one in found
        ]
        return answer({"there": True, "entries": entries, "before": next_page(entries, limit)})


def _page(request: Request) -> tuple[int | None, int]:
    before = int(number(request, "before", 0, 0, 1 << 53)) or None
    return before, int(number(request, "limit", _USUAL, 1, _MOST))
