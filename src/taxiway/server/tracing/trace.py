"""One traced request: where it came from, when it got where, what went in and out, how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import getrandbits
from typing import Any, Literal, Protocol

from taxiway.config.model_spec import ModelSpec
from taxiway.core.errors import TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import InferRequest
from taxiway.server.tracing.context import read_parent
from taxiway.server.tracing.plan import TracePlan
from taxiway.telemetry.render import Point

MAX_ELEMENTS = 1024
"""Elements of one tensor that a trace holds."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How a request came in.

    Attributes:
        protocol: as Triton's timestamps begin: HTTP, GRPC.
        headers: those that say which trace it belongs to (W3C Trace Context), by lower-case name.
        name: of its span, as OpenTelemetry's conventions for the protocol have it.
        attributes: of its span, likewise.
    """

    protocol: Literal["", "HTTP", "GRPC"] = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


NOWHERE = Origin()
_RECEIVING = {"HTTP": "RECV", "GRPC": "WAITREAD"}


INPUT, OUTPUT = "TENSOR_QUEUE_INPUT", "TENSOR_BACKEND_OUTPUT"
"""What Triton calls a tensor's part in a request."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """The beginning of one tensor: at most `MAX_ELEMENTS` elements in `data`, a numpy array or a list of bytes.

    Attributes:
        activity: `INPUT` or `OUTPUT`.
    """

    activity: str
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any


@dataclass(frozen=True, slots=True)
class Run:
    """The run that a request was part of, in monotonic nanoseconds."""

    started_ns: int
    input_end_ns: int
    output_start_ns: int
    finished_ns: int
    requests: int
    rows: int

    @classmethod
    def of(cls, outcome: BatchOutcome, requests: int, rows: int) -> Run:
        """As the executor measured it. `rows` and `requests` are the whole batch's."""
        input_end_ns = outcome.started_ns + outcome.input_ns
        return cls(
            outcome.started_ns, input_end_ns, input_end_ns + outcome.infer_ns, outcome.finished_ns, requests, rows
        )


class Follower(Protocol):
    """Whoever made a trace."""

    def now_ns(self) -> int:
        """Monotonic time."""

    def close(self, trace: Trace) -> None:
        """Nothing more is noted in `trace`, but perhaps the times of its run in this turn of the loop."""

    def follow(
        self, request: InferRequest, spec: ModelSpec, version: int, origin: Origin, parent: Trace | None
    ) -> Trace:
        """Follow a request to this version of a model; `parent` is the trace of the one that it is made for."""


