"""One arm: a version as it is served, with a front of its own that counts what is sent to it.

An arm is a view of the version: the same engine, queue and statistics, but codecs of its own, so that every protocol's
edge makes one for it as for any version. Nothing here knows a protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log2 as _log2
from time import monotonic_ns as _now_ns
from typing import Any

import numpy as np

from taxiway.core.errors import TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest, Responder, StreamResponder
from taxiway.server.models.served import Front, ServedModel
from taxiway.server.splitting.fuse import FuseWatch
from taxiway.server.splitting.tally import ArmTally
from taxiway.stats.log_buckets import BUCKETS, LEAST_NS, PER_OCTAVE

_OFFSET = _log2(LEAST_NS) * PER_OCTAVE
_LAST = BUCKETS - 1
Watcher = Callable[[InferRequest, BatchResult | TaxiwayError | None, int, int], None]
"""Sees how a request ended: rows [start, stop) of a result, an error, or None: its client went."""


class Arm:
    """What is kept of one arm while the weights stay as they are.

    Args:
        name: of the arm.
        served: what answers for it.
        tally: where its requests are counted.
        check_every: in every how many-th answer NaN and infinities are looked for; 0: in none.
        blow: called when its fuse is to blow, with the reason.
    """

    def __init__(
        self, name: str, served: ServedModel, tally: ArmTally, check_every: int, blow: Callable[[Arm, str], None]
    ) -> None:
        self.name = name
        self.served = served
        self.tally = tally
        self.fuse: FuseWatch | None = None
        """The fuse of this arm."""
        self.against: list[FuseWatch] = []
        """Fuses of others that this one is compared with."""
        self.watchers: list[Watcher] = []
        """Those who want to see what requests were answered."""
        self.shadow: Callable[[InferRequest], None] | None = None
        """Has a copy of a request run elsewhere."""
        self._blow = blow
        self._check_every = check_every
        self._floats = [place for place, spec in enumerate(served.spec.outputs) if spec.datatype.name.startswith("FP")]
        self.view = replace(
            served,
            front=ArmFront(self, served.front),
            run_alone=None if served.run_alone is None else self._run_alone(served.run_alone),
            codecs={},
        )
        """What the edges take for a version."""

    def answered(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """A request was answered well, now."""
        tally = self.tally
        tally.answered += 1
        ns = _now_ns() - request.arrived_ns
        bucket = int(_log2(ns) * PER_OCTAVE - _OFFSET) + 1 if ns > LEAST_NS else 0
        tally.latency.counts[min(bucket, _LAST)] += 1
        if self.fuse is not None:
            self.fuse.in_a_row = 0
        if self._check_every and tally.answered % self._check_every == 0:
            self._check(result, start, stop)
        for watch in self.watchers:
            watch(request, result, start, stop)

    def ended(self, request: InferRequest, error: TaxiwayError) -> None:
        """A request ended without an answer."""
        if self.tally.ended_badly(error):
            self.bad()
        for watch in self.watchers:
            watch(request, error, 0, 0)

    def cancelled(self, request: InferRequest) -> None:
        """A request was taken back."""
        self.tally.cancelled += 1
        for watch in self.watchers:
            watch(request, None, 0, 0)

    def bad(self) -> None:
        """Something speaks against this arm: its fuse, and those that it is compared by, take it in."""
        for other in self.against:
            other.other_failed()
        if self.fuse is not None and (reason := self.fuse.failed()):
            self._blow(self, reason)

    def _check(self, result: BatchResult, start: int, stop: int) -> None:
        self.tally.checked += 1
        if not all(_is_finite(result, place, start, stop) for place in self._floats):
            self.tally.invalid += 1
            self.bad()

    def _run_alone(
        self, run: Callable[[InferRequest], BatchOutcome | None]
    ) -> Callable[[InferRequest], BatchOutcome | None]:
        def run_and_count(request: InferRequest) -> BatchOutcome | None:
            if self.shadow is not None or self.watchers:
                return None  # those need a request of the usual way
            outcome = run(request)
            if outcome is None:
                return None
            self.tally.assigned += 1
            self.tally.last_ns = _now_ns()
            if outcome.result is None:
                self.ended(request, _error_of(outcome))
            else:
                self.answered(request, outcome.result, 0, request.rows)
            return outcome

        return run_and_count


class ArmFront:
    """The front of a version, as one arm's requests come through it."""

    __slots__ = ("_arm", "_front", "_take")

    def __init__(self, arm: Arm, front: Front) -> None:
        self._arm = arm
        self._front = front
        self._take = front.submit

    def submit(self, request: InferRequest) -> None:
        """Count a NEW request, and hand it on.

        Raises:
            TaxiwayError: it is refused, and still the caller's; its responder is not called.
        """
        arm = self._arm
        tally = arm.tally
        tally.assigned += 1
        tally.last_ns = _now_ns()
        responder = request.responder
        request.responder = Counted(responder, arm)
        if arm.shadow is not None:
            arm.shadow(request)
        try:
            self._take(request)
        except TaxiwayError as error:
            request.responder = responder
            arm.ended(request, error)
            raise

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back; its responder is not called any more."""
        counted = _counted(request.responder)
        if counted is not None and not counted.over:
            counted.over = True
            self._arm.cancelled(request)
        return self._front.cancel(request)

    def close(self) -> None:
        """The version's own front is closed by whoever has it closed."""


class Counted:
    """Stands before a request's responder, and counts how it ends; once."""

    __slots__ = ("_arm", "_responder", "over")

    def __init__(self, responder: Responder, arm: Arm) -> None:
        self._responder = responder
        self._arm = arm
        self.over = False

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The answer, or the last of several."""
        if not self.over:
            self.over = True
            self._arm.answered(request, result, start, stop)
        self._responder.resolve(request, result, start, stop)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """There is no answer."""
        if not self.over:
            self.over = True
            self._arm.ended(request, error)
        self._responder.reject(request, error)

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """One of several answers: the request is counted at its end."""
        stream: StreamResponder = self._responder  # type: ignore[assignment]
        stream.part(request, answer)


def _counted(responder: Any) -> Counted | None:  # noqa: ANN401 - whatever stands before another one
    """What counts a request's end, behind those that the version's own front has put before it."""
    while responder is not None and responder.__class__ is not Counted:
        responder = getattr(responder, "behind", None)
    counted: Counted | None = responder
    return counted


def _is_finite(result: BatchResult, place: int, start: int, stop: int) -> bool:
    array: Any = result.arrays[place]  # None where the request did not want it
    if array is None or array.dtype.kind != "f":
        return True
    rows = array[start:stop] if array.ndim and stop - start != result.rows else array
    return bool(np.isfinite(rows).all())


def _error_of(outcome: BatchOutcome) -> TaxiwayError:
    from taxiway.server.batching.answers import as_error  # noqa: PLC0415 - only where something failed

    return as_error(outcome)
