"""The life of one model process, as a pure function: what becomes of it, and when the next one is started.

Deaths count as near each other by how long processes served between them, not by the clock: a model that takes a
minute to load, and then dies at once, is in as much trouble as one that loads in a second.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from taxiway.core.errors import InvalidTransition
from taxiway.server.execution.processes.plan import RespawnPlan


class State(enum.Enum):
    """How an instance stands."""

    STARTING = "starting"
    READY = "ready"
    RESTING = "resting"
    """Its process died; another is started when its rest is over."""
    BROKEN = "broken"
    """It died again and again, or could not be started again; it is tried again after a long rest."""
    RETRYING = "retrying"
    """It was broken, and another process is being started: it is as broken as before until that is ready."""


class Event(enum.Enum):
    """What happens to an instance."""

    OPENED = "opened"
    DIED = "died"
    RESTED = "rested"


_STEPS = {
    (State.STARTING, Event.OPENED): State.READY,
    (State.RETRYING, Event.OPENED): State.READY,
    (State.RESTING, Event.RESTED): State.STARTING,
    (State.BROKEN, Event.RESTED): State.RETRYING,
    (State.STARTING, Event.DIED): State.RESTING,
    (State.READY, Event.DIED): State.RESTING,
    (State.RETRYING, Event.DIED): State.RESTING,
}
"""Who has died too often is broken instead of resting."""


@dataclass(frozen=True, slots=True)
class Life:
    """One instance so far.

    Attributes:
        since_ns: when its process became ready.
        served_ns: how long its processes were ready, all together, until the last one died.
        deaths_ns: when its processes died lately, by `served_ns`.
        reason: what the last one died of.
    """

    state: State = State.STARTING
    since_ns: int = 0
    served_ns: int = 0
    deaths_ns: tuple[int, ...] = ()
    reason: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether nothing is to be hoped of it now."""
        return self.state in (State.BROKEN, State.RETRYING)


def step(life: Life, event: Event, now_ns: int, plan: RespawnPlan, reason: str = "") -> tuple[Life, int | None]:
    """The life after `event`, and after how many nanoseconds to start a process: 0 for now, None for not at all.

    Raises:
        InvalidTransition: this cannot happen to it.
    """
    state = _STEPS.get((life.state, event))
    if state is None:
        raise InvalidTransition(f"a model process that is {life.state.value} cannot have {event.value}")
    if event is Event.OPENED:
        return replace(life, state=state, since_ns=now_ns), None
    if event is Event.RESTED:
        return replace(life, state=state), 0
    served_ns = life.served_ns + (now_ns - life.since_ns if life.state is State.READY else 0)
    recent = [at for at in life.deaths_ns if at > served_ns - plan.window_ns]
    deaths = (*recent, served_ns)[-plan.crashes :]
    if len(deaths) >= plan.crashes:
        state = State.BROKEN
    died = Life(state, life.since_ns, served_ns, deaths, reason)
    return died, plan.rest_ns(len(deaths))
