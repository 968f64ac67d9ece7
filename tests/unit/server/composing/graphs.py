"""Graphs for tests: invented ones, and what they are worth when they are evaluated by hand.

The functions of the steps are made up of words: `f2.y(x=<IN>)` is output y of step 2 for that input. A step that
answers in parts gives as many as the length of its words says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from taxiway.config.ensemble_graph import Graph
from taxiway.config.ensemble_spec import EnsembleSpec, Need, StepSpec
from taxiway.server.composing.plan import Plan, Step

Described = tuple[Mapping[str, str], Sequence[str], bool]
"""A step: its inputs and the tensors they read, the tensors it writes (under their own names), whether in parts."""
Place = tuple[int, ...]


@dataclass
class Made:
    """A graph."""

    plan: Plan
    inputs: list[str]
    outputs: list[str]

    @classmethod
    def of(cls, described: Sequence[Described], inputs: list[str], outputs: list[str], max_inflight: int = 0) -> Made:
        specs = tuple(
            StepSpec(Need(f"m{number}"), reads, {name: name for name in writes})
            for number, (reads, writes, _) in enumerate(described)
        )
        ensemble = EnsembleSpec(specs, max_inflight)
        steps = tuple(
            Step(n, spec.need, spec.inputs, spec.outputs, dict.fromkeys(spec.inputs, (1,)), True, described[n][2])
            for n, spec in enumerate(specs)
        )
        decoupled = any(parts for _, _, parts in described)
        return cls(Plan(steps, tuple(outputs), decoupled, max_inflight, Graph.of(ensemble)), inputs, outputs)

    def limited(self, max_inflight: int) -> Made:
        """The same, with so many requests in each step at a time."""
        return Made(replace(self.plan, max_inflight=max_inflight), self.inputs, self.outputs)

    def parts(self, number: int, inputs: Mapping[str, Any]) -> list[dict[str, str]]:
        """The answers of a step to these inputs."""
        words = f"({','.join(f'{name}={inputs[name]}' for name in sorted(inputs))})"
        step = self.plan.steps[number]
        if not step.decoupled:
            return [{name: f"f{number}.{name}{words}" for name in step.outputs}]
        return [{name: f"f{number}.{name}[{part}]{words}" for name in step.outputs} for part in range(len(words) % 4)]


def evaluate(made: Made, inputs: Mapping[str, Any], asked: Sequence[str]) -> list[dict[str, Any]]:
    """Every answer, in order: all tensors at all places, one step after the other."""
    tensors: dict[str, dict[Place, Any]] = {name: {(): value} for name, value in inputs.items()}
    for step in made.plan.steps:  # they are invented in an order in which they can run
        for place in sorted(set.intersection(*(set(tensors[tensor]) for tensor in step.inputs.values()))):
            given = {name: tensors[tensor][place] for name, tensor in step.inputs.items()}
            for part, answer in enumerate(made.parts(step.number, given)):
                below = (*place, part) if step.decoupled else place
                for name, value in answer.items():
                    tensors.setdefault(step.outputs[name], {})[below] = value
        for tensor in step.outputs.values():
            tensors.setdefault(tensor, {})
    places = set.intersection(*(set(tensors[name]) for name in asked))
    return [{name: tensors[name][place] for name in asked} for place in sorted(places)]


@st.composite
def graphs(draw: st.DrawFn, *, decoupled: bool = True) -> Made:
    """Any graph that the checks of a configuration let pass: parts of different models do not meet in it."""
    inputs = [f"IN{n}" for n in range(draw(st.integers(1, 3)))]
    ways: dict[str, int | None] = dict.fromkeys(inputs)
    described: list[Described] = []
    names = _names()
    for number in range(draw(st.integers(1, 7))):
        way = draw(st.sampled_from(sorted(set(ways.values()), key=str)))
        there = [name for name, own in ways.items() if own == way]
        reads = draw(st.lists(st.sampled_from(there), min_size=1, max_size=3))
        writes = [next(names) for _ in range(draw(st.integers(1, 2)))]
        parts = decoupled and draw(st.integers(0, 3)) == 0
        described.append(({f"x{n}": tensor for n, tensor in enumerate(reads)}, writes, parts))
        ways.update(dict.fromkeys(writes, number if parts else way))
    written = [name for name in ways if name not in inputs]
    end = ways[draw(st.sampled_from(written))]
    outputs = draw(st.lists(st.sampled_from([name for name in written if ways[name] == end]), min_size=1, unique=True))
    return Made.of(described, inputs, outputs)


def _names() -> Iterator[str]:
    number = 0
    while True:
        yield f"t{number}"
        number += 1
