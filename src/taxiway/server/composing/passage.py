"""One request inside an ensemble: does what its walk says, and tells the walk what came of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from taxiway.core.errors import InternalError, ModelFailed, NotFound, TaxiwayError, Unavailable
from taxiway.core.ports import InnerAnswer, InnerCall, InnerCaller
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.composing.plan import Plan, Step
from taxiway.server.composing.slots import Slots
from taxiway.server.composing.tensors import TensorCodec, Value
from taxiway.server.composing.walk import Ask, Give, Instruction, Place, Walk
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
TakeBack = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Works:
    """What all requests for one ensemble share. `slots` are by step."""

    name: str
    plan: Plan
    codec: TensorCodec
    inner: InnerCaller
    slots: Sequence[Slots]


class Waiter(Protocol):
    """Whoever a passage is for."""

    def told(self, passage: Passage, answer: BatchResult, *, last: bool) -> None:
        """An answer; more may come unless it is the `last`."""

    def finished(self, passage: Passage) -> None:
        """There are no more answers, after those of one that answers in parts."""

    def failed(self, passage: Passage, error: TaxiwayError) -> None:
        """There is no answer, or there are no more."""


class Passage:
    """Takes one request through. After `stop`, and after its last word to the waiter, nothing of it runs any more.

    Attributes:
        started_ns: when it began.
        timer: what ends it at its deadline.
    """

    def __init__(self, works: Works, request: InferRequest, waiter: Waiter, started_ns: int) -> None:
        self.request = request
        self.started_ns = started_ns
        self.timer: asyncio.TimerHandle | None = None
        self._works = works
        self._waiter = waiter
        self._walk: Walk[Value] = Walk(works.plan.route(works.codec.asked(request)))
        self._todo: deque[Instruction[Value]] = deque()
        self._is_busy = False
        self._is_over = False
        self._inside: dict[tuple[int, Place], TakeBack | None] = {}
        """Steps that are in their slots: how to take each back; None while it is being asked."""
        self._outside: set[tuple[int, Place]] = set()
        """Steps that wait for a slot."""

    def begin(self) -> None:
        """Ask the first steps. It may be over before this returns."""
        with self._telling_bugs():
            self._do(self._walk.begin(self._works.codec.read(self.request)))

    def stop(self) -> None:
        """Take every step back: nobody waits any more."""
        self._is_over = True
        self._todo.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        while self._outside:  # first, or a slot that is left would be given to one of them
            key = self._outside.pop()
            self._slots(key).leave((self, key))
        while self._inside:
            key, take_back = self._inside.popitem()
            if take_back is not None:
                take_back()
            self._slots(key).leave((self, key))

    def _do(self, instructions: Iterable[Instruction[Value]]) -> None:
        """One after the other: a step that answers at once must not nest the next one in itself."""
        self._todo.extend(instructions)
        if self._is_busy:
            return
        self._is_busy = True
        with self._telling_bugs():
            while self._todo and not self._is_over:
                self._follow(self._todo.popleft())
        self._is_busy = False

    @contextlib.contextmanager
    def _telling_bugs(self) -> Iterator[None]:
        """Within, nothing leaves a request without an answer."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - the boundary: whoever called us is not who waits
            _log.error("bug", model=self._works.name, error=problem)
            text = f"in ensemble '{self._works.name}', something broke; the server's log has the details"
            self._fail(InternalError(text))

    def _follow(self, instruction: Instruction[Value]) -> None:
        if isinstance(instruction, Ask):
            key = (instruction.step.number, instruction.place)
            self._outside.add(key)
            self._slots(key).enter((self, key), partial(self._enter, instruction))
        elif isinstance(instruction, Give):
            self._give(instruction)
        else:
            self._finish()

    def _enter(self, ask: Ask[Value]) -> None:
        """There is a slot for it; perhaps another request has left it, which must not hear of our troubles."""
        key = (ask.step.number, ask.place)
        self._outside.discard(key)
        self._inside[key] = None
        with self._telling_bugs():
            self._ask(key, ask)

    def _ask(self, key: tuple[int, Place], ask: Ask[Value]) -> None:
        request = self.request
        call = InnerCall(
            ask.step.need.model,
            None if ask.step.need.version is None else str(ask.step.need.version),
            tuple(self._works.codec.feed(ask.step, ask.inputs)),
            ask.outputs,
            request.id,
            request.parameters,
            request.priority,
            request.deadline_ns,
            request.sequence,
            request,
        )
        take_back = self._works.inner.call(call, partial(self._answered, ask.step, ask.place))
        if key in self._inside:
            self._inside[key] = take_back
        elif self._is_over:
            take_back()

    def _answered(self, step: Step, place: Place, answer: InnerAnswer) -> None:
        if self._is_over:
            return
        key = (step.number, place)
        if answer.final:
            del self._inside[key]
        with self._telling_bugs():
            self._take(step, place, answer)
        if answer.final:
            self._slots(key).leave((self, key))

    def _take(self, step: Step, place: Place, answer: InnerAnswer) -> None:
        if answer.error is not None:
            self._fail(self._of_step(step, answer.error))
            return
        outputs = {
            tensor.name: Value(tensor.array, tensor.datatype, sum(tensor.array.shape[:1]) if step.batches else 0)
            for tensor in answer.outputs
        }
        self._do(self._walk.answered(step, place, outputs or None, final=answer.final))

    def _give(self, give: Give[Value]) -> None:
        plan = self._works.plan
        missing = () if plan.decoupled else self._walk.route.outputs - give.outputs.keys()
        if missing:
            self._fail_model(f"its models gave no {', '.join(map(repr, sorted(missing)))}")
            return
        try:
            answer = self._works.codec.answer(self.request, give.outputs)
        except ModelFailed as error:
            self._fail_model(error.message)
            return
        if not plan.decoupled:
            self.stop()
        self._waiter.told(self, answer, last=not plan.decoupled)

    def _finish(self) -> None:
        if not self._works.plan.decoupled:
            self._fail_model("a model answered without a tensor that is waited for")
            return
        self.stop()
        self._waiter.finished(self)

    def _fail_model(self, reason: str) -> None:
        self._fail(ModelFailed(f"in ensemble '{self._works.name}', {reason}"))

    def _fail(self, error: TaxiwayError) -> None:
        if not self._is_over:
            self.stop()
            self._waiter.failed(self, error)

    def _of_step(self, step: Step, error: TaxiwayError) -> TaxiwayError:
        """The error of a step as the ensemble's: that a model is not there is no mistake of the caller."""
        message = f"in ensemble '{self._works.name}', {step}: {error.message}"
        if isinstance(error, NotFound):
            return Unavailable(message, hint=error.hint, model=step.need.model)
        return error.retold(message)

    def _slots(self, key: tuple[int, Place]) -> Slots:
        return self._works.slots[key[0]]
