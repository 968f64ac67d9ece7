"""Requests for models that were unloaded to make room: held, whatever their protocol, until the model is back.

What is held is not read yet, for only the loaded model knows its tensors. It counts as in flight, it is bounded for
each model, and it leaves when its time runs out or its client goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from taxiway.core.clock import Clock
from taxiway.core.errors import DeadlineExceeded, InternalError, Overloaded, TaxiwayError, Unavailable
from taxiway.core.requests import NEVER_NS
from taxiway.server.admission import Admission
from taxiway.server.totals import LifecycleStatistics
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
Resume = Callable[[TaxiwayError | None], None]
"""Called once: with None when the model is in the routes, with the reason if it will not be in time."""
_TRY_AGAIN_S = 5.0
"""How long a model that could not be loaded is not tried again: requests for a broken one must not load it each."""


@dataclass(eq=False, slots=True)
class Held:
    """A request that waits for its model."""

    name: str
    resume: Resume
    leave: Callable[[], None]
    """Called once it waits no longer: it counts as in flight no more, if it did."""
    timer: asyncio.TimerHandle | None = None
    over: bool = False
    """It was resumed or dropped."""


class ColdStarts:
    """Holds requests, and has their models loaded.

    Args:
        limit: requests held for one model (`models.cold_requests`).
        admission: where they count as in flight.
        load: brings a model back into the routes.
        statistics: where they are counted.
    """

    def __init__(
        self,
        limit: int,
        admission: Admission,
        clock: Clock,
        load: Callable[[str], Awaitable[None]],
        statistics: LifecycleStatistics,
    ) -> None:
        self._limit = limit
        self._admission = admission
        self._now_ns = clock.monotonic_ns
        self._load = load
        self._statistics = statistics
        self._stopping = False
        self._held: dict[str, list[Held]] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[int, TaxiwayError]] = {}
        self._bounds: dict[str, tuple[int, float]] = {}
        """Of models that are being exchanged: requests held at most, and for how many seconds."""

    @property
    def counted(self) -> tuple[int, int]:
        """Requests that were held, and that could not be, since the start."""
        return self._statistics.cold_held, self._statistics.cold_refused

    def bound(self, name: str, limit: int, hold_s: float) -> None:
        """Until `unbound`, hold so many requests for this model, each for so long, whatever the settings say."""
        self._failed.pop(name, None)
        self._bounds[name] = (limit, hold_s)

    def unbound(self, name: str) -> None:
        """The settings hold again."""
        self._bounds.pop(name, None)

    def hold(self, name: str, resume: Resume, deadline_ns: int = NEVER_NS) -> Held:
        """Call `resume` when the model is back; not before this returns.

        Args:
            name: of a model that is cold.
            resume: what goes on with the request.
            deadline_ns: monotonic time after which an answer is of no use.

        Raises:
            Overloaded: as many wait for this model as may; or the server is full.
            Unavailable: the server is draining.
            TaxiwayError: it could not be loaded a moment ago.
        """
        held = Held(name, resume, self._admission.leave)
        self._hold(held, self._admission.enter, deadline_ns)
        return held

    def hold_inner(self, name: str, resume: Resume, deadline_ns: int = NEVER_NS) -> Held:
        """Likewise, for a model that another asks: the request that this is made for counts as in flight already.

        Raises:
            TaxiwayError: as `hold`, but the server is never too full.
        """
        held = Held(name, resume, _nothing)
        self._hold(held, self._check_going_on, deadline_ns)
        return held

    def _hold(self, held: Held, enter: Callable[[], None], deadline_ns: int) -> None:
        name = held.name
        waiting = self._held.setdefault(name, [])
        try:
            self._check(name, len(waiting))
            enter()
        except TaxiwayError:
            self._statistics.cold_refused += 1
            raise
        if name in self._bounds:
            deadline_ns = min(deadline_ns, self._now_ns() + round(self._bounds[name][1] * 1e9))
        waiting.append(held)
        self._statistics.cold_held += 1
        self._statistics.cold_waiting += 1
        if deadline_ns != NEVER_NS:
            left_s = max(0.0, (deadline_ns - self._now_ns()) / 1e9)
            held.timer = asyncio.get_running_loop().call_later(left_s, self._expire, held)
        if name not in self._loads:
            task = asyncio.get_running_loop().create_task(self._bring_back(name), name=f"cold start of {name}")
            self._loads[name] = task

    def drop(self, held: Held) -> None:
        """Its client has gone: it is not resumed. One that was resumed already is left alone."""
        if not held.over:
            self._release(held)

    async def wait(self, name: str, deadline_ns: int = NEVER_NS) -> None:
        """Return when the model is back in the routes; `hold` for whoever can await.

        Raises:
            TaxiwayError: as `hold`; DeadlineExceeded; or why it cannot be loaded.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def resume(error: TaxiwayError | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error.retold())

        held = self.hold(name, resume, deadline_ns)
        try:
            await done
        finally:
            self.drop(held)

    def refuse_all(self) -> None:
        """The server stops: nothing is loaded for anybody any more."""
        self._stopping = True
        error = _shutting_down()
        for name in tuple(self._held):
            self._resume_all(name, error)

    def _check_going_on(self) -> None:
        if self._stopping:
            raise _shutting_down()

    def _check(self, name: str, waiting: int) -> None:
        until_ns, error = self._failed.get(name, (0, None))
        if error is not None and self._now_ns() < until_ns:
            raise error.retold()
        limit, _ = self._bounds.get(name, (self._limit, 0.0))
        if waiting >= limit:
            raise Overloaded(
                f"{waiting} requests wait for model '{name}' to be loaded again; models.cold_requests allows {limit}",
                hint="retry later, raise models.cold_requests, or give models more room with models.memory_bytes",
                limit="models.cold_requests",
                model=name,
            )

    async def _bring_back(self, name: str) -> None:
        error: TaxiwayError | None = None
        try:
            await self._load(name)
        except TaxiwayError as problem:
            error = problem
        except Exception as problem:  # noqa: BLE001 - the boundary of this task: whoever waits must be told
            _log.error("bug", model=name, error=problem)
            error = InternalError(f"model '{name}' could not be loaded; the server's log has the details")
        del self._loads[name]
        if error is not None:
            self._failed[name] = (self._now_ns() + round(_TRY_AGAIN_S * 1e9), error)
        else:
            self._failed.pop(name, None)
        self._resume_all(name, error)

    def _resume_all(self, name: str, error: TaxiwayError | None) -> None:
        for held in self._held.pop(name, ()):
            if not held.over:  # an answer to one of them may end the connection of another
                self._settle(held)
                held.resume(error)

    def _expire(self, held: Held) -> None:
        self._release(held)
        held.resume(DeadlineExceeded(f"the deadline passed while model '{held.name}' was being loaded again"))

    def _release(self, held: Held) -> None:
        waiting = self._held.get(held.name)
        if waiting is not None and held in waiting:
            waiting.remove(held)
        self._settle(held)

    def _settle(self, held: Held) -> None:
        held.over = True
        self._statistics.cold_waiting -= 1
        held.leave()
        if held.timer is not None:
            held.timer.cancel()


def _shutting_down() -> Unavailable:
    return Unavailable("the server is shutting down", hint="send the request to another replica")


def _nothing() -> None:
    """It was never counted."""