class Trace:
    """What is noted of one request while it goes through. Times are monotonic nanoseconds, 0 where not reached.

    Attributes:
        id: counts the traces of this process.
        plan: what it was chosen by.
        received_ns: its last byte was read.
        started_ns: it was handed to the queue.
        first_ns: the first of several answers was known.
        answered_ns: its answer, or error, was known.
        sent_ns: the answer was worded and handed to the socket.
        follower: who made it, and follows the requests that are made for this one.
        parent: the trace of the request that this one was made for.
        identity: where a sink keeps by what name it knows this one; nobody else looks inside.
        is_cancelled: its client went away first.
        exemplify: told the id of the trace, and how long the request took, if that is to be looked up.
    """

    __slots__ = (
        "_now_ns",
        "_trace_id",
        "answered_ns",
        "error",
        "exemplify",
        "first_ns",
        "follower",
        "id",
        "identity",
        "is_cancelled",
        "is_closed",
        "model",
        "origin",
        "parent",
        "plan",
        "received_ns",
        "request_id",
        "rows",
        "run",
        "sent_ns",
        "started_ns",
        "tensors",
        "version",
    )

    def __init__(
        self,
        trace_id: int,
        plan: TracePlan,
        model: str,
        version: int,
        request: InferRequest,
        origin: Origin,
        follower: Follower,
        parent: Trace | None = None,
    ) -> None:
        self.id = trace_id
        self.plan = plan
        self.model = model
        self.version = version
        self.request_id = request.id
        self.rows = request.rows
        self.origin = origin
        self.received_ns = request.arrived_ns
        self.started_ns = follower.now_ns()
        self.first_ns = 0
        self.answered_ns = 0
        self.sent_ns = 0
        self.run: Run | None = None
        self.tensors: list[Tensor] = []
        self.error: TaxiwayError | None = None
        self.is_cancelled = False
        self.is_closed = False
        self.parent = parent
        self.follower = follower
        self.identity: Any = None
        self.exemplify: Callable[[int, int], None] | None = None
        self._trace_id = 0
        self._now_ns = follower.now_ns

    @property
    def trace_id(self) -> int:
        """Of the trace that it is part of: its parent's, its caller's, or one of its own."""
        if not self._trace_id:
            self._trace_id = self._found_id()
        return self._trace_id

    def _found_id(self) -> int:
        if self.parent is not None:
            return self.parent.trace_id
        told = read_parent(self.origin.headers)
        return getrandbits(128) or 1 if told is None else told.trace_id

    def answer_first(self) -> None:
        """The first of several answers is known."""
        self.first_ns = self._now_ns()

    def answer(self, error: TaxiwayError | None = None) -> None:
        """Its answer is known, or why there is none."""
        self.answered_ns = self._now_ns()
        self.error = error

    def sent(self) -> None:
        """Its answer was worded and handed over; nothing more is noted."""
        self.sent_ns = self._now_ns()
        self.follower.close(self)

    def refuse(self, error: TaxiwayError) -> None:
        """The queue did not take it."""
        self.answer(error)
        self.follower.close(self)

    def cancel(self) -> None:
        """Its client has gone."""
        if not self.answered_ns:
            self.answered_ns = self._now_ns()
            self.is_cancelled = True
            self.follower.close(self)

    def timestamps(self) -> Iterator[tuple[str, int]]:
        """Triton's names and times, in the order of time; of several answers, the first is the one that completes."""
        if self.first_ns:
            yield from sorted(self._timestamps(), key=lambda stamp: stamp[1])
        else:
            yield from self._timestamps()

    def _timestamps(self) -> Iterator[tuple[str, int]]:
        edge = self.origin.protocol
        if edge:
            yield f"{edge}_{_RECEIVING[edge]}_START", self.received_ns
            yield f"{edge}_{_RECEIVING[edge]}_END", self.received_ns
        yield "REQUEST_START", self.started_ns
        yield "QUEUE_START", self.started_ns
        if self.run is not None:
            yield "COMPUTE_START", self.run.started_ns
            yield "COMPUTE_INPUT_END", self.run.input_end_ns
            yield "COMPUTE_OUTPUT_START", self.run.output_start_ns
            yield "COMPUTE_END", self.run.finished_ns
        if self.first_ns or (self.error is None and not self.is_cancelled):
            yield "INFER_RESPONSE_COMPLETE", self.first_ns or self.answered_ns
        yield "REQUEST_END", self.answered_ns
        if edge and self.sent_ns:
            yield f"{edge}_SEND_START", self.answered_ns
            yield f"{edge}_SEND_END", self.sent_ns


def note_runs(batch: Sequence[InferRequest], outcome: BatchOutcome) -> None:
    """A batch came back: note its run on those of its requests that are traced."""
    parts = [outcome] * len(batch) if outcome.parts is None else outcome.parts
    for request, part in zip(batch, parts, strict=True):
        trace = request.trace
        if isinstance(trace, Trace) and not trace.is_closed:
            together = [
                other.rows for other, run in zip(batch, parts, strict=True) if run.started_ns == part.started_ns
            ]
            trace.run = Run.of(part, len(together), sum(together))


class Sink(Protocol):
    """Where closed traces go.

    Attributes:
        heeds_callers: whether `wanted` says anything at all.
    """

    heeds_callers: bool

    def wanted(self, origin: Origin) -> bool | None:
        """Whether a request's origin asks for a trace of it, or against one; None: it says nothing."""

    def put(self, trace: Trace) -> None:
        """Take one; never waits: what does not fit is dropped and counted."""

    def points(self) -> Iterator[Point]:
        """What was written and dropped so far."""

    def close(self, timeout_s: float) -> None:
        """Write what was taken, within that time. Blocks."""
