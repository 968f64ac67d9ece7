"""The life of one model process, as a pure function: what becomes of it, and when the next one is started."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from taxiway.server.execution.processes.plan import RespawnPlan


class State(enum.Enum):
    """How an instance stands."""

    STARTING = "starting"
    READY = "ready"
    RESTING = "resting"
    """Its process died; another is started when its rest is over."""
    BROKEN = "broken"
    """It died again and again, or could not be started again; it is tried again after a long rest."""
    CLOSED = "closed"


class Event(enum.Enum):
    """What happens to an instance."""

    OPENED = "opened"
    DIED = "died"
    RESTED = "rested"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Life:
    """One instance so far.

    Attributes:
        deaths_ns: when its processes died lately.
        reason: what the last one died of.
        generation: counts its processes; what is told of an older one is ignored.
    """

    state: State = State.STARTING
    generation: int = 1
    deaths_ns: tuple[int, ...] = ()
    reason: str = ""


def step(life: Life, event: Event, now_ns: int, plan: RespawnPlan, reason: str = "") -> tuple[Life, int | None]:
    """The life after `event`, and after how many nanoseconds to start a process: 0 for now, None for not at all."""
    if event is Event.CLOSED or life.state is State.CLOSED:
        return replace(life, state=State.CLOSED), None
    match event:
        case Event.OPENED:
            return replace(life, state=State.READY), None
        case Event.RESTED:
            return replace(life, state=State.STARTING, generation=life.generation + 1), 0
        case _:
            since_ns = now_ns - plan.window_ns
            deaths = (*(at for at in life.deaths_ns if at > since_ns), now_ns)[-plan.crashes :]
            broken = len(deaths) >= plan.crashes
            state = State.BROKEN if broken else State.RESTING
            died = replace(life, state=state, deaths_ns=deaths, reason=reason)
            return died, plan.rest_ns(len(deaths))
