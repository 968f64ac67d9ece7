"""Requests that models make of models: the steps of an ensemble, business logic of a Python model.

An inner call has the checks, the queue, the deadline and the statistics of any other request; it passes no door, so the
limits of the doors do not concern it: the request that it is made for was let in. Tensors are handed over, not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from taxiway.core.clock import Clock
from taxiway.core.errors import ColdModel, InternalError, TaxiwayError, UnknownTensor, WrongDatatype
from taxiway.core.ports import InnerAnswer, InnerCall, InnerTensor
from taxiway.core.requests import NO_MORE, BatchResult, InferRequest, SequenceStep
from taxiway.core.tensors import Datatype
from taxiway.server.models.cold import ColdStarts, Held
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Snapshot
from taxiway.server.signature import Given, Signature, WireLimits
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
Answer = Callable[[InnerAnswer], None]
_CODEC = "inner"


class InnerCalls:
    """Has models asked by models (`core.ports.InnerCaller`).

    Args:
        routing: the versions that answer now.
        cold: holds calls for models that were unloaded to make room.
    """

    def __init__(
        self, routing: Callable[[], Snapshot], cold: Callable[[], ColdStarts], limits: WireLimits, clock: Clock
    ) -> None:
        self._routing = routing
        self._limits = limits
        self.cold = cold
        self.now_ns = clock.monotonic_ns

    def call(self, call: InnerCall, answer: Answer) -> Callable[[], None]:
        """Check the call against the model that it names, and have it answered; as the port says."""
        asked = _Asked(self, answer)
        asked.begin(call)
        return asked.take_back

    def door(self, call: InnerCall) -> _Door:
        """The way into the version that a call names.

        Raises:
            ModelNotFound, Unavailable: there is none now; ColdModel if it is loaded once it is asked for.
        """
        served = self._routing().find(call.model, call.version)
        door = served.codecs.get(_CODEC)
        if door is None:
            door = served.codecs[_CODEC] = _Door(served, self._limits)
        return cast("_Door", door)


class _Wishes(NamedTuple):
    """What a call says beside its tensors; its deadline and its outputs are set where they are known."""

    id: str | None
    priority: int
    parameters: Mapping[str, Any] | None
    sequence: SequenceStep | None
    timeout_ns: int = 0
    choices: None = None


class _Door:
    """The way into one version, and its answers on their way out."""

    def __init__(self, served: ServedModel, limits: WireLimits) -> None:
        spec = served.spec
        self._signature = Signature(spec.name, spec.inputs, spec.max_batch_size, limits)
        self._outputs = spec.outputs
        self._indices = {output.name: index for index, output in enumerate(spec.outputs)}
        self._batches = served.batches
        self._statistics = served.statistics
        self._traces = served.traces
        self._front = served.front

    def request(self, call: InnerCall, asked: _Asked, now_ns: int) -> InferRequest:
        """What the call asks for, once it is found to be what the model takes.

        Raises:
            InvalidArgument: what is wrong with it.
        """
        try:
            request = self._checked(call, asked, now_ns)
        except TaxiwayError as error:
            self._statistics.invalid(error.code)
            raise
        parent = call.parent
        request.timeout_ns = call.timeout_ns
        request.deadline_ns = call.deadline_ns if parent is None else min(call.deadline_ns, parent.deadline_ns)
        request.sequence = call.sequence
        return request

    def submit(self, request: InferRequest, parent: InferRequest | None) -> None:
        """Hand it over; what it is answered may come before this returns.

        Raises:
            TaxiwayError: it is refused; its responder is not called.
        """
        trace = None if parent is None or parent.trace is None else self._traces.spawn(request, parent.trace)
        try:
            self._front.submit(request)
        except TaxiwayError as error:
            if trace is not None:
                trace.refuse(error)
            raise

    def take_back(self, request: InferRequest) -> None:
        """Nobody waits for its answer any more."""
        self._front.cancel(request)
        if request.trace is not None:
            request.trace.cancel()

    def tensors(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> list[InnerTensor]:
        """The outputs that were asked for: rows [start, stop) of what a run gave, in its own memory."""
        asked: Sequence[int] = range(len(self._outputs)) if request.outputs is None else request.outputs
        if result.notes is not None and result.notes.order is not None:
            asked = [index for index in result.notes.order if index in asked]
        told = []
        arrays: Sequence[Any] = result.arrays
        for index in asked:
            array = arrays[index]
            if array is None:  # a model that answers in parts may leave some of them out
                continue
            spec = self._outputs[index]
            rows = array[start:stop] if self._batches and stop - start != result.rows else array
            told.append(InnerTensor(spec.name, spec.datatype, rows))
        return told

    def _checked(self, call: InnerCall, asked: _Asked, now_ns: int) -> InferRequest:
        given: dict[str, Given] = {}
        nbytes = 0
        for name, datatype, array in call.inputs:
            if name in given:
                raise UnknownTensor(f"input '{name}' is given twice to model '{call.model}'")
            data, size = _content(name, datatype, array)
            given[name] = (datatype, array.shape, data)
            nbytes += size
        wishes = _Wishes(call.id or None, call.priority, call.parameters or None, call.sequence)
        request = self._signature.assemble(given, wishes, nbytes, asked, now_ns)
        request.outputs = None if call.outputs is None else self._wanted(call.model, call.outputs)
        return request

    def _wanted(self, model: str, names: Sequence[str]) -> tuple[int, ...]:
        for name in names:
            if name not in self._indices:
                raise UnknownTensor(
                    f"unexpected inference output '{name}' for model '{model}'",
                    hint=f"outputs of {model}: {', '.join(self._indices)}",
                )
        return tuple(sorted({self._indices[name] for name in names}))


def _content(name: str, datatype: Datatype, array: NDArray[Any]) -> tuple[Any, int]:
    """The content as `InputTensor` has it, and its bytes: the array's own memory, unless it is not laid out row by row.

    Raises:
        WrongDatatype: the elements are not of the datatype that they are said to be.
    """
    if array.dtype != datatype.numpy_dtype:
        raise WrongDatatype(
            f"inference input '{name}' is said to be '{datatype.wire_name}', and its array holds {array.dtype}",
            hint=f"make it an array of {np.dtype(datatype.numpy_dtype)}",
        )
    if datatype is Datatype.BYTES:
        items = array.reshape(-1).tolist()
        return items, sum(map(len, items))
    return np.ascontiguousarray(array).reshape(-1), array.nbytes


def _parameters_of(result: BatchResult) -> Mapping[str, Any] | None:
    return None if result.notes is None else result.notes.parameters


class _Asked:
    """One call, from its check to its last answer; the responder of its request."""

    __slots__ = ("_answer", "_calls", "_door", "_held", "_is_over", "_request")

    def __init__(self, calls: InnerCalls, answer: Answer) -> None:
        self._calls = calls
        self._answer = answer
        self._door: _Door | None = None
        self._request: InferRequest | None = None
        self._held: Held | None = None
        self._is_over = False

    def begin(self, call: InnerCall) -> None:
        """Hand it to its model, now or when that is loaded; whatever is wrong with it is its answer."""
        try:
            try:
                self._enter(self._calls.door(call), call)
            except ColdModel as cold:
                self._hold(call, str(cold.facts["model"]))
        except TaxiwayError as error:
            self._end(InnerAnswer((), error))
        except Exception as problem:  # noqa: BLE001 - the boundary: whoever asked waits for an answer
            _log.error("bug", model=call.model, error=problem)
            self._end(
                InnerAnswer((), InternalError(f"model '{call.model}' could not be asked; the log has the details"))
            )

    def _enter(self, door: _Door, call: InnerCall) -> None:
        self._door = door
        self._request = request = door.request(call, self, self._calls.now_ns())
        door.submit(request, call.parent)

    def _hold(self, call: InnerCall, name: str) -> None:
        parent_ns = call.deadline_ns if call.parent is None else call.parent.deadline_ns

        def resume(error: TaxiwayError | None) -> None:
            self._held = None
            if error is not None:
                self._end(InnerAnswer((), error))
            else:
                self.begin(call)

        self._held = self._calls.cold().hold_inner(name, resume, min(call.deadline_ns, parent_ns))

    def take_back(self) -> None:
        """Nobody waits for it any more: still queued, it costs no execution."""
        if self._is_over:
            return
        door, request, held = self._door, self._request, self._held
        self._forget()
        if held is not None:
            self._calls.cold().drop(held)
        if door is not None and request is not None:
            door.take_back(request)

    # --- the responder ------------------------------------------------------------------------------------

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The answer, or the last of several."""
        door = cast("_Door", self._door)
        told = () if result is NO_MORE else door.tensors(request, result, start, stop)
        self._end(InnerAnswer(told, parameters=_parameters_of(result)))

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:  # noqa: ARG002 - a responder's
        """There is no answer."""
        self._end(InnerAnswer((), error))

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """One of several answers."""
        if self._is_over:
            return
        if isinstance(answer, TaxiwayError):
            self._answer(InnerAnswer((), answer, final=False))
            return
        door = cast("_Door", self._door)
        told = door.tensors(request, answer, 0, answer.rows)
        self._answer(InnerAnswer(told, final=False, parameters=_parameters_of(answer)))

    def _end(self, last: InnerAnswer) -> None:
        if not self._is_over:
            self._forget()
            self._answer(last)

    def _forget(self) -> None:
        """What it was made of must not be kept by whoever could take it back."""
        self._is_over = True
        self._door = self._request = self._held = None
