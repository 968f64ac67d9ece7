"""One inference request as the data plane carries it, and what it is answered with."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # numpy is only named here: core imports nothing heavy
    from numpy.typing import NDArray

from taxiway.core.errors import TaxiwayError
from taxiway.core.tensors import Shape

NEVER_NS = (1 << 63) - 1
"""The deadline of a request that has none: later than any monotonic clock reads."""


class RequestState(enum.IntEnum):
    """Where a request is; it only ever moves down this list."""

    NEW = 0
    QUEUED = 1
    RUNNING = 2
    DONE = 3


class InputTensor:
    """One input's content: `data` is a C-ordered little-endian buffer, or a list of bytes objects for BYTES.

    `shape` is the whole shape as sent, batch dimension included.
    """

    __slots__ = ("data", "shape")

    def __init__(self, data: Any, shape: Shape) -> None:  # noqa: ANN401 - any buffer, or a list for BYTES
        self.data = data
        self.shape = shape


class Notes(NamedTuple):
    """What is particular about the answer to one request.

    Attributes:
        order: places of the outputs that it has, as its model gave them; the others are None. None: all, in order.
        parameters: of the answer, beside those the protocol has.
    """

    order: tuple[int, ...] | None
    parameters: Mapping[str, Any] | None


class BatchResult:
    """What one run of a model gave: arrays in the order of `names`, whose first axis is the rows of the batch.

    Several requests share one result, each owning rows [start, stop); `printed` is where an edge keeps what it
    has converted once for all of them. Who owns all rows owns the arrays whole, and there they may have any number of
    rows: a model's own code answers as it likes. One with `notes` is one request's.
    """

    __slots__ = ("arrays", "names", "notes", "printed", "rows")

    def __init__(
        self, names: Sequence[str], arrays: Sequence[NDArray[Any]], rows: int, notes: Notes | None = None
    ) -> None:
        self.names = names
        self.arrays = arrays
        self.rows = rows
        self.notes = notes
        self.printed: dict[int, Any] = {}


class Responder(Protocol):
    """Whoever waits for the answer. Exactly one of the two is called, once, on the event loop's thread."""

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The answer is rows [start, stop) of `result`."""

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """There is no answer; `error` says why."""


NO_MORE = BatchResult((), (), 0)
"""What a decoupled model's request is resolved with that has had all its answers before."""


class StreamResponder(Responder, Protocol):
    """Whoever waits for the answers of a decoupled model: any number of parts, and then `resolve` or `reject`, once.

    `resolve` brings the last answer, or NO_MORE.
    """

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """One of several answers, all rows of it, or why there is none in its place; more follow, or the end."""


class SequenceStep(NamedTuple):
    """The sequence that a request of a stateful model belongs to.

    Attributes:
        id: the caller's number or name of it.
        starts, ends: whether it is the first, the last of it.
    """

    id: int | str
    starts: bool = False
    ends: bool = False


class InferRequest:
    """A parsed, validated request for one model version. After the wire, nobody checks shapes again.

    Attributes:
        id: the caller's id; None if it gave none (an empty one counts as none).
        inputs: in the order of the model's declared inputs; None for an optional one that was left out.
        rows: rows it adds to a batch; 1 where the model does not batch.
        bucket: requests run together only if their buckets are equal.
        outputs: indices of the outputs to compute, in the order asked; None for all.
        priority: 1 is the most urgent; 0 means the model's default level.
        deadline_ns: monotonic time after which an answer is of no use; NEVER_NS if none.
        arrived_ns: monotonic time at which its last byte was read.
        nbytes: bytes of input it holds in memory.
        ask: what the edge needs to word the answer; nobody else looks inside.
        parameters: the caller's own, beside those the protocol reserves; None if it gave none.
        trace: what traces this request, if it is one of those that are traced.
        timeout_ns: how long the caller said that it may take, whatever became of that; 0 if it did not.
        sequence: its place in a sequence, for a stateful model; None if it names none.
    """

    __slots__ = (
        "arrived_ns",
        "ask",
        "bucket",
        "deadline_ns",
        "id",
        "inputs",
        "nbytes",
        "outputs",
        "parameters",
        "priority",
        "responder",
        "rows",
        "sequence",
        "state",
        "timeout_ns",
        "trace",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - one noun, all of it known at once; by position, it costs half on the hot path
        self,
        inputs: Sequence[InputTensor | None],
        rows: int,
        responder: Responder,
        arrived_ns: int,
        nbytes: int = 0,
        bucket: Hashable = None,
        outputs: tuple[int, ...] | None = None,
        id: str | None = None,  # noqa: A002 - the protocol's own word
        priority: int = 0,
        deadline_ns: int = NEVER_NS,
        ask: Any = None,  # noqa: ANN401 - opaque here
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.inputs = inputs
        self.rows = rows
        self.bucket = bucket
        self.outputs = outputs
        self.priority = priority
        self.deadline_ns = deadline_ns
        self.arrived_ns = arrived_ns
        self.nbytes = nbytes
        self.responder = responder
        self.ask = ask
        self.parameters = parameters
        self.timeout_ns = 0
        self.trace: Any = None
        self.sequence: SequenceStep | None = None
        self.state = RequestState.NEW
