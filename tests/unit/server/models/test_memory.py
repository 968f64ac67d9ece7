"""Who makes room: never more than must, idle ones before busy ones, the least recently used first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taxiway.server.models.memory import Tenant, choose_leavers


def _tenant(name: str, nbytes: int, used_ns: int, busy: bool = False) -> Tenant:
    return Tenant(name, nbytes, used_ns, busy)


def test_the_least_recently_used_leaves_first() -> None:
    tenants = [_tenant("new", 10, 3), _tenant("old", 10, 1), _tenant("middle", 10, 2)]
    assert choose_leavers(tenants, 10, 30) == ["old"]
    assert choose_leavers(tenants, 20, 30) == ["old", "middle"]


def test_a_busy_one_leaves_last() -> None:
    tenants = [_tenant("busy", 10, 1, busy=True), _tenant("idle", 10, 2)]
    assert choose_leavers(tenants, 10, 20) == ["idle"]
    assert choose_leavers(tenants, 20, 20) == ["idle", "busy"]


def test_nobody_leaves_in_vain() -> None:
    tenants = [_tenant("small", 1, 1), _tenant("large", 50, 2)]
    assert choose_leavers(tenants, 50, 60) == ["large"]


@st.composite
def _cases(draw: st.DrawFn) -> tuple[list[Tenant], int, int]:
    sizes = draw(st.lists(st.integers(0, 50), max_size=8))
    tenants = [_tenant(str(i), size, draw(st.integers(0, 9)), draw(st.booleans())) for i, size in enumerate(sizes)]
    budget = draw(st.integers(0, 100))
    return tenants, draw(st.integers(0, budget)), budget


@given(_cases())
def test_it_fits_afterwards_and_nobody_could_have_stayed(case: tuple[list[Tenant], int, int]) -> None:
    tenants, needed, budget = case
    leavers = choose_leavers(tenants, needed, budget)
    sizes = {tenant.name: tenant.nbytes for tenant in tenants}
    left = sum(size for name, size in sizes.items() if name not in leavers)
    assert left + needed <= budget
    assert len(set(leavers)) == len(leavers)
    for name in leavers:
        assert left + sizes[name] + needed > budget, f"{name} left in vain"
