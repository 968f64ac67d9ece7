"""Business logic of a model process: what it asks of other models, and what they answer, through its two arenas.

Everything happens on the event loop. Large tensors are handed over where the process laid them: their block is its
again when nobody looks at them any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from taxiway.core.errors import Cancelled, TaxiwayError
from taxiway.core.ports import InnerAnswer, InnerCall, InnerCaller, InnerTensor
from taxiway.core.requests import NEVER_NS, InferRequest, RequestState, SequenceStep
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.batch import Outbox
from taxiway.runtimes.hosted.frames import CallAnswer, CallOut
from taxiway.runtimes.hosted.tensors import DTYPES
from taxiway.server.execution.processes.confusion import Confused
from taxiway.server.execution.processes.layout import BlockView
from taxiway.server.execution.processes.process import ModelProcess


class _Out(NamedTuple):
    """A call that is out: for which request, and what takes it back."""

    parent: InferRequest | None
    take_back: Callable[[], None]


class Calls:
    """The calls of one process.

    Args:
        inner: who has models asked by models.
        now_ns: monotonic time.
    """

    def __init__(self, process: ModelProcess, inner: InnerCaller, now_ns: Callable[[], int]) -> None:
        self._process = process
        self._inner = inner
        self._now_ns = now_ns
        self._outbox = Outbox(process.outbox)
        self._out: dict[int, _Out] = {}

    def begin(self, call: CallOut, parent: InferRequest | None) -> None:
        """Have the call answered, made for `parent` if the model says so; what is wrong with it is its answer.

        Raises:
            Confused: the frame cannot be true.
        """
        if call.call in self._out or len(call.names) != len(call.tensors):
            raise Confused("it asked another model in a way that cannot be")
        self._out[call.call] = _Out(parent, _nothing)
        try:
            inner = self._read(call, parent)
        except TaxiwayError as problem:
            self._answered(call.call, InnerAnswer((), problem))
            return
        take_back = self._inner.call(inner, partial(self._answered, call.call))
        if call.call in self._out:  # else it was answered at once
            self._out[call.call] = _Out(parent, take_back)

    def take_back(self, number: int) -> None:
        """The process does not wait for this one any more."""
        out = self._out.pop(number, None)
        if out is not None:
            out.take_back()

    def abandon(self, parent: InferRequest) -> None:
        """Nobody waits for `parent` any more, nor for what is asked for its sake."""
        for number in [number for number, out in self._out.items() if out.parent is parent]:
            self._out[number].take_back()
            error = Cancelled("the request that this call was made for was taken back")
            self._answered(number, InnerAnswer((), error))

    def end(self) -> None:
        """The process is gone."""
        out, self._out = self._out, {}
        for one in out.values():
            one.take_back()

    def _read(self, call: CallOut, parent: InferRequest | None) -> InnerCall:
        tensors = self._tensors(call)
        if parent is not None and parent.state is not RequestState.RUNNING:
            raise Cancelled("the request that this call is made for was taken back, or has expired")
        place = call.sequence
        return InnerCall(
            call.model,
            call.version,
            tensors,
            call.outputs,
            call.id,
            call.parameters,
            call.priority,
            min(self._now_ns() + call.timeout_us * 1000, NEVER_NS) if call.timeout_us else NEVER_NS,
            None if place is None else SequenceStep(place.id, place.starts, place.ends),
            parent,
            call.timeout_us * 1000,
        )

    def _tensors(self, call: CallOut) -> list[InnerTensor]:
        view = BlockView(call.block, self._process.inbox)
        try:
            tensors = []
            for name, laid in zip(call.names, call.tensors, strict=True):
                datatype = Datatype.by_name(laid.datatype)
                if datatype is None:
                    raise Confused(f"it asked another model with a tensor of {laid.datatype!r}")
                tensors.append(InnerTensor(name, datatype, view.array(laid, DTYPES[laid.datatype])))
            return tensors
        finally:
            view.done()

    def _answered(self, number: int, answer: InnerAnswer) -> None:
        if number not in self._out:
            return
        if answer.final:
            del self._out[number]
        self._process.send(self._told(number, answer))

    def _told(self, number: int, answer: InnerAnswer) -> CallAnswer:
        problem = answer.error
        if problem is None:
            outputs = answer.outputs
            try:
                block, laid = self._outbox.lay([tensor.array for tensor in outputs])
            except TaxiwayError as full:
                problem = full
            else:
                tensors = tuple(
                    one._replace(datatype=tensor.datatype.wire_name)
                    for one, tensor in zip(laid, outputs, strict=True)
                    if one is not None
                )
                names = tuple(tensor.name for tensor in outputs)
                told = None if answer.parameters is None else dict(answer.parameters)
                return CallAnswer(number, block, names, tensors, None, answer.final, told)
        return CallAnswer(number, None, error=problem.to_data(), final=answer.final)


def _nothing() -> None:
    """A call that has not begun is taken back so."""
