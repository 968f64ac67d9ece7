"""GET /v1/slos: what was promised, what is left of it, and how fast it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic, time
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.config.monitoring_slos import ModelSlos
from taxiway.control.callers import Callers
from taxiway.control.console.asking import answer
from taxiway.control.console.feed import Feed
from taxiway.monitor.history.desk import HistoryDesk
from taxiway.monitor.history.rows import Key, Row, merged
from taxiway.monitor.slos.budgets import budget_of
from taxiway.monitor.slos.objectives import ALL, Objective, objectives_of

_FRESH_S: Final = 15.0
"""Budgets of weeks change slowly, and are not cheap."""


class Budgets:
    """Every objective of every model that is there.

    Args:
        slos: as declared.
        feed: asked for what was seen; None: nothing is.
    """

    def __init__(self, slos: Mapping[str, ModelSlos], feed: Feed | None) -> None:
        self._objectives = objectives_of(slos)
        self._feed = feed
        self._known: list[dict[str, Any]] = []
        self._known_s = -_FRESH_S
        self._renewing: asyncio.Task[None] | None = None

    @property
    def declared(self) -> bool:
        """Whether anything was promised."""
        return bool(self._objectives)

    async def told(self) -> list[dict[str, Any]]:
        """By model; of a few seconds ago."""
        renewing = self._renew()
        if renewing is not None:
            await asyncio.shield(renewing)
        return self._known

    def _renew(self) -> asyncio.Task[None] | None:
        """Have them worked out again, if it is time; None: they are fresh."""
        if self._renewing is not None and not self._renewing.done():
            return self._renewing
        if self._feed is None or not self.declared or monotonic() - self._known_s < _FRESH_S:
            return None
        self._known_s = monotonic()
        self._renewing = asyncio.get_running_loop().create_task(self._work_out(self._feed))
        return self._renewing

    async def _work_out(self, feed: Feed) -> None:
        keys = await feed.ask(lambda desk: desk.keys("version"))
        self._known = [one for model in sorted({key[1] for key in keys}) for one in await self._of(model, keys)]

    def alerts(self) -> list[dict[str, Any]]:
        """Those that burnt too fast when that was last worked out; nobody waits for it."""
        self._renew()
        return [
            {
                "model": one["model"],
                "slo": one["name"],
                "state": one["state"],
                "severity": "page" if one["state"] == "firing" else "ticket",
                "burn": one["burn"]["3600"],
            }
            for one in self._known
            if one["state"] != "ok"
        ]

    async def _of(self, model: str, keys: list[Key]) -> list[dict[str, Any]]:
        """One model at a time: the second that comes next waits for no more than that."""
        mine = [one for one in self._objectives if _concerns(one, model)]
        if not mine or self._feed is None:
            return []
        versions = [key for key in keys if key[1] == model]
        return await self._feed.ask(lambda desk: _budgets(desk, model, versions, mine))


def slo_routes(callers: Callers, budgets: Budgets) -> list[BaseRoute]:
    """The one."""

    async def tell(request: Request) -> Response:
        callers.check(request, "read", None)
        return answer({"declared": budgets.declared, "slos": await budgets.told()})

    return [Route("/v1/slos", tell, methods=["GET"])]


def _concerns(objective: Objective, model: str) -> bool:
    return model not in objective.others if objective.model == ALL else objective.model == model


def _budgets(desk: HistoryDesk, model: str, versions: list[Key], objectives: list[Objective]) -> list[dict[str, Any]]:
    now_s = time()
    known: dict[float, Row] = {}

    def seen(span_s: float) -> Row:
        if span_s not in known:
            known[span_s] = together([desk.total(key, span_s, now_s) for key in versions])
        return known[span_s]

    return [budget_of(one, model, seen) for one in objectives]


def together(rows: list[Row]) -> Row:
    """Versions side by side: their rates add up, and are told over the longest of them."""
    seconds = max((row.seconds for row in rows), default=0)
    whole = merged(rows)
    if seconds:
        whole.values = {name: value * whole.seconds / seconds for name, value in whole.values.items()}
    whole.seconds = seconds
    return whole
