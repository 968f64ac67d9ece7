"""Whether a graph of models holds together, by itself: every tensor written once, before it is read, and used.

The rules are Triton's (core, src/model_config_utils.cc and src/ensemble_scheduler/ensemble_utils.cc), told all at once.
What the models in it say of their tensors is `ensemble_tensors.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from taxiway.config.backends import ENSEMBLE
from taxiway.config.ensemble_spec import EnsembleSpec
from taxiway.config.model_config import ModelConfig

Refuse = Callable[[str, object, str], None]
"""Takes note of a problem: the field's path, its value, and the rule that it breaks."""
STEP = "ensemble_scheduling.step"
_FOREIGN = ("instance_group", "model_warmup")
_FOREIGN_MESSAGES = ("optimization", "dynamic_batching", "sequence_batching")


@dataclass(frozen=True, slots=True)
class Graph:
    """Who writes and who reads each tensor, by the number of the step. What comes from outside has no writer."""

    spec: EnsembleSpec
    writers: Mapping[str, int]
    readers: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, spec: EnsembleSpec) -> Graph:
        """The graph of these steps; of several that write one tensor, the first counts."""
        writers: dict[str, int] = {}
        readers: dict[str, dict[int, None]] = {}
        for number, step in enumerate(spec.steps):
            for tensor in step.outputs.values():
                writers.setdefault(tensor, number)
            for tensor in step.inputs.values():
                readers.setdefault(tensor, {})[number] = None
        return cls(spec, writers, {tensor: tuple(steps) for tensor, steps in readers.items()})

    def sources(self) -> list[str]:
        """Tensors that are read and that no step writes, in the order of the steps."""
        return [tensor for tensor in self.readers if tensor not in self.writers]

    def sinks(self) -> list[str]:
        """Tensors that are written and that no step reads, likewise."""
        return [tensor for tensor in self.writers if tensor not in self.readers]

    def order(self, given: Iterable[str]) -> list[int]:
        """The steps that can run once the tensors in `given` are there, each after those that it reads from."""
        there = set(given)
        order: list[int] = []
        waiting = list(range(len(self.spec.steps)))
        while waiting:
            ready = [number for number in waiting if there.issuperset(self.spec.steps[number].inputs.values())]
            if not ready:
                break
            order += ready
            there.update(tensor for number in ready for tensor in self.spec.steps[number].outputs.values())
            waiting = [number for number in waiting if number not in ready]
        return order


def check_graph(config: ModelConfig, spec: EnsembleSpec | None, refuse: Refuse) -> None:
    """Refuse what contradicts itself. Inputs, or outputs, that are not declared at all are not missed."""
    _check_foreign(config, refuse)
    if spec is None or not spec.steps:
        refuse(STEP, [], "must name the models of the graph: each with model_name, input_map and output_map")
        return
    _check_steps(config, refuse)
    _check_writers(config, spec, refuse)
    graph = Graph.of(spec)
    inputs = [io.name for io in config.input] or graph.sources()
    outputs = [io.name for io in config.output] or graph.sinks()
    for path, value, rule in _loose_ends(graph, inputs, outputs):
        refuse(path, value, rule)


def _check_foreign(config: ModelConfig, refuse: Refuse) -> None:
    given = [name for name in _FOREIGN if getattr(config, name)]
    given += [name for name in _FOREIGN_MESSAGES if config.HasField(name)]
    for name in given:
        refuse(name, "(given)", "must be left out: a graph of models has none of its own, its models have")
    if config.backend not in ("", ENSEMBLE) or config.platform not in ("", ENSEMBLE):
        field = "platform" if config.platform not in ("", ENSEMBLE) else "backend"
        refuse(field, getattr(config, field), f"must be {ENSEMBLE!r} with ensemble_scheduling")


def _check_steps(config: ModelConfig, refuse: Refuse) -> None:
    for index, step in enumerate(config.ensemble_scheduling.step):
        path = f"{STEP}[{index}]"
        if not step.model_name:
            refuse(f"{path}.model_name", "", "must name a model")
        if step.model_version < -1:
            refuse(f"{path}.model_version", step.model_version, "must be a version, or -1 for the latest")
        for name in ("input_map", "output_map"):
            if not getattr(step, name):
                rule = "must map the model's tensors, at least one: { key: its name in the model value: in the graph }"
                refuse(f"{path}.{name}", {}, rule)


def _check_writers(config: ModelConfig, spec: EnsembleSpec, refuse: Refuse) -> None:
    written = {io.name: "an input of the ensemble" for io in config.input}
    for index, step in enumerate(spec.steps):
        for name, tensor in step.outputs.items():
            if tensor in written:
                rule = f"must be a tensor of its own: this one is {written[tensor]}"
                refuse(f"{STEP}[{index}].output_map[{name}]", tensor, rule)
            written.setdefault(tensor, f"written by step {index}")


def _loose_ends(graph: Graph, inputs: list[str], outputs: list[str]) -> Iterator[tuple[str, object, str]]:
    """Each problem of the flow."""
    steps = graph.spec.steps
    for index, name in enumerate(inputs):
        if name not in graph.readers and name not in outputs:
            yield f"input[{index}].name", name, "is read by no step"
    for index, name in enumerate(outputs):
        if name not in graph.writers:
            yield f"output[{index}].name", name, "is written by no step"
    for number, step in enumerate(steps):
        for name, tensor in step.inputs.items():
            if tensor not in graph.writers and tensor not in inputs:
                yield (
                    f"{STEP}[{number}].input_map[{name}]",
                    tensor,
                    "is neither an input of the ensemble nor written by a step",
                )
        for name, tensor in step.outputs.items():
            if graph.writers[tensor] == number and tensor not in graph.readers and tensor not in outputs:
                yield f"{STEP}[{number}].output_map[{name}]", tensor, "is unused: read by no step, and no output"
    runnable = set(graph.order([*inputs, *graph.sources()]))
    circle = [number for number in range(len(steps)) if number not in runnable]
    if circle:
        names = " -> ".join(f"{number} ({steps[number].need})" for number in _circle(graph, circle))
        yield STEP, [str(steps[number].need) for number in circle], f"go round in a circle: {names}"


def _circle(graph: Graph, stuck: list[int]) -> list[int]:
    """Steps each of which reads from the next, the last from the first."""
    way: list[int] = []
    number = stuck[0]
    while number not in way:
        way.append(number)
        reads = graph.spec.steps[number].inputs.values()
        number = next(graph.writers[tensor] for tensor in reads if graph.writers.get(tensor) in stuck)
    return [*way[way.index(number) :], number]
