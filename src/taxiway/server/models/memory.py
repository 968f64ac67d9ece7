"""What loaded models may take together; who makes room: the least recently used, idle ones first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taxiway.core.errors import NoRoom
from taxiway.server.models.departures import Departures
from taxiway.server.models.loading import Prepared
from taxiway.server.models.machine import never_lived
from taxiway.server.models.roster import Model, Roster, Version
from taxiway.server.models.served import ServedModel
from taxiway.telemetry.catalogue import UnloadReason


@dataclass(frozen=True, slots=True)
class Tenant:
    """A loaded model.

    Attributes:
        nbytes: what it takes, by the size of its files.
        used_ns: when it last answered, or was loaded.
        busy: whether requests of it wait or run.
    """

    name: str
    nbytes: int
    used_ns: int
    busy: bool


def choose_leavers(tenants: Sequence[Tenant], needed: int, budget: int) -> list[str]:
    """The models to unload so that `needed` more bytes fit into `budget`, in the order to unload them. Pure.

    `needed` is at most `budget`. No model leaves that need not: of those chosen, one that is not wanted after all
    because a larger one followed stays.
    """
    excess = sum(tenant.nbytes for tenant in tenants) + needed - budget
    leavers: list[Tenant] = []
    for tenant in sorted(tenants, key=lambda tenant: (tenant.busy, tenant.used_ns, tenant.name)):
        if excess <= 0:
            break
        if tenant.nbytes:
            leavers.append(tenant)
            excess -= tenant.nbytes
    spared = set()
    for tenant in reversed(leavers):  # the most recently used first
        if tenant.nbytes <= -excess:
            spared.add(tenant.name)
            excess += tenant.nbytes
    return [tenant.name for tenant in leavers if tenant.name not in spared]


class MemoryBudget:
    """Keeps what is loaded within `limit_bytes` (`models.memory_bytes`); 0 for no limit.

    Args:
        patience_s: how long a newcomer waits for those that leave; what is stuck then goes on leaving without it.
        changed: told when models have left the routes.
    """

    def __init__(
        self,
        roster: Roster,
        departures: Departures,
        limit_bytes: int,
        patience_s: float,
        changed: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._departures = departures
        self._limit_bytes = limit_bytes
        self._patience_s = patience_s
        self._changed = changed

    def used(self) -> tuple[int, int]:
        """Bytes that are taken, and that may be."""
        return sum(model.nbytes for model in self._roster.models.values()), self._limit_bytes

    def has_room(self, model: Model, prepared: Prepared) -> bool:
        """Whether `model` fits beside all that is loaded.

        Raises:
            NoRoom: it would not even fit alone.
        """
        needed, limit = prepared.nbytes, self._limit_bytes
        if not limit:
            return True
        if needed > limit:
            raise NoRoom(
                f"model '{model.name}' takes {needed} bytes; models.memory_bytes allows {limit} for all together",
                hint="raise models.memory_bytes, or serve fewer versions of it (version_policy)",
                model=model.name,
            )
        return sum(other.nbytes for other in self._others(model)) + needed <= limit

    def check_room(self, model: Model, prepared: Prepared) -> None:
        """Refuse a companion that does not fit: nothing that serves leaves for it.

        Raises:
            NoRoom: it does not fit beside what is loaded.
        """
        if not self.has_room(model, prepared):
            taken, limit = self.used()
            raise NoRoom(
                f"version {min(prepared.versions)} of model '{prepared.found.name}' takes {prepared.nbytes} bytes, and "
                f"{taken} are taken; models.memory_bytes allows {limit}",
                hint="raise models.memory_bytes, or exchange one for the other (strategy blue-green, exclusive)",
                model=prepared.found.name,
            )

    async def make_room(self, model: Model, prepared: Prepared) -> None:
        """Have others leave until `model` fits, and wait until they have.

        Raises:
            NoRoom: it would not even fit alone.
        """
        if self.has_room(model, prepared):
            return
        tenants = [_tenant(other) for other in self._others(model)]
        chosen = choose_leavers(tenants, prepared.nbytes, self._limit_bytes)
        leaving = [self._evict(self._roster.of(name), model.name) for name in chosen]
        self._changed()
        await asyncio.wait(leaving, timeout=self._patience_s)

    def leave_cold(self, model: Model, prepared: Prepared, at_ns: int) -> None:
        """Make `model` known without loading it: it is loaded when it is asked for."""
        reason = "not loaded, models.memory_bytes is used up; loaded when it is asked for"
        model.cold, model.found = True, prepared.found
        for number, print_ in prepared.versions.items():
            model.versions[number] = Version(number, print_, never_lived(f"{model.name}:{number}", reason, at_ns))

    def _others(self, model: Model) -> list[Model]:
        return [other for other in self._roster.models.values() if other is not model and other.routed]

    def _evict(self, model: Model, newcomer: str) -> asyncio.Task[None]:
        reason = f"unloaded to make room for '{newcomer}' (models.memory_bytes); loaded again when it is asked for"
        model.cold = True
        return self._departures.begin(model.routed, UnloadReason.ROOM, reason, None)


def _tenant(model: Model) -> Tenant:
    """A loaded model as it is now."""
    served = [version.served for version in model.routed if version.served is not None]
    used_ns = max([model.since_ns, *(one.statistics.last_ns for one in served)])
    return Tenant(model.name, model.nbytes, used_ns, any(map(_is_busy, served)))


def _is_busy(served: ServedModel) -> bool:
    """Whether something waits, runs, or is under way: with a stateful model its sequences would be lost."""
    sequences = served.statistics.sequences()
    return bool(served.engine.depth()[0] or served.engine.running() or (sequences and sequences.placed))
