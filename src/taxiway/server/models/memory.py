"""Which models make room when another one needs it: the least recently used, idle ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taxiway.server.models.roster import Model


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
    """Pure: the models to unload so that `needed` more bytes fit into `budget`, in the order to unload them.

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


def tenant_of(model: Model) -> Tenant:
    """A loaded model as it is now."""
    served = [version.served for version in model.routed if version.served is not None]
    used_ns = max([model.since_ns, *(one.statistics.last_ns for one in served)])
    busy = any(one.batcher.depth()[0] or one.batcher.gauges().running_batches for one in served)
    return Tenant(model.name, model.nbytes, used_ns, busy)
