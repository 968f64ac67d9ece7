"""The virtual-time loop: exact, instant, and loud about what would hang."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from taxiway.testing import DeadlockError, VirtualClock, VirtualTimeLoop, run_virtual


def test_an_hour_of_sleep_takes_no_time_and_is_an_hour() -> None:
    async def main() -> tuple[int, float]:
        clock = VirtualClock()
        before = clock.now_utc()
        await asyncio.sleep(3600)
        return clock.monotonic_ns(), (clock.now_utc() - before).total_seconds()

    started = time.monotonic()
    assert run_virtual(main) == (3600 * 10**9, 3600.0)
    assert time.monotonic() - started < 5


def test_timers_fire_in_order_at_their_nanosecond() -> None:
    async def main() -> list[int]:
        clock, fired = VirtualClock(), []
        loop = asyncio.get_running_loop()
        for delay in (0.3, 0.000_000_007, 0.1, 200.000_001):
            loop.call_later(delay, lambda: fired.append(clock.monotonic_ns()))
        await asyncio.sleep(201)
        return fired

    assert run_virtual(main) == [7, 100_000_000, 300_000_000, 200_000_001_000]


def test_work_that_is_ready_costs_no_time() -> None:
    async def main() -> int:
        for _ in range(100):
            await asyncio.sleep(0)
        return VirtualClock().monotonic_ns()

    assert run_virtual(main) == 0


async def _waits_for_godot() -> None:
    await asyncio.get_running_loop().create_future()


def test_a_deadlock_names_what_waits() -> None:
    async def main() -> None:
        await asyncio.create_task(_waits_for_godot(), name="vladimir")

    with pytest.raises(DeadlockError, match=r"vladimir in _waits_for_godot at .*test_loop\.py:\d+"):
        run_virtual(main)


def test_endless_ticking_is_reported() -> None:
    async def tick() -> None:
        while True:  # noqa: ASYNC110 - the ticking is the test
            await asyncio.sleep(60)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        await _waits_for_godot()
        await ticking

    with pytest.raises(DeadlockError, match=r"timers still fire after .* > _waits_for_godot"):
        run_virtual(main, limit_s=3600)


def test_a_thread_that_is_expected_is_waited_for_while_time_stands_still() -> None:
    async def main() -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        answer: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            time.sleep(0.02)
            loop.call_soon_threadsafe(answer.set_result, "done")

        thread = threading.Thread(target=work)
        loop.call_later(5, lambda: None)  # a timer that must not be jumped to
        with loop.real_threads():
            thread.start()
            result = await answer
        thread.join()
        return result, loop.now_ns

    assert run_virtual(main) == ("done", 0)


def test_run_in_executor_works_unasked() -> None:
    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()

        def work() -> int:
            time.sleep(0.01)
            return 42

        done = await loop.run_in_executor(None, work)
        return done, VirtualClock().monotonic_ns()

    assert run_virtual(main) == (42, 0)


def test_what_a_callback_raises_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(ZeroDivisionError)


def test_the_clock_refuses_another_loop() -> None:
    async def main() -> None:
        VirtualClock()

    with pytest.raises(TypeError, match="run_virtual"):
        asyncio.run(main())
