"""What an ensemble wants of its models, worked out once: which steps serve which outputs, what each tensor must be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from taxiway.config.ensemble_graph import Graph
from taxiway.config.ensemble_spec import EnsembleSpec, Need
from taxiway.config.model_spec import ModelSpec
from taxiway.core.tensors import Shape

_KEPT_ROUTES = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One model of the graph, and what it expects.

    Attributes:
        inputs: the model's input -> the tensor that it reads; likewise `outputs`, and the tensor that it writes.
        shapes: the model's input -> its declared shape, per row if `batches`.
        batches: whether the first dimension of the model's tensors counts rows.
        decoupled: whether it may answer more than once, or never.
    """

    number: int
    need: Need
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    shapes: Mapping[str, Shape]
    batches: bool
    decoupled: bool

    def __str__(self) -> str:
        return f"step {self.number} (model '{self.need}')"


@dataclass(frozen=True, slots=True)
class Route:
    """The part of a graph that gives the outputs that are asked for.

    Attributes:
        outputs: the names of those.
        steps: the steps that are run, by number.
        readers: tensor -> the steps of the route that read it.
        wanted: step -> the outputs of its model that somebody reads.
    """

    outputs: frozenset[str]
    steps: Mapping[int, Step]
    readers: Mapping[str, tuple[int, ...]]
    wanted: Mapping[int, tuple[str, ...]]

    def uses(self, tensor: str) -> int:
        """How often it is read, the caller included."""
        return len(self.readers.get(tensor, ())) + (tensor in self.outputs)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole graph.

    Attributes:
        outputs: of the ensemble, in its order.
        decoupled: whether it may answer more than once, or never.
        max_inflight: requests in each step at a time; 0: no limit.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    decoupled: bool
    max_inflight: int
    _graph: Graph
    _routes: dict[frozenset[str], Route] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: ModelSpec, ensemble: EnsembleSpec, peers: Mapping[Need, ModelSpec]) -> Plan:
        """The plan of an ensemble that fits its models (`config.ensembles` has checked that)."""
        steps = tuple(
            Step(
                number,
                step.need,
                step.inputs,
                step.outputs,
                {tensor.name: tensor.shape for tensor in peers[step.need].inputs if tensor.name in step.inputs},
                peers[step.need].max_batch_size > 0,
                peers[step.need].decoupled,
            )
            for number, step in enumerate(ensemble.steps)
        )
        outputs = tuple(output.name for output in spec.outputs)
        return cls(steps, outputs, spec.decoupled, ensemble.max_inflight, Graph.of(ensemble))

    def route(self, asked: Iterable[str] | None) -> Route:
        """What is run for the outputs in `asked`; for all if it is None. Steps that serve none of them are not."""
        outputs = frozenset(self.outputs if asked is None else asked)
        route = self._routes.get(outputs)
        if route is None:
            route = self._prune(outputs)
            if len(self._routes) < _KEPT_ROUTES:
                self._routes[outputs] = route
        return route

    def _prune(self, outputs: frozenset[str]) -> Route:
        kept: dict[int, Step] = {}
        waiting = list(outputs)
        while waiting:
            number = self._graph.writers.get(waiting.pop())
            if number is not None and number not in kept:
                kept[number] = self.steps[number]
                waiting += self.steps[number].inputs.values()
        steps = {number: kept[number] for number in sorted(kept)}
        readers = {
            tensor: tuple(number for number in numbers if number in steps)
            for tensor, numbers in self._graph.readers.items()
        }
        wanted = {number: _wanted(step, readers, outputs) for number, step in steps.items()}
        return Route(outputs, steps, readers, wanted)


def _wanted(step: Step, readers: Mapping[str, tuple[int, ...]], outputs: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name, tensor in step.outputs.items() if readers.get(tensor) or tensor in outputs)


def fit_shape(declared: Shape, whole: Shape, rows: int, *, batches: bool) -> Shape:
    """The shape in which a tensor goes from one that batches to one that does not, or back; Triton's rule.

    Args:
        declared: what the taker declares, per row if it `batches`.
        whole: the tensor's own.
        rows: how many of them its first dimension counts; 0: it comes from a model that does not batch.
        batches: whether the taker's first dimension counts rows.

    Returns:
        `whole`, with one row put before it or taken off it where only that fits.
    """
    if batches == bool(rows):
        return whole
    fits = len(declared) == len(whole) and all(a in (-1, b) for a, b in zip(declared, whole, strict=True))
    if batches:
        return (1, *whole) if fits else whole
    return whole[1:] if rows == 1 and not fits else whole
