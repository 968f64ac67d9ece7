"""Requests: those that come to the model, and those that it makes of other models."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from taxiway.runtimes.hosted.batch import Request
from taxiway.runtimes.hosted.triton.parameters import checked, printed
from taxiway.runtimes.hosted.triton.problems import TritonModelException
from taxiway.runtimes.hosted.triton.senders import InferenceResponseSender, Outlet
from taxiway.runtimes.hosted.triton.session import here
from taxiway.runtimes.hosted.triton.tensors import Tensor

if TYPE_CHECKING:
    import asyncio

    from taxiway.runtimes.hosted.triton.calls import ResponseIterator
    from taxiway.runtimes.hosted.triton.responses import InferenceResponse

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2


class MemoryType(enum.Enum):
    """Where tensors are wanted."""

    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


class PreferredMemory:
    """Where the answers to a call are wanted; they come in the memory of the CPU whatever it says."""

    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        self.kind = MemoryType(preferred_memory_type)
        self.device = preferred_device_id


class InferenceTrace:
    """The trace of a request; a call that is made with it belongs to that request."""

    def __init__(self, of: tuple[int, int] | None = None) -> None:
        self.of = of
        """The run and the place in it of the request, if it is known."""

    def get_context(self) -> str | None:
        """The context to hand on to others; taxiway keeps it to itself."""
        return None


class InferenceRequest:
    """A request to another model."""

    MemoryType: ClassVar = MemoryType

    def __init__(  # noqa: PLR0913, PLR0917 - Triton's
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] | None = None,
        requested_output_names: Sequence[str] | None = None,
        model_name: str | None = None,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if inputs is None or requested_output_names is None or not isinstance(model_name, str):
            raise TypeError("InferenceRequest(...) needs inputs, requested_output_names and model_name")
        told = f"for request with id '{request_id}' and model name '{model_name}' should not be empty."
        if any(tensor is None for tensor in inputs):
            raise TritonModelException(f"Input tensor {told}")
        if not all(isinstance(tensor, Tensor) for tensor in inputs):
            raise TypeError("inputs of an InferenceRequest is a list of Tensor")
        if "" in requested_output_names:
            raise TritonModelException(f"Requested output name {told}")
        if isinstance(correlation_id, bool) or not isinstance(correlation_id, int | str):
            raise TritonModelException("Correlation ID must be integer or string")
        self._id = request_id
        self._correlation_id = correlation_id
        self._inputs = list(inputs)
        self._wanted = set(requested_output_names)
        self.model = model_name
        self.version = model_version
        self._flags = flags
        self._timeout = timeout
        self._memory = preferred_memory
        self._trace = trace or InferenceTrace()
        self.own_parameters = checked(parameters)

    def inputs(self) -> list[Tensor]:
        """Its tensors."""
        return self._inputs

    def request_id(self) -> str:
        """The caller's id; empty if it gave none."""
        return self._id

    def correlation_id(self) -> int | str:
        """The sequence that it belongs to; 0 for none."""
        return self._correlation_id

    def requested_output_names(self) -> set[str]:
        """The outputs that are wanted."""
        return self._wanted

    def flags(self) -> int:
        """Whether it starts or ends its sequence."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Say whether it starts or ends its sequence."""
        self._flags = flags

    def timeout(self) -> int:
        """How long it may take, in microseconds; 0 for any time."""
        return self._timeout

    def priority(self) -> int:
        """1 is the most urgent; 0 is the model's default."""
        return 0

    def parameters(self) -> str:
        """Its own parameters, as JSON."""
        return printed(self.own_parameters, spaces=True)

    def trace(self) -> InferenceTrace:
        """Its trace, to be given to the calls that are made for it."""
        return self._trace

    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return False

    def set_release_flags(self, flags: int) -> None:
        """What becomes of it after `execute`.

        Raises:
            TritonModelException: it is to be executed again, which only a server's own scheduler for that could do.
        """
        if flags != TRITONSERVER_REQUEST_RELEASE_ALL:
            raise TritonModelException(f"release flags {flags}: taxiway does not execute a request again")

    def get_response_sender(self) -> InferenceResponseSender:
        """What sends answers to it.

        Raises:
            TritonModelException: the model made it itself.
        """
        raise TritonModelException("a request that the model made itself is answered by the model that it is for")

    def exec(self, decoupled: bool = False) -> InferenceResponse | ResponseIterator:
        """Ask the model that it is for, and wait for the answer; `decoupled`: for any number of them, one by one."""
        from taxiway.runtimes.hosted.triton.calls import ask, ask_for_many  # noqa: PLC0415 - it builds on requests

        return ask_for_many(self) if decoupled else ask(self)

    def async_exec(
        self,
        decoupled: bool = False,
    ) -> asyncio.Future[Any]:
        """As `exec`, to be awaited."""
        return here().in_thread(lambda: self.exec(decoupled))


