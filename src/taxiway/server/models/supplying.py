"""Loads what ensembles ask before them, and plans them anew when that has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from taxiway.core.errors import TaxiwayError
from taxiway.server.models.loading import Prepared
from taxiway.server.models.loading_thread import Loading
from taxiway.server.models.needs import Needs, circle
from taxiway.server.models.repository import FoundModel
from taxiway.server.models.roster import Model, Roster
from taxiway.server.models.turns import Turns

Bring = Callable[[Model, FoundModel], Awaitable[None]]
"""Has a model served from what was found; raises why it cannot be."""


class Supplier:
    """Sees that models have what they ask.

    Turns are taken by whoever is loaded and then by what it asks, never the other way round.

    Args:
        bring: called with the model's turn taken.
    """

    def __init__(self, needs: Needs, roster: Roster, loading: Loading, turns: Turns, bring: Bring) -> None:
        self._needs = needs
        self._roster = roster
        self._loading = loading
        self._turns = turns
        self._bring = bring
        self._under_way: dict[str, Prepared] = {}
        """Those whose needs are being loaded: two that ask each other would wait for each other's turn for ever."""

    async def supply(self, model: Model, prepared: Prepared) -> None:
        """Load what `model` asks, and is not there.

        Raises:
            TaxiwayError: it cannot be loaded, or they ask each other in a circle.
        """
        self._under_way[model.name] = prepared
        try:
            self._needs.check_circle(model.name, prepared.needs, self._under_way)
            for found in await self._find(prepared, (model.name,)):
                await self._load(found)
        finally:
            del self._under_way[model.name]

    async def _load(self, found: FoundModel) -> None:
        async with self._turns.of(found.name):
            needed = self._roster.of(found.name)
            if needed.routed or (needed.cold and needed.specs):
                return  # somebody else has loaded it meanwhile
            implied = needed.implied if needed.cold else True
            await self._bring(needed, found)
            needed.implied = implied

    async def tell(self, name: str) -> None:
        """`name` is another one now: plan those anew that ask it, and load those that waited for it."""
        for dependent in self._needs.changed(name):
            async with self._turns.of(dependent):
                model = self._roster.of(dependent)
                found = model.wanted or model.found
                if found is not None and not model.cold:
                    with contextlib.suppress(TaxiwayError):  # told already, in the log and in the index
                        await self._bring(model, found)
            await self.tell(dependent)

    async def _find(self, prepared: Prepared, way: tuple[str, ...]) -> list[FoundModel]:
        """What it asks and is not there, and what that asks, each after what it asks itself; not what is nowhere."""
        missing = self._needs.missing(prepared.needs)
        if not missing:
            return []
        look = await self._loading.look()
        order: dict[str, FoundModel] = {}
        for name in dict.fromkeys(need.model for need in missing):
            if name in way:
                raise circle((*way, name))
            known = self._roster.models.get(name)
            found = look.models.get(name) if known is None else known.found or look.models.get(name)
            if found is not None:
                further = await self._find(await self._loading.prepare(found), (*way, name))
                order.update((one.name, one) for one in (*further, found))
        return list(order.values())
