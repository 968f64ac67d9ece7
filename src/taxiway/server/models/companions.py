"""Versions that are loaded beside what the server was told to serve, and one version exchanged for another.

A companion is a model of its own to whoever loads, watches and closes models, under a key that no path can name; its
answers carry the name of the model that it stands beside. Nothing that serves ever leaves to make room for one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic

from taxiway.core.errors import InvalidArgument, TaxiwayError, VersionNotServed
from taxiway.core.traffic import Companion, Swap, SwapOutcome
from taxiway.server.models.cold import ColdStarts
from taxiway.server.models.machine import ModelState
from taxiway.server.models.repository import FoundModel, one_model
from taxiway.server.models.roster import COMPANION, Model, Roster
from taxiway.server.models.turns import Turns
from taxiway.telemetry.catalogue import UnloadReason

Bring = Callable[[Model, FoundModel], Awaitable[None]]
TakeOut = Callable[[str, UnloadReason, str], Awaitable[None]]
"""Has a model leave; what it returns ends when nothing is owed by it to anybody, and its memory is given back."""


class Companions:
    """What the control plane may have loaded, exchanged and released.

    Args:
        bring: has a model served from what was found, if there is room, and leaves everything as it was if it cannot.
        exchange: likewise, whatever else has to leave.
        take_out: has a model leave.
        cold: holds the requests of a model that is being exchanged.
    """

    def __init__(
        self, roster: Roster, turns: Turns, bring: Bring, exchange: Bring, take_out: TakeOut, cold: ColdStarts
    ) -> None:
        self._roster = roster
        self._turns = turns
        self._bring = bring
        self._exchange = exchange
        self._take_out = take_out
        self._cold = cold

    async def stage(self, companion: Companion) -> None:
        """Load a version beside what is served. One that is loaded already stays as it is.

        Raises:
            InvalidArgument: its key could be a model's name.
            VersionNotServed: another copy is wanted of a version that is not served.
            NoRoom: it does not fit into memory beside what is loaded.
            InvalidModel, InvalidConfig, Unsupported: it cannot be loaded; nothing has changed.
        """
        if not companion.key.startswith(f"{companion.service}{COMPANION}"):
            raise InvalidArgument(
                f"key {companion.key!r} of a companion must begin with {companion.service}{COMPANION}", field="key"
            )
        async with self._turns.of(companion.key):
            found = self._find(companion)
            model = self._roster.of(companion.key)
            try:
                await self._bring(model, found)
            except BaseException:
                self._roster.forget_unserved(companion.key)
                raise

    async def release(self, key: str) -> None:
        """Let what answers under this key leave, once it has answered what it took; one that is unknown is no error."""
        async with self._turns.of(key):
            gone = self._take_out(key, UnloadReason.ASKED, "released after a rollout")
        await gone
        if COMPANION in key:
            self._roster.forget_unserved(key)

    async def swap(self, swap: Swap) -> SwapOutcome:
        """Exchange what answers under a key for another version, which takes its place; requests wait meanwhile."""
        began, model = monotonic(), self._roster.of(swap.leaving)
        async with self._turns.of(swap.leaving):
            found, before = self._find(swap.companion), model.found
            if before is None:
                raise VersionNotServed(
                    f"nothing is served under {swap.leaving!r} that could be exchanged", hint="see the repository index"
                )
            self._cold.bound(model.service, swap.max_requests, swap.max_hold_s)
            held, shed = self._cold.counted
            problem = ""
            try:
                model.cold = True
                await self._take_out(swap.leaving, UnloadReason.REPLACED, "exchanged for another version")
                try:
                    await self._exchange(model, found)
                except TaxiwayError as error:
                    problem = error.message
                    await self._exchange(model, before)
            finally:
                model.cold = False
                self._cold.unbound(model.service)
        now_held, now_shed = self._cold.counted
        return SwapOutcome(not problem, now_held - held, now_shed - shed, monotonic() - began, problem)

    def versions(self, service: str) -> Mapping[int, bool]:
        """The versions that the server was told to serve of a model, and whether each is ready."""
        model = self._roster.models.get(service)
        routed = [] if model is None else model.routed
        return {version.number: version.life.now.state is ModelState.READY for version in routed}

    def _find(self, companion: Companion) -> FoundModel:
        found = one_model(Path(companion.path)) if companion.path else self._served(companion)
        return replace(found, name=companion.service, only=companion.version, trusted=companion.trusted)

    def _served(self, companion: Companion) -> FoundModel:
        """What the version that is served now was loaded from."""
        for model in self._roster.models.values():
            numbers = [version.number for version in model.routed]
            if model.service == companion.service and model.found is not None and companion.version in numbers:
                return model.found
        raise VersionNotServed(
            f"version {companion.version} of model '{companion.service}' is not served: there is nothing to copy",
            hint="give the directory that it lies in",
        )
