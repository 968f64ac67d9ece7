"""An asyncio event loop in virtual time: when nothing is ready, its clock jumps to the next timer.

An hour of sleeps takes no time, timers fire at exactly their nanosecond, and a test that would hang says what
waits instead. For code that awaits timers, futures and callbacks; not for sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import selectors
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

NS_PER_S = 1_000_000_000
_START_UTC = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_THREAD_PATIENCE_S = 10.0
"""Real seconds that a thread which a test expects may take to call back."""


class DeadlockError(RuntimeError):
    """Nothing is scheduled that could ever wake the tasks that still wait; the message lists them."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls the real file descriptors, and instead of sleeping asks the loop to advance its clock."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self.loop.threads_expected:
            return self._wait_for_thread()
        if timeout is None:
            raise DeadlockError("nothing is scheduled, but these wait: " + _describe_tasks(self.loop))
        self.loop.advance(timeout)
        return []

    def _wait_for_thread(self) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(_THREAD_PATIENCE_S)
        if not events:
            raise DeadlockError(
                f"no thread called back in {_THREAD_PATIENCE_S:g} s; these wait: " + _describe_tasks(self.loop)
            )
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The event loop whose `time()` is `now_ns`, which moves only when nothing is ready to run.

    Attributes:
        now_ns: virtual nanoseconds since the loop was made.
        threads_expected: while it is not 0, time stands still and the loop waits for a real thread to call.
        unhandled: what was given to `call_exception_handler` while nobody had set a handler.
    """

    def __init__(self, *, limit_s: float = 366 * 86_400.0) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self.now_ns = 0
        self.threads_expected = 0
        self.unhandled: list[dict[str, Any]] = []
        self._limit_ns = round(limit_s * NS_PER_S)
        super().__init__(selector)
        self.set_exception_handler(lambda _, context: self.unhandled.append(context))

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_ns / NS_PER_S

    def advance(self, delay_s: float) -> None:
        """Move the clock on, as if `delay_s` had been slept.

        Raises:
            DeadlockError: the clock passed `limit_s`: something ticks for ever while the test waits.
        """
        self.now_ns += max(1, round(delay_s * NS_PER_S))
        if self.now_ns > self._limit_ns:
            raise DeadlockError(
                f"timers still fire after {self.time():g} virtual seconds; these wait: " + _describe_tasks(self)
            )

    @contextlib.contextmanager
    def real_threads(self) -> Iterator[None]:
        """Within, time stands still and the loop waits for `call_soon_threadsafe` from a real thread."""
        self.threads_expected += 1
        try:
            yield
        finally:
            self.threads_expected -= 1

    def run_in_executor(  # type: ignore[override]  # typeshed's variadic form needs 3.11's Unpack
        self,
        executor: Any,  # noqa: ANN401 - as in the base class
        func: Callable[..., T],
        *args: Any,  # noqa: ANN401 - as in the base class
    ) -> asyncio.Future[T]:
        """As in asyncio; time stands still until the thread is done."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self.threads_expected += 1
        future.add_done_callback(self._thread_returned)
        return future

    def _thread_returned(self, _future: asyncio.Future[Any]) -> None:
        self.threads_expected -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109, ARG002 - as in the base class
        """As in asyncio; its helper thread is a real one."""
        with self.real_threads():
            await super().shutdown_default_executor()


class VirtualClock:
    """core.Clock in the time of a VirtualTimeLoop: of the running one, unless one is given."""

    def __init__(self, loop: VirtualTimeLoop | None = None) -> None:
        running = loop or asyncio.get_running_loop()
        if not isinstance(running, VirtualTimeLoop):
            raise TypeError("VirtualClock needs a VirtualTimeLoop: start the test with run_virtual")
        self._loop = running

    def monotonic_ns(self) -> int:
        """The loop's virtual nanoseconds."""
        return self._loop.now_ns

    def now_utc(self) -> dt.datetime:
        """The start of 2026 plus the virtual time."""
        return _START_UTC + dt.timedelta(microseconds=self._loop.now_ns / 1000)


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]], *, limit_s: float = 366 * 86_400.0) -> T:
    """Run the coroutine that `main` makes, in virtual time, and return its result.

    Raises:
        DeadlockError: it waits for something that can never happen.
        ExceptionGroup: it ended, but a callback or an abandoned task had raised.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit_s=limit_s)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)  # noqa: S101 - for the type checker
        result = runner.run(main())
        failures = [_failure_of(context) for context in loop.unhandled]
    if failures:
        raise ExceptionGroup("raised outside the test's own task", failures)
    return result


def _failure_of(context: dict[str, Any]) -> Exception:
    exception = context.get("exception")
    return exception if isinstance(exception, Exception) else RuntimeError(str(context.get("message")))


def _describe_tasks(loop: asyncio.AbstractEventLoop) -> str:
    return "; ".join(sorted(_describe_task(task) for task in asyncio.all_tasks(loop))) or "no task"


def _describe_task(task: asyncio.Task[Any]) -> str:
    return f"{task.get_name()} in {' > '.join(_awaiting(task.get_coro())) or 'nothing'}"


def _awaiting(coro: Any) -> Iterator[str]:  # noqa: ANN401 - whatever an await may hold
    """Where a coroutine stands, and the one it awaits, down to the last: get_stack shows only the first."""
    while (frame := getattr(coro, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}"
        coro = coro.cr_await
