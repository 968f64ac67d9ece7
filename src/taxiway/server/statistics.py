"""Counting what the data plane does: plain integers, once per batch wherever that is enough.

Nothing here polls or renders on its own: the hot path adds to integers, and `points` and `to_json` work out
the rest when somebody asks. Everything is called on the event loop's thread.

Times of one request, none counted twice: queue (arrival to the start of its run), then the run's compute
input, infer and output. They add up to Triton's request duration; `responses_done` measures to the answer's
last byte instead.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from taxiway.core.clock import Clock
from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.keeping import KeptRequests
from taxiway.server.responses import ResponseCounts
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.catalogue import TRITON_REASONS, FailureReason
from taxiway.telemetry.family import Family
from taxiway.telemetry.histogram import (
    FIRST_RESPONSE,
    LATENCY,
    ROWS,
    Distribution,
    Exemplar,
    Histogram,
    NativeHistogram,
)
from taxiway.telemetry.render import Point

Depth = tuple[int, int, int]
"""Requests, rows and bytes that wait."""
MAX_CODES = 64
"""Distinct error codes per version; core.errors has fewer, and what is more is counted as `other`."""
_PHASES = ("compute_input", "compute_infer", "compute_output")


class ProcessCounts(NamedTuple):
    """How the model processes of a version stand: those that run, those that do not, and how many ended untold."""

    ready: int
    down: int
    deaths: int


class SequenceCounts(NamedTuple):
    """How many sequences a stateful version has: in places, waiting for one, and ended so far for being idle."""

    placed: int
    backlog: int
    idled_out: int


class CacheCounts:
    """What the response cache did for one version; whoever caches adds to the integers in place.

    Attributes:
        hits, hit_ns: requests answered by an answer that was there or on its way, and the time to find it.
        misses, miss_ns: those that were run and answered, and the time to look up and to keep the answer.
        last_hit_ns: when the last hit was answered, in monotonic nanoseconds.
        joined: hits that waited for the run of an equal request.
        bypassed: requests that were not looked up, being too large.
        waiting: asked at a scrape for those that wait for the run of an equal one now.
    """

    __slots__ = ("bypassed", "hit_ns", "hits", "joined", "last_hit_ns", "miss_ns", "misses", "waiting")

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.hits = self.hit_ns = self.last_hit_ns = self.misses = self.miss_ns = self.joined = self.bypassed = 0
        self.waiting = waiting

    def missed(self, ns: int) -> None:
        """One was not there."""
        self.misses += 1
        self.miss_ns += ns

    def values(self) -> Iterator[tuple[Family, float]]:
        """The value of every family."""
        yield names.NV_CACHE_HITS, self.hits
        yield names.NV_CACHE_MISSES, self.misses
        yield names.NV_CACHE_HIT_US, self.hit_ns // 1000
        yield names.NV_CACHE_MISS_US, self.miss_ns // 1000
        yield names.CACHE_JOINED, self.joined
        yield names.CACHE_BYPASSED, self.bypassed
        yield names.CACHE_WAITING, self.waiting()


class ModelStatistics:
    """What one version of one model has done since it was loaded. It is the batching loop's Observer.

    `depth` is asked at a scrape for what waits now.
    """

    def __init__(self, model: str, version: str, clock: Clock, depth: Callable[[], Depth] = lambda: (0, 0, 0)) -> None:
        self.model = model
        self.version = version
        self.load_s = 0.0
        """How long it took to load; whoever loaded it says so."""
        self.depth = depth
        self.processes: Callable[[], ProcessCounts | None] = lambda: None
        """Asked at a scrape how its model processes stand; None if it has none."""
        self.sequences: Callable[[], SequenceCounts | None] = lambda: None
        """Asked likewise how many sequences it has; None if it is not stateful."""
        self.own_metrics: Callable[[], Iterable[Point]] = tuple
        """Asked at a scrape for what the model's own code counts."""
        self._clock = clock
        self.kept = KeptRequests(clock)
        """The last ones that were slow, or failed."""
        self._request = NativeHistogram()
        self._queue = NativeHistogram()
        self._input = Histogram()
        self._infer = NativeHistogram()
        self._output = Histogram()
        self._exemplars: dict[int, Exemplar] = {}
        self._stages = (self._queue, self._input, self._infer, self._output)
        self._runs: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        """By rows: runs, and their nanoseconds of input, infer and output."""
        self._failures = dict.fromkeys(FailureReason, 0)
        self._failed_ns = 0
        self._invalid: dict[str, int] = {}
        self._cache: CacheCounts | None = None
        self._responses: ResponseCounts | None = None
        self._first: Histogram = self._request
        """The time to the first answer: of models that answer once, to the only one."""
        self._last_ns: int | None = None
        self._last_told: tuple[int | None, int] = (None, 0)

    # --- the hot path ----------------------------------------------------------------------------------

    def batch_done(
        self,
        batch: list[InferRequest],
        outcome: BatchOutcome,
        dispatched_ns: int,
        gone: Collection[InferRequest] = (),
    ) -> None:
        """A batch came back: count its requests. The hand-over to a thread counts as waiting.

        Those in `gone` were counted when they were cancelled or late; of them only the run counts.
        """
        result = outcome.result
        if result is None:
            self._failed_batch(batch, outcome, dispatched_ns, gone)
            return
        started = outcome.started_ns
        input_ns = outcome.input_ns
        infer_ns = outcome.infer_ns
        self._last_ns = outcome.finished_ns
        output_ns = outcome.finished_ns - started - input_ns - infer_ns
        if gone:
            batch = [request for request in batch if request not in gone]
        count = len(batch)
        if count == 1:  # as below, without a call for each: it is what most requests cost
            waited_ns = started - batch[0].arrived_ns
            queue, before, inside, after = self._stages
            queue.counts[bisect_left(queue.search, waited_ns)] += 1
            queue.total += waited_ns
            before.counts[bisect_left(before.search, input_ns)] += 1
            before.total += input_ns
            inside.counts[bisect_left(inside.search, infer_ns)] += 1
            inside.total += infer_ns
            after.counts[bisect_left(after.search, output_ns)] += 1
            after.total += output_ns
        else:
            if batch:
                self._queue.observe_many([started - request.arrived_ns for request in batch])
            self._input.observe(input_ns, count)
            self._infer.observe(infer_ns, count)
            self._output.observe(output_ns, count)
        run = self._runs[result.rows]
        run[0] += 1
        run[1] += input_ns
        run[2] += infer_ns
        run[3] += output_ns
        if count and outcome.finished_ns - batch[0].arrived_ns > self.kept.slow_ns:
            self.kept.slow(batch, started, (input_ns, infer_ns, output_ns))

    def responses_done(self, arrived_ns: Sequence[int], finished_ns: int) -> None:
        """Answers to requests that arrived at these times have been handed to their sockets."""
        if len(arrived_ns) == 1:  # without a call, as above
            taken_ns, request = finished_ns - arrived_ns[0], self._request
            request.counts[bisect_left(request.search, taken_ns)] += 1
            request.total += taken_ns
        elif arrived_ns:
            self._request.observe_many([finished_ns - arrived for arrived in arrived_ns])

    def traced(self, trace_id: int, taken_ns: int) -> None:
        """A request that took so long belongs to this trace, which is recorded: an exemplar of its bucket."""
        bucket = bisect_left(LATENCY.search, taken_ns)
        self._exemplars[bucket] = Exemplar(bucket, f"{trace_id:032x}", taken_ns / LATENCY.scale, time.time())

    # --- the response cache ----------------------------------------------------------------------------

    def count_cache(self, waiting: Callable[[], int]) -> CacheCounts:
        """This version is cached from now on: where to count that."""
        self._cache = CacheCounts(waiting)
        return self._cache

    def cache_hit(self, request: InferRequest, lookup_ns: int, found_ns: int, answered_ns: int) -> None:
        """A request was answered without a run of its own; what was no lookup, it waited."""
        if self._cache is not None:
            self._cache.hits += 1
            self._cache.hit_ns += lookup_ns
            self._cache.last_hit_ns = answered_ns
        self._queue.observe(max(0, found_ns - request.arrived_ns - lookup_ns))
        self._request.observe(answered_ns - request.arrived_ns)

    # --- models that answer any number of times -----------------------------------------------------------

    def count_responses(self) -> ResponseCounts:
        """This version is decoupled: where to count its answers, beside its requests."""
        self._responses = ResponseCounts()
        self._first = Histogram()
        return self._responses

    def first_answer(self, ns: int) -> None:
        """The first answer to a request came so long after the request."""
        self._first.observe(ns)

    # --- what went wrong -------------------------------------------------------------------------------

    def rejected(self, request: InferRequest, reason: str) -> None:
        """The queue turned it away or gave it up (full, late, draining): REJECTED, which Triton omits."""
        known = FailureReason.by_label(reason, FailureReason.REJECTED)
        self._fail(known, request, self._clock.monotonic_ns())

    def cancelled(self, request: InferRequest) -> None:
        """Its caller went away before it was answered."""
        self._fail(FailureReason.CANCELLED, request, self._clock.monotonic_ns())

    def failed(self, reason: str) -> None:
        """A valid request failed before the loop ever had it."""
        self._failures[FailureReason.by_label(reason, FailureReason.OTHER)] += 1

    def invalid(self, code: str) -> None:
        """What a caller sent broke a rule; like Triton, that is no failed inference."""
        if code not in self._invalid and len(self._invalid) >= MAX_CODES:
            code = "other"
        self._invalid[code] = self._invalid.get(code, 0) + 1

    def _failed_batch(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        """The runs that its parts came of count (parts of one run share its times), the failed joint ones do not."""
        if outcome.parts is not None:
            pairs = zip(batch, outcome.parts, strict=True)
            for _, run in groupby(pairs, key=lambda pair: (pair[1].started_ns, pair[1].result is None)):
                requests, parts = zip(*run, strict=True)
                self.batch_done(list(requests), _joined(parts), dispatched_ns, gone)
            return
        for request in batch:
            if request not in gone:
                self.failed_with(request, outcome.error, outcome.finished_ns)

    def failed_with(self, request: InferRequest, error: Exception | None, finished_ns: int) -> None:
        """The run that was to answer it came to nothing."""
        ours = error is None or (isinstance(error, TaxiwayError) and not isinstance(error, ModelFailed))
        self._fail(FailureReason.INTERNAL if ours else FailureReason.MODEL_FAILED, request, finished_ns)

    def _fail(self, reason: FailureReason, request: InferRequest, finished_ns: int) -> None:
        self._failures[reason] += 1
        self._failed_ns += finished_ns - request.arrived_ns
        if reason is not FailureReason.CANCELLED:
            self.kept.failed(request, reason.label, finished_ns - request.arrived_ns)

    # --- told when asked -------------------------------------------------------------------------------

    @property
    def last_ns(self) -> int:
        """When it last answered, by a run or from the cache, in monotonic nanoseconds; 0 before that."""
        ran_ns = self._last_ns or 0
        return ran_ns if self._cache is None else max(ran_ns, self._cache.last_hit_ns)

    @property
    def success_count(self) -> int:
        """Requests answered, by the model or from the cache."""
        return self._queue.count

    @property
    def success_ns(self) -> int:
        """Their time from arrival to the end of their run: the phases, added up.

        The lookup of a miss is part of its queueing, and only that of a hit a phase of its own.
        """
        hit_ns = self._cache.hit_ns if self._cache else 0
        return self._queue.total + self._input.total + self._infer.total + self._output.total + hit_ns

    @property
    def failure_count(self) -> int:
        """Valid requests that got no answer, whatever the reason."""
        return sum(self._failures.values())

    @property
    def inference_count(self) -> int:
        """Rows inferred."""
        return sum(rows * run[0] for rows, run in self._runs.items())

    @property
    def execution_count(self) -> int:
        """Successful runs of the model."""
        return sum(run[0] for run in self._runs.values())

    def to_json(self) -> dict[str, Any]:
        """Triton's statistics of one version, its keys in Triton's order (extension_statistics)."""
        count, computed = self.success_count, self._infer.count
        cache = self._cache or CacheCounts(int)
        return {
            "name": self.model,
            "version": self.version,
            "last_inference": self._last_inference_ms(),
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {
                "success": _duration(count, self.success_ns),
                "fail": _duration(self.failure_count, self._failed_ns),
                "queue": _duration(count, self._queue.total),
                "compute_input": _duration(computed, self._input.total),
                "compute_infer": _duration(computed, self._infer.total),
                "compute_output": _duration(computed, self._output.total),
                "cache_hit": _duration(cache.hits, cache.hit_ns),
                "cache_miss": _duration(cache.misses, cache.miss_ns),
            },
            "response_stats": {} if self._responses is None else self._responses.to_json(),
            "batch_stats": [
                {"batch_size": rows} | {name: _duration(runs, ns) for name, ns in zip(_PHASES, all_ns, strict=True)}
                for rows, (runs, *all_ns) in sorted(self._runs.items())
            ],
            "memory_usage": [],
        }

    def points(self) -> Iterator[Point]:
        """Every series of this version."""
        own = (self.model, self.version)
        self.kept.renew(self.success_count, self.success_ns)
        for family, value in self._values():
            yield Point(family, own, value)
        failures = dict.fromkeys(TRITON_REASONS, 0)
        for reason, count in self._failures.items():
            failures[reason.triton] += count
            yield Point(names.FAILURES, (*own, reason.label), count)
        for triton_reason, count in failures.items():
            yield Point(names.NV_FAILURE, (*own, triton_reason), count)
        for code, count in self._invalid.items():
            yield Point(names.INVALID, (*own, code), count)
        if (processes := self.processes()) is not None:
            yield Point(names.PROCESSES, (*own, "ready"), processes.ready)
            yield Point(names.PROCESSES, (*own, "down"), processes.down)
            yield Point(names.PROCESS_DEATHS, own, processes.deaths)
        if (sequences := self.sequences()) is not None:
            yield Point(names.SEQUENCES, (*own, "placed"), sequences.placed)
            yield Point(names.SEQUENCES, (*own, "backlog"), sequences.backlog)
            yield Point(names.SEQUENCES_IDLED_OUT, own, sequences.idled_out)
        for outcome, count in () if self._responses is None else self._responses.totals():
            yield Point(names.ANSWERS, (*own, outcome), count)

    def inferred(self) -> tuple[int, int]:
        """Requests that were computed so far, and the nanoseconds that the framework took for all of them together."""
        return self._infer.count, sum(run[2] for run in self._runs.values())

    def _values(self) -> Iterator[tuple[Family, float | Distribution]]:
        yield names.NV_SUCCESS, self.success_count
        yield names.NV_COUNT, self.inference_count
        yield names.NV_EXEC_COUNT, self.execution_count
        yield names.NV_REQUEST_US, self.success_ns // 1000
        yield names.NV_QUEUE_US, self._queue.total // 1000
        yield names.NV_INPUT_US, self._input.total // 1000
        yield names.NV_INFER_US, self._infer.total // 1000
        yield names.NV_OUTPUT_US, self._output.total // 1000
        yield names.NV_FIRST_RESPONSE_MS, self._first.view_in(FIRST_RESPONSE)
        yield names.NV_LOAD_S, self.load_s
        exemplars = tuple(self._exemplars[bucket] for bucket in sorted(self._exemplars))
        yield names.REQUEST_S, self._request.view()._replace(exemplars=exemplars)
        yield names.QUEUE_S, self._queue.view()
        yield names.INPUT_S, self._input.view()
        yield names.INFER_S, self._infer.view()
        yield names.OUTPUT_S, self._output.view()
        yield names.BATCH_ROWS, self._batch_rows()
        requests, rows, nbytes = self.depth()
        yield names.NV_PENDING, requests
        yield names.QUEUE_REQUESTS, requests
        yield names.QUEUE_ROWS, rows
        yield names.QUEUE_BYTES, nbytes
        if self._cache is not None:
            yield from self._cache.values()

    def _batch_rows(self) -> Distribution:
        histogram = Histogram(ROWS)
        for rows, run in self._runs.items():
            histogram.observe(rows, run[0])
        return histogram.view()

    def _last_inference_ms(self) -> int:
        """UTC of the last successful run, 0 before the first; the same however often it is asked."""
        last = self._last_ns
        if last is not None and self._last_told[0] != last:
            now_ms = self._clock.now_utc().timestamp() * 1000
            self._last_told = (last, round(now_ms - (self._clock.monotonic_ns() - last) / 1e6))
        return self._last_told[1]


def _joined(parts: Sequence[BatchOutcome]) -> BatchOutcome:
    """The run that these parts were cut from, without its arrays."""
    first = parts[0]
    if first.result is None or len(parts) == 1:
        return first
    rows = sum(part.result.rows for part in parts if part.result is not None)
    joined = BatchOutcome(started_ns=first.started_ns, finished_ns=first.finished_ns, result=BatchResult((), (), rows))
    joined.input_ns, joined.infer_ns = first.input_ns, first.infer_ns
    return joined


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
