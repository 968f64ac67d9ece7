"""The Protocols through which rooms meet without importing each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

from taxiway.core.clock import Clock
from taxiway.core.errors import TaxiwayError
from taxiway.core.requests import NEVER_NS, BatchResult, InferRequest, SequenceStep
from taxiway.core.samples import SampledRows
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.core.traffic import Companion, Report, Swap, SwapOutcome, Traffic

__all__ = [
    "InnerAnswer",
    "InnerCall",
    "InnerCaller",
    "InnerTensor",
    "BatchOutcome",
    "Clock",
    "Executor",
    "LoadedModel",
    "PinnedExecutor",
    "Runtime",
    "SampleSink",
    "TrafficPort",
]


class LoadedModel(Protocol):
    """One model version in memory, ready to run. `run` may be called from several threads at once.

    Attributes:
        inputs, outputs: whole shapes as the file declares them (batch dimension included, -1 where free).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Compute `outputs`, in that order, from whole input arrays. Blocks.

        Raises:
            ModelFailed: the framework refused or crashed on these inputs.
        """

    def close(self) -> None:
        """Free what it holds; nothing runs any more."""


class Runtime(Protocol):
    """A framework that can load model files. `name` is the backend's name in Triton's configuration."""

    name: str

    def load(self, path: Path, options: Any) -> LoadedModel:  # noqa: ANN401 - each runtime has its own options
        """Load the file at `path`.

        Raises:
            InvalidModel: the file is not one this runtime can run.
        """


class BatchOutcome:
    """How one batch ended: `result`, or `error` if it failed as a whole. Times are monotonic nanoseconds.

    A batch of several requests whose run failed is halved and run again until the failing ones stand alone; then
    `parts` holds one outcome per request, in order (those of one run share its times), and `result` and `error` are
    None: a request that poisons a batch fails alone.
    """

    __slots__ = ("error", "finished_ns", "infer_ns", "input_ns", "parts", "result", "started_ns")

    def __init__(
        self,
        *,
        started_ns: int,
        finished_ns: int,
        result: BatchResult | None = None,
        error: Exception | None = None,
        parts: Sequence[BatchOutcome] | None = None,
    ) -> None:
        self.result = result
        self.error = error
        self.parts = parts
        self.started_ns = started_ns
        self.finished_ns = finished_ns
        self.input_ns = 0
        """Nanoseconds spent merging inputs."""
        self.infer_ns = 0
        """Nanoseconds spent inside the framework."""


class Executor(Protocol):
    """Runs batches of one model version. It does not queue: at most `slots` batches are in it at a time.

    `submit` takes ownership of the requests in `batch` until it calls `done(batch, outcome)` on the event loop's
    thread: before `submit` returns if it ran the batch here and now, later otherwise. It never raises for what the
    model does.
    """

    slots: int

    def submit(self, batch: list[InferRequest], done: Callable[[list[InferRequest], BatchOutcome], None]) -> None:
        """Run `batch` as one call of the model."""

    def run_here(self, batch: list[InferRequest]) -> BatchOutcome | None:
        """Run `batch` at once, if that costs the event loop next to nothing; None: it would, nothing was done."""

    def abandon(self, request: InferRequest) -> None:
        """Nobody waits for `request` any more, which runs: what can be told to stop is told. It comes back as ever."""

    def running_since_ns(self) -> int:
        """When the oldest run began that has not come back, in monotonic nanoseconds; NEVER_NS if none is out."""

    def close(self) -> None:
        """Wait for what runs, then free the threads."""


class PinnedExecutor(Executor, Protocol):
    """An executor whose instances of the model can be told apart: a sequence stays with the one it began on.

    Instances are numbered from 0. Whoever pins gives an instance its next batch when the last one is back, and does not
    call `submit` or `run_here`.
    """

    @property
    def instances(self) -> int:
        """How many there are."""

    def submit_to(
        self, instance: int, batch: list[InferRequest], done: Callable[[list[InferRequest], BatchOutcome], None]
    ) -> None:
        """Run `batch` as one call of that instance; otherwise as `submit`."""

    def watch(self, lost: Callable[[int], None]) -> None:
        """From now on call `lost`, on the loop's thread, when an instance has lost what it kept: its process died."""


class InnerTensor(NamedTuple):
    """A tensor between two models: `array` holds objects of bytes for BYTES, raw 16-bit words for BF16."""

    name: str
    datatype: Datatype
    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class InnerCall:
    """What one model asks of another, in the same process: a step of an ensemble, or business logic of a model.py.

    Attributes:
        version: None for the one that answers when none is asked for.
        outputs: names of those wanted; None for all.
        deadline_ns: monotonic time after which an answer is of no use.
        timeout_ns: the same as whoever asks said it; 0 if it did not.
        parent: the request that it is made for; its trace and its deadline hold for this one too.
    """

    model: str
    version: str | None
    inputs: Sequence[InnerTensor]
    outputs: Sequence[str] | None = None
    id: str | None = None
    parameters: Mapping[str, Any] | None = None
    priority: int = 0
    deadline_ns: int = NEVER_NS
    sequence: SequenceStep | None = None
    parent: InferRequest | None = None
    timeout_ns: int = 0


class InnerAnswer(NamedTuple):
    """One answer to an inner call; of a decoupled model there may be several, `final` is the last.

    Attributes:
        outputs: whole arrays; None of them if `error` says why there are none, or nothing was left to say.
        parameters: of the answer.
    """

    outputs: Sequence[InnerTensor]
    error: TaxiwayError | None = None
    final: bool = True
    parameters: Mapping[str, Any] | None = None


class InnerCaller(Protocol):
    """Has models asked by models. Everything happens on the event loop's thread."""

    def call(self, call: InnerCall, answer: Callable[[InnerAnswer], None]) -> Callable[[], None]:
        """Check the call against the model that it names, and have it answered; tensors are not copied.

        `answer` may be called before this returns. It is called at least once, the last time with `final`; not after
        what this returns was called, which takes the call back.
        """


class TrafficPort(Protocol):
    """The way from whoever decides about traffic to every data-plane process of a server.

    What is said stays said: a process that starts later is told too.
    """

    async def stage(self, companion: Companion) -> None:
        """Have a version loaded, measured and warm beside what is served. Said twice, it is loaded once.

        Raises:
            TaxiwayError: it cannot be loaded; nothing changed.
            Unavailable: the server does not answer.
        """

    async def release(self, key: str) -> None:
        """Let a companion, or what is served, answer what it has taken, and go; one that is unknown is no error."""

    async def set_traffic(self, traffic: Traffic) -> None:
        """From when this returns every process splits requests so.

        Raises:
            FailedPrecondition: a process follows a later generation, or an arm is not loaded.
            Unavailable: the server does not answer.
        """

    async def swap(self, swap: Swap) -> SwapOutcome:
        """Exchange one version for another that does not fit beside it.

        Raises:
            Unavailable: the server does not answer.
        """

    async def report(self, service: str) -> list[Report]:
        """What every process has to say of a service now; none where it has no traffic of ours.

        Raises:
            Unavailable: the server does not answer.
        """

    async def versions(self, service: str) -> Mapping[int, bool]:
        """The versions of a service that the server was told to serve, and whether each is ready.

        Raises:
            Unavailable: the server does not answer.
        """


class SampleSink(Protocol):
    """Takes rows that were sampled in service. Called on one thread; it may block there, and never raises."""

    def take(self, rows: SampledRows) -> None:
        """What was sampled of one version."""
