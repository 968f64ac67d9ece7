"""Whether versions make progress: one whose run does not come back is not ready, until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from taxiway.server.models.machine import ModelEvent, ModelState
from taxiway.server.models.roster import Roster, Version
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
_LOOKS = 4
"""Within one time limit."""
_LEAST_S = 0.05
_MOST_S = 5.0


def decide_progress(
    state: ModelState, running_ns: int, limit_ns: int, *, in_trouble: bool = False
) -> ModelEvent | None:
    """What the age of a version's oldest run says of it, and that it is in trouble.

    `running_ns` is below 0 if nothing runs.
    """
    stuck = in_trouble or running_ns >= limit_ns
    if state is ModelState.READY and stuck:
        return ModelEvent.STALLED
    if state is ModelState.STALLED and not stuck:
        return ModelEvent.RESUMED
    return None


class ProgressWatch:
    """Looks at the runs of every version in the routes: when asked, and by itself so that listeners are told.

    Args:
        limit_s: how long a run may take (`models.stall_timeout_s`).
        changed: told when a version has stalled or gone on.
    """

    def __init__(self, roster: Roster, limit_s: float, now_ns: Callable[[], int], changed: Callable[[], None]) -> None:
        self._roster = roster
        self._limit_s = limit_s
        self._now_ns = now_ns
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look every now and then, from now on."""
        self.look()
        interval_s = min(_MOST_S, max(_LEAST_S, self._limit_s / _LOOKS))
        self._timer = asyncio.get_running_loop().call_later(interval_s, self.begin)

    def end(self) -> None:
        """Look only when asked."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Bring the state of every version up to date."""
        now_ns = self._now_ns()
        moved = [version for version in self._roster.in_routes() if self._judge(version, now_ns)]
        if moved:
            self._changed()

    def _judge(self, version: Version, now_ns: int) -> bool:
        served = version.served
        if served is None:
            return False
        running_ns = now_ns - served.engine.running_since_ns()
        trouble = served.engine.trouble()
        limit_ns = round(self._limit_s * 1e9)
        event = decide_progress(version.life.now.state, running_ns, limit_ns, in_trouble=trouble is not None)
        if event is None:
            return False
        if event is ModelEvent.STALLED:
            reason = trouble or f"a run has not come back for {self._limit_s:g} s (models.stall_timeout_s)"
            _log.error("model_stalled", model=served.name, version=str(served.version), reason=reason)
        else:
            reason = "it makes progress again"
            _log.info("model_resumed", model=served.name, version=str(served.version), reason=reason)
        version.step(event, reason, now_ns)
        return True
