"""Fakes at the boundaries of the batcher: executor, responder and observer, and how to make a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable
from typing import Any

from taxiway.core.errors import TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, BatchResult, InferRequest
from taxiway.testing import VirtualClock

MS = 1_000_000
Done = Callable[[list[InferRequest], BatchOutcome], None]


class RecordingResponder:
    """Keeps each request's one answer; a second one is an error of the batcher."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[Any, int, int] | TaxiwayError] = {}
        self.order: list[str] = []
        self.at_ns: dict[str, int] = {}
        self.clock: VirtualClock | None = None
        self.breaks_on: set[str] = set()

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        self._keep(request, (result, start, stop))

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        self._keep(request, error)

    def _keep(self, request: InferRequest, answer: tuple[Any, int, int] | TaxiwayError) -> None:
        name = str(request.id)
        assert name not in self.answers, f"{name} was answered twice"
        self.answers[name] = answer
        self.order.append(name)
        if self.clock is not None:
            self.at_ns[name] = self.clock.monotonic_ns()
        if name in self.breaks_on:
            raise RuntimeError(f"responder of {name} broke")

    def rows(self, name: str) -> tuple[int, int]:
        answer = self.answers[name]
        assert not isinstance(answer, TaxiwayError), answer
        return answer[1], answer[2]

    def error(self, name: str) -> TaxiwayError:
        answer = self.answers[name]
        assert isinstance(answer, TaxiwayError), answer
        return answer


class FakeExecutor:
    """Takes `run_ns(batch)` of virtual time for a batch, and ends as `ending` says."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: VirtualClock, *, slots: int = 1, inline: bool = False
    ) -> None:
        self.slots = slots
        self.inline = inline
        self.batches: list[list[str]] = []
        self.started_ns: list[int] = []
        self.running = 0
        self.abandoned: list[InferRequest] = []
        self.run_ns: Callable[[list[InferRequest]], int] = lambda _: 10 * MS
        self.ending: Callable[[list[InferRequest]], BatchOutcome | None] = lambda _: None
        self._loop = loop
        self._clock = clock

    def submit(self, batch: list[InferRequest], done: Done) -> None:
        assert self.running < self.slots, "more batches than slots"
        self.running += 1
        self.batches.append([str(request.id) for request in batch])
        now_ns = self._clock.monotonic_ns()
        self.started_ns.append(now_ns)
        if self.inline:
            self._finish(batch, done, now_ns)
        else:
            self._loop.call_later(self.run_ns(batch) / 1e9, self._finish, batch, done, now_ns)

    def run_here(self, batch: list[InferRequest]) -> BatchOutcome | None:
        return self._outcome(batch, self._clock.monotonic_ns()) if self.inline else None

    def _finish(self, batch: list[InferRequest], done: Done, started_ns: int) -> None:
        self.running -= 1
        done(batch, self._outcome(batch, started_ns))

    def _outcome(self, batch: list[InferRequest], started_ns: int) -> BatchOutcome:
        rows = sum(request.rows for request in batch)
        return self.ending(batch) or BatchOutcome(
            started_ns=started_ns,
            finished_ns=max(self._clock.monotonic_ns(), started_ns + 1),
            result=BatchResult((), (), rows),
        )

    def abandon(self, request: InferRequest) -> None:
        self.abandoned.append(request)

    def running_since_ns(self) -> int:
        return self.started_ns[-1] if self.running else NEVER_NS

    def close(self) -> None: ...


class RecordingObserver:
    def __init__(self) -> None:
        self.done: list[tuple[list[str], int]] = []
        self.outcomes: list[BatchOutcome] = []
        self.refused: list[tuple[str, str]] = []
        self.taken_back: list[str] = []
        self.gone: list[str] = []

    def batch_done(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        self.gone += [str(request.id) for request in gone]
        self.done.append(([str(request.id) for request in batch], dispatched_ns))
        self.outcomes.append(outcome)

    def rejected(self, request: InferRequest, reason: str) -> None:
        self.refused.append((str(request.id), reason))

    def cancelled(self, request: InferRequest) -> None:
        self.taken_back.append(str(request.id))


def make_request(
    name: str,
    responder: RecordingResponder,
    *,
    rows: int = 1,
    arrived_ns: int = 0,
    nbytes: int = 8,
    bucket: Hashable = None,
    priority: int = 0,
    deadline_ns: int = NEVER_NS,
) -> InferRequest:
    return InferRequest(
        id=name,
        inputs=(None,),
        rows=rows,
        responder=responder,
        arrived_ns=arrived_ns,
        nbytes=nbytes,
        bucket=bucket,
        priority=priority,
        deadline_ns=deadline_ns,
    )