class IncomingRequest(InferenceRequest):
    """A request that came. Its tensors lie in shared memory, and are looked at when the model asks for them."""

    __slots__ = ("_every", "_make_outlet", "_outlet", "_place", "_seen", "came")

    def __init__(
        self, came: Request, every: frozenset[str], place: tuple[int, int], make_outlet: Callable[[Request], Outlet]
    ) -> None:
        self.came = came
        self._every = every
        self._place = place
        self._make_outlet = make_outlet
        self._seen: list[Tensor] | None = None
        self._outlet: Outlet | None = None

    def inputs(self) -> list[Tensor]:
        """Its tensors."""
        if self._seen is None:
            view = self.came.view
            pairs = zip(self.came.names, self.came.asked.inputs, strict=True)
            self._seen = [Tensor.lying(spec.name, laid, view) for spec, laid in pairs if laid is not None]
        return self._seen

    def request_id(self) -> str:
        """The caller's id; empty if it gave none."""
        return self.came.asked.id or ""

    def correlation_id(self) -> int | str:
        """The sequence that it belongs to; 0 for none."""
        sequence = self.came.asked.sequence
        return 0 if sequence is None else sequence.id

    def requested_output_names(self) -> set[str]:
        """The outputs that are wanted."""
        wanted = self.came.asked.outputs
        return set(self._every if wanted is None else wanted)

    def flags(self) -> int:
        """Whether it starts or ends its sequence."""
        sequence = self.came.asked.sequence
        if sequence is None:
            return 0
        starts = TRITONSERVER_REQUEST_FLAG_SEQUENCE_START if sequence.starts else 0
        return starts | (TRITONSERVER_REQUEST_FLAG_SEQUENCE_END if sequence.ends else 0)

    def set_flags(self, flags: int) -> None:
        """A request that came is what it is."""

    def timeout(self) -> int:
        """How long it may take, in microseconds; 0 for any time."""
        return self.came.asked.timeout_us

    def priority(self) -> int:
        """1 is the most urgent; 0 is the model's default."""
        return self.came.asked.priority

    def parameters(self) -> str:
        """The caller's own parameters, as JSON."""
        return printed(self.came.asked.parameters, spaces=False)

    def trace(self) -> InferenceTrace:
        """Its trace, to be given to the calls that are made for it."""
        return InferenceTrace(self._place)

    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.came.is_cancelled()

    def get_response_sender(self) -> InferenceResponseSender:
        """What sends answers to it."""
        return InferenceResponseSender(self.outlet())

    def outlet(self) -> Outlet:
        """Where its answers go."""
        if self._outlet is None:
            self._outlet = self._make_outlet(self.came)
        return self._outlet

    def known_outlet(self) -> Outlet | None:
        """The same, if it was asked for."""
        return self._outlet

    def exec(self, decoupled: bool = False) -> InferenceResponse | ResponseIterator:  # noqa: ARG002
        """A request that came cannot be passed on as it is.

        Raises:
            TritonModelException: always.
        """
        raise TritonModelException("make an InferenceRequest with a model_name to ask another model")
