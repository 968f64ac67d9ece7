"""The life of one version: loading -> ready -> draining -> gone, each state with its reason and its time.

Pure: a table and a function. A step that the table does not have is refused with the story so far.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from taxiway.core.errors import InvalidTransition

_CHAPTERS_KEPT = 16
"""A version that stalls and resumes for months must not grow."""


class ModelState(enum.Enum):
    """What a version is doing."""

    LOADING = "loading"
    READY = "ready"
    STALLED = "stalled"
    """It is in the routes, and a run of it has not come back for too long."""
    LACKING = "lacking"
    """It is in the routes, and a model that it asks is not ready."""
    DRAINING = "draining"
    GONE = "gone"
    FAILED = "failed"


class ModelEvent(enum.Enum):
    """What happened to a version."""

    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    STALLED = "stalled"
    RESUMED = "resumed"
    LACKS = "lacks a model"
    SUPPLIED = "supplied"
    RETIRED = "retired"
    DRAINED = "drained"


_TABLE: dict[tuple[ModelState, ModelEvent], ModelState] = {
    (ModelState.LOADING, ModelEvent.LOADED): ModelState.READY,
    (ModelState.LOADING, ModelEvent.LOAD_FAILED): ModelState.FAILED,
    (ModelState.READY, ModelEvent.STALLED): ModelState.STALLED,
    (ModelState.READY, ModelEvent.LACKS): ModelState.LACKING,
    (ModelState.READY, ModelEvent.RETIRED): ModelState.DRAINING,
    (ModelState.STALLED, ModelEvent.RESUMED): ModelState.READY,
    (ModelState.STALLED, ModelEvent.RETIRED): ModelState.DRAINING,
    (ModelState.LACKING, ModelEvent.SUPPLIED): ModelState.READY,
    (ModelState.LACKING, ModelEvent.RETIRED): ModelState.DRAINING,
    (ModelState.DRAINING, ModelEvent.DRAINED): ModelState.GONE,
}


@dataclass(frozen=True, slots=True)
class Chapter:
    """One state a version was in."""

    state: ModelState
    reason: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class ModelLife:
    """A version's story so far, its latest chapters; the last is now."""

    name: str
    chapters: tuple[Chapter, ...] = field(default=())

    @property
    def now(self) -> Chapter:
        """The current chapter."""
        return self.chapters[-1]


def begin_life(name: str, at_ns: int) -> ModelLife:
    """A version that has begun to load."""
    return ModelLife(name, (Chapter(ModelState.LOADING, "loading", at_ns),))


def never_lived(name: str, reason: str, at_ns: int) -> ModelLife:
    """A version that is known and was not loaded."""
    return ModelLife(name, (Chapter(ModelState.GONE, reason, at_ns),))


def step_life(life: ModelLife, event: ModelEvent, reason: str, at_ns: int) -> ModelLife:
    """The life after `event`.

    Raises:
        InvalidTransition: the table has no such step from here.
    """
    state = _TABLE.get((life.now.state, event))
    if state is None:
        story = " -> ".join(f"{chapter.state.value} ({chapter.reason})" for chapter in life.chapters)
        raise InvalidTransition(f"model {life.name} cannot take '{event.value}' while {life.now.state.value}: {story}")
    return ModelLife(life.name, (*life.chapters[1 - _CHAPTERS_KEPT :], Chapter(state, reason, at_ns)))
