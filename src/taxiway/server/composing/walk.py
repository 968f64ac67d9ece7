"""One request's way through a graph. Pure: answers of steps go in, what is to be asked and answered comes out.

Whatever a step gives carries a *place*: () for what comes whole; below it, (0,), (1,), ... for the parts of a model
that answers in parts, and so on below each of those. A step runs once for each place at which all its inputs are
there, and what it gives has the same place; so parts never mix, whatever order they come in. Answers are given in the
order of their places: none that is complete overtakes one that may still come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic, TypeVar

from taxiway.server.composing.plan import Route, Step

T = TypeVar("T")
Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """Run a step: instruction. Inputs that nobody gave are left out.

    Attributes:
        place: of its inputs.
        outputs: the outputs of its model that somebody reads.
    """

    step: Step
    place: Place
    inputs: Mapping[str, T]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Give(Generic[T]):
    """Answer, with outputs by name: instruction. An output that its step left out is missing."""

    outputs: Mapping[str, T]


@dataclass(frozen=True, slots=True)
class End:
    """There is nothing more to ask, and nothing more to answer: instruction; the last one."""


Instruction = Ask[T] | Give[T] | End


@dataclass(slots=True)
class _Run:
    """A step that is asked and has not answered for the last time; how many of its answers came."""

    step: Step
    place: Place
    parts: int = 0


@dataclass(slots=True)
class _Tensor(Generic[T]):
    """A tensor at one place: what it is, or None if its step left it out, and how often it is yet to be read."""

    value: T | None
    uses: int


@dataclass(slots=True)
class Walk(Generic[T]):
    """The way of one request.

    It knows the tensors that somebody is yet to read, and no others.
    """

    route: Route
    _tensors: dict[tuple[str, Place], _Tensor[T]] = field(default_factory=dict)
    _runs: dict[tuple[int, Place], _Run] = field(default_factory=dict)
    _first_runs: list[tuple[Place, int]] = field(default_factory=list)
    """A heap of the places of runs, and their steps; those that are over leave it when they come to its top."""
    _complete: dict[Place, Mapping[str, T]] = field(default_factory=dict)
    """Answers that wait for their turn."""
    _first_complete: list[Place] = field(default_factory=list)
    """A heap of their places."""
    _given: int = 0
    _ended: bool = False

    @property
    def given(self) -> int:
        """Answers so far."""
        return self._given

    @property
    def held(self) -> int:
        """Tensors that somebody is yet to read."""
        return len(self._tensors)

    def begin(self, inputs: Mapping[str, T | None]) -> list[Instruction[T]]:
        """The request has come; an optional input that it left out is None."""
        return self._go_on(inputs, ())

    def answered(
        self, step: Step, place: Place, outputs: Mapping[str, T] | None, *, final: bool
    ) -> list[Instruction[T]]:
        """A step that was asked at `place` has answered, once more or for the last time.

        Args:
            step: which.
            place: where it was asked.
            outputs: by the model's names; None: there is no answer, it only says that there will be no more.
            final: whether this was the last time.
        """
        run = self._runs[step.number, place]
        below = (*place, run.parts) if step.decoupled else place
        if run.parts and not step.decoupled:
            outputs = None  # a second answer of a model that gives one
        run.parts += outputs is not None
        if final:
            del self._runs[step.number, place]
        if outputs is None:
            return self._go_on({}, place)
        named = {step.outputs[name]: outputs.get(name) for name in self.route.wanted[step.number]}
        return self._go_on(named, below)

    def _go_on(self, fresh: Mapping[str, T | None], place: Place) -> list[Instruction[T]]:
        for tensor, value in fresh.items():
            if uses := self.route.uses(tensor):
                self._tensors[tensor, place] = _Tensor(value, uses)
        instructions: list[Instruction[T]] = [*self._ready(fresh, place)]
        self._complete_outputs(fresh, place)
        instructions += self._in_turn()
        if not self._runs and not self._ended:
            self._ended = True
            instructions.append(End())
        return instructions

    def _ready(self, fresh: Mapping[str, T | None], place: Place) -> list[Ask[T]]:
        """The steps whose last input has come."""
        candidates = dict.fromkeys(number for tensor in fresh for number in self.route.readers.get(tensor, ()))
        asks = []
        for number in candidates:
            step = self.route.steps[number]
            if all((tensor, place) in self._tensors for tensor in step.inputs.values()):
                self._runs[number, place] = _Run(step, place)
                heappush(self._first_runs, (place, number))
                asks.append(Ask(step, place, self._read(step, place), self.route.wanted[number]))
        return asks

    def _read(self, step: Step, place: Place) -> dict[str, T]:
        inputs = {}
        for name, tensor in step.inputs.items():
            value = self._tensors[tensor, place].value
            if value is not None:
                inputs[name] = value
        for tensor in set(step.inputs.values()):
            self._use(tensor, place)
        return inputs

    def _use(self, tensor: str, place: Place) -> None:
        """It was read once more; nobody keeps what nobody is to read."""
        held = self._tensors[tensor, place]
        held.uses -= 1
        if not held.uses:
            del self._tensors[tensor, place]

    def _complete_outputs(self, fresh: Mapping[str, T | None], place: Place) -> None:
        outputs = self.route.outputs
        if outputs.isdisjoint(fresh) or not all((name, place) in self._tensors for name in outputs):
            return
        found = {}
        for name in outputs:
            value = self._tensors[name, place].value
            if value is not None:
                found[name] = value
            self._use(name, place)
        self._complete[place] = found
        heappush(self._first_complete, place)

    def _in_turn(self) -> list[Give[T]]:
        """The answers that no other one may come before."""
        gives = []
        while self._first_complete and not self._may_be_preceded(self._first_complete[0]):
            gives.append(Give(self._complete.pop(heappop(self._first_complete))))
            self._given += 1
        return gives

    def _may_be_preceded(self, place: Place) -> bool:
        """Whether a run goes on at an earlier place; one above `place` has given it, and gives only later ones."""
        above = []
        while self._first_runs and self._first_runs[0][0] < place:
            at, number = self._first_runs[0]
            is_over = (number, at) not in self._runs
            if not is_over and at != place[: len(at)]:
                break
            heappop(self._first_runs)
            if not is_over:
                above.append((at, number))
        preceded = bool(self._first_runs) and self._first_runs[0][0] < place
        for one in above:
            heappush(self._first_runs, one)
        return preceded
