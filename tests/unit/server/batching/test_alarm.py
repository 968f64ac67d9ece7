"""The alarm of queues, in virtual time: it rings at the soonest moment it was set for, and once."""

from __future__ import annotations

import asyncio

from tests.unit.server.batching.fakes import MS
from tests.unit.server.batching.test_batcher import virtual

from taxiway.core.requests import NEVER_NS
from taxiway.server.batching.alarm import Alarm
from taxiway.testing import VirtualClock


@virtual
async def test_it_rings_at_the_soonest_moment_and_once() -> None:
    clock, rung = VirtualClock(), list[int]()
    alarm = Alarm(asyncio.get_running_loop(), lambda: rung.append(clock.monotonic_ns()))
    now_ns = clock.monotonic_ns()
    for at_ms in (30, 10, 20, 10):
        alarm.set(now_ns + at_ms * MS, now_ns)
    assert alarm.at_ns == now_ns + 10 * MS
    await asyncio.sleep(0.1)
    assert rung == [now_ns + 10 * MS]
    assert alarm.at_ns == NEVER_NS


@virtual
async def test_it_can_be_set_while_it_rings_and_rings_no_more_once_it_is_cleared() -> None:
    clock, rung = VirtualClock(), list[int]()

    def ring() -> None:
        rung.append(clock.monotonic_ns())
        alarm.set(rung[-1] + 10 * MS, rung[-1])

    alarm = Alarm(asyncio.get_running_loop(), ring)
    began_ns = clock.monotonic_ns()
    alarm.set(began_ns, began_ns)
    await asyncio.sleep(0.025)
    alarm.clear()
    alarm.clear()
    await asyncio.sleep(0.1)
    assert rung == [began_ns + step * 10 * MS for step in range(3)]
