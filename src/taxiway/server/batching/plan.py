"""What is wanted of one model's batching: sizes, waits, levels and limits. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from taxiway.core.errors import InvalidConfig
from taxiway.core.requests import NEVER_NS, InferRequest


@dataclass(frozen=True, slots=True)
class LevelPolicy:
    """How the requests of one priority level wait (Triton's ModelQueuePolicy)."""

    timeout_action: Literal["reject", "delay"] = "reject"
    """What happens to a request whose time runs out in the queue: it is answered with an error, or it goes
    behind everything of its level that is still in time (and ahead of less urgent levels, as in Triton)."""
    default_timeout_ns: int = 0
    """How long a request may wait that says nothing; 0: for ever."""
    allow_timeout_override: bool = False
    """Only without `strict_timeouts`: whether a request may ask for less than the default."""
    max_requests: int = 0
    """Requests of this level that may wait (Triton's max_queue_size); 0: no limit of its own."""

    def deadline_ns(self, request: InferRequest, *, strict: bool) -> int:
        """The moment until which `request` may wait, by its own wish and this level's default.

        Strict: the earlier of the two. Otherwise Triton's rule (core, src/scheduler_utils.cc): its own wish
        counts only if overrides are allowed and it is smaller than a default that is not 0.
        """
        default = request.arrived_ns + self.default_timeout_ns if self.default_timeout_ns else NEVER_NS
        own_counts = strict or (self.allow_timeout_override and self.default_timeout_ns)
        return min(default, request.deadline_ns) if own_counts else default


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait in all; 0: no limit. The keys are `queue.max_requests`, `queue.max_rows` and so on."""

    max_requests: int = 0
    max_rows: int = 0
    max_bytes: int = 0
    max_wait_ns: int = 0
    """Refuse a request whose predicted wait is longer."""


@dataclass(frozen=True, slots=True)
class BatchingPlan:
    """How the requests of one model version are merged."""

    max_rows: int = 0
    """Rows a run may have at most (Triton's max_batch_size); 0 or 1: nothing is merged."""
    merge_rows: int = 0
    """Rows merged at most: the best batch measured at load; 0: `max_rows`. One request may have more."""
    preferred_rows: tuple[int, ...] = ()
    """Sizes worth waiting for, up to `max_delay_ns`."""
    max_delay_ns: int = 0
    """How long the oldest request may be kept waiting for company while a slot is idle."""
    objective_p99_ns: int = 0
    """Instead of a delay: answer 99 of 100 within this time, wait only where that can be; 0: none."""
    preserve_ordering: bool = False
    """Answer in the order of arrival."""
    levels: tuple[LevelPolicy, ...] = (LevelPolicy(),)
    """Priority 1 is the first."""
    default_level: int = 1
    """The level of a request that names none, or one that does not exist (as in Triton)."""
    limits: QueueLimits = field(default_factory=QueueLimits)
    strict_timeouts: bool = True
    """A request's own timeout is honoured, up to its level's default; otherwise Triton's rule."""

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise InvalidConfig("batching plan: " + "; ".join(problems), problems=problems)

    def _problems(self) -> list[str]:
        hard = max(1, self.max_rows)
        checks = (
            (
                0 <= self.merge_rows <= hard,
                f"merge_rows {self.merge_rows} is not within 0 to max_rows {hard}",
            ),
            (
                all(1 <= rows <= hard for rows in self.preferred_rows),
                f"preferred_rows {self.preferred_rows} are not all within 1 to max_rows {hard}",
            ),
            (self.max_delay_ns >= 0, "max_delay_ns is negative"),
            (self.objective_p99_ns >= 0, "objective_p99_ns is negative"),
            (
                1 <= self.default_level <= len(self.levels),
                f"default_level {self.default_level} is not one of the {len(self.levels)} levels",
            ),
        )
        return [problem for holds, problem in checks if not holds]

    def level_number(self, request: InferRequest) -> int:
        """The number of the level in which `request` waits; 1 is the most urgent."""
        return request.priority if 1 <= request.priority <= len(self.levels) else self.default_level

    def level_of(self, request: InferRequest) -> LevelPolicy:
        """The policy of that level."""
        return self.levels[self.level_number(request) - 1]

    def patience_ns(self, request: InferRequest) -> int:
        """The moment from which an answer is too late for `request`, outside of the queue.

        Where its level only delays what is late, what is left is its own wish, if that counts.
        """
        level = self.level_of(request)
        if level.timeout_action == "delay":
            return request.deadline_ns if self.strict_timeouts else NEVER_NS
        return level.deadline_ns(request, strict=self.strict_timeouts)

    @property
    def hard_rows(self) -> int:
        """Rows a run may have at most, never less than 1."""
        return max(1, self.max_rows)

    @property
    def merge_cap(self) -> int:
        """Rows up to which requests are merged."""
        return self.merge_rows or self.hard_rows

    @property
    def may_wait(self) -> bool:
        """Whether the policy can choose anything but "now, all that fits"; the hot path skips it if not."""
        return bool(self.max_delay_ns or self.objective_p99_ns or self.preferred_rows)
