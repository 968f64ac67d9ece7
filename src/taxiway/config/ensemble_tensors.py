"""Whether the models of a graph fit together: names, datatypes, shapes, rows, and answers in parts.

The rules are Triton's (core, src/ensemble_scheduler/ensemble_utils.cc). What the configuration leaves out (its inputs
and outputs, and then the rows it takes) is filled in from the models; Triton would refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taxiway.config.ensemble_graph import STEP, Graph, Refuse
from taxiway.config.ensemble_spec import EnsembleSpec, Need, StepSpec
from taxiway.config.model_config import DATATYPES, TYPE_NAMES, ModelConfig
from taxiway.config.model_spec import ModelSpec
from taxiway.config.problems import suggest
from taxiway.core.tensors import Datatype, Shape, TensorSpec

Peers = Mapping[Need, ModelSpec]
"""The models that a graph asks, as they are served; those that are not are missing."""


@dataclass(frozen=True, slots=True)
class _Say:
    """What one end of a tensor says of it. `shape` is of one row where `batches`, else whole."""

    who: str
    datatype: Datatype
    shape: Shape
    batches: bool

    @property
    def whole(self) -> Shape:
        return (-1, *self.shape) if self.batches else self.shape

    def agrees(self, other: _Say) -> bool:
        """Shapes agree as rows, or as wholes: one that batches may feed one that takes the whole batch as a tensor."""
        return _alike(self.shape, other.shape) or _alike(self.whole, other.whole)


def complete_tensors(config: ModelConfig, spec: EnsembleSpec, peers: Peers, refuse: Refuse) -> None:
    """Fill in what `config` leaves out, and refuse what does not fit; of models that are missing nothing is said."""
    graph = Graph.of(spec)
    if not config.input and not config.output and not config.max_batch_size:
        config.max_batch_size = _rows_of_all(peers)
    if not config.input:
        _declare(config.input, graph.sources(), _ends(spec, peers, "inputs"), batches=config.max_batch_size > 0)
    if not config.output:
        _declare(config.output, graph.sinks(), _ends(spec, peers, "outputs"), batches=config.max_batch_size > 0)
    _check_maps(config, spec, peers, refuse)
    _check_ends(config, spec, peers, refuse)
    _check_parts(config, graph, peers, refuse)


def _rows_of_all(peers: Peers) -> int:
    """Rows that every model takes; 0 if one of them does not batch."""
    return min((peer.max_batch_size for peer in peers.values()), default=0)


def _present(spec: EnsembleSpec, peers: Peers) -> Iterator[tuple[int, StepSpec, ModelSpec]]:
    """The steps whose models are served, each with its number."""
    for index, step in enumerate(spec.steps):
        peer = peers.get(step.need)
        if peer is not None:
            yield index, step, peer


def _ends(spec: EnsembleSpec, peers: Peers, side: str) -> dict[str, tuple[ModelSpec, TensorSpec]]:
    """By tensor of the graph, the first model's tensor that it is mapped to."""
    ends: dict[str, tuple[ModelSpec, TensorSpec]] = {}
    for _, step, peer in _present(spec, peers):
        known = {tensor.name: tensor for tensor in getattr(peer, side)}
        for name, tensor in getattr(step, side).items():
            if name in known:
                ends.setdefault(tensor, (peer, known[name]))
    return ends


def _declare(
    declared: ModelConfig, names: list[str], ends: Mapping[str, tuple[ModelSpec, TensorSpec]], *, batches: bool
) -> None:
    for name in names:
        if name not in ends:
            continue  # it is mapped to a tensor that there is not, which is told elsewhere
        peer, tensor = ends[name]
        whole = (-1, *tensor.shape) if peer.max_batch_size else tensor.shape
        io = declared.add()
        io.name = name
        wanted = TYPE_NAMES[tensor.datatype]
        io.data_type = io.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[wanted].number
        io.dims[:] = whole[1:] if batches else whole


# --- what fits -----------------------------------------------------------------------------------------


def _check_maps(config: ModelConfig, spec: EnsembleSpec, peers: Peers, refuse: Refuse) -> None:
    for index, step, peer in _present(spec, peers):
        path = f"{STEP}[{index}]"
        if 0 < peer.max_batch_size < config.max_batch_size:
            rule = f"takes at most {peer.max_batch_size} rows; the ensemble's max_batch_size is {config.max_batch_size}"
            refuse(f"{path}.model_name", step.need.model, rule)
        for side, named, mapped in (
            ("input", [tensor.name for tensor in peer.inputs], step.inputs),
            ("output", [tensor.name for tensor in peer.outputs], step.outputs),
        ):
            for name in mapped:
                if name not in named:
                    rule = f"model {step.need} has no such {side}{suggest(name, named)}; it has {named}"
                    refuse(f"{path}.{side}_map", name, rule)
        for tensor in peer.inputs:
            if tensor.name not in step.inputs and not tensor.optional:
                rule = f"lacks input {tensor.name!r} of model {step.need}"
                refuse(f"{path}.input_map", sorted(step.inputs), rule)


def _check_ends(config: ModelConfig, spec: EnsembleSpec, peers: Peers, refuse: Refuse) -> None:
    """Every end of a tensor says the same of it as the first."""
    first: dict[str, _Say] = {}
    for path, tensor, say in (*_own_ends(config, refuse), *_step_ends(spec, peers)):
        other = first.setdefault(tensor, say)
        if say.datatype is not other.datatype:
            rule = f"is {TYPE_NAMES[say.datatype]} for {say.who}, and {TYPE_NAMES[other.datatype]} for {other.who}"
            refuse(path, tensor, rule)
        elif not say.agrees(other):
            rule = f"has shape {list(say.whole)} for {say.who}, and {list(other.whole)} for {other.who}"
            refuse(path, tensor, rule)


def _own_ends(config: ModelConfig, refuse: Refuse) -> Iterator[tuple[str, str, _Say]]:
    batches = config.max_batch_size > 0
    for side, declared in (("input", config.input), ("output", config.output)):
        for index, io in enumerate(declared):
            named = io.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number.get(io.data_type)
            datatype = DATATYPES.get("" if named is None else named.name)
            if datatype is None:
                refuse(f"{side}[{index}].data_type", io.data_type, f"must be given for {io.name!r}")
                continue
            if not io.dims or any(size != -1 and size < 1 for size in io.dims):
                refuse(f"{side}[{index}].dims", list(io.dims), "must be given: each -1 (free) or at least 1")
                continue
            shape = tuple(io.reshape.shape) if io.HasField("reshape") else tuple(io.dims)
            yield f"{side}[{index}]", io.name, _Say("the ensemble", datatype, shape, batches)


def _step_ends(spec: EnsembleSpec, peers: Peers) -> Iterator[tuple[str, str, _Say]]:
    for index, step, peer in _present(spec, peers):
        batches, who = peer.max_batch_size > 0, f"model {step.need}"
        for side, known, mapped in (("input", peer.inputs, step.inputs), ("output", peer.outputs, step.outputs)):
            for tensor in known:
                if tensor.name in mapped:
                    path = f"{STEP}[{index}].{side}_map[{tensor.name}]"
                    yield path, mapped[tensor.name], _Say(who, tensor.datatype, tensor.shape, batches)


def _alike(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


# --- answers in parts ----------------------------------------------------------------------------------


def _check_parts(config: ModelConfig, graph: Graph, peers: Peers, refuse: Refuse) -> None:
    """A model that answers in parts makes everything behind it come in parts; parts of two such models do not mix."""
    inputs = [io.name for io in config.input]
    decoupled = {need for need, peer in peers.items() if peer.decoupled}
    parts: dict[str, int | None] = dict.fromkeys(inputs)
    """By tensor, the step in whose parts it comes; None: whole."""
    for number in graph.order(inputs):
        step = graph.spec.steps[number]
        ways = {parts.get(tensor) for tensor in step.inputs.values()}
        if len(ways) > 1:
            rule = "reads tensors that come in the parts of different models, or whole and in parts"
            refuse(f"{STEP}[{number}].input_map", sorted(step.inputs.values()), rule)
        way = number if step.need in decoupled else next(iter(ways), None)
        parts.update(dict.fromkeys(step.outputs.values(), way))
    ends = {parts.get(io.name) for io in config.output}
    if len(ends) > 1:
        rule = "come in the parts of different models, or whole and in parts"
        refuse("output", [io.name for io in config.output], rule)
    config.model_transaction_policy.decoupled = bool(decoupled)
    if decoupled and config.response_cache.enable:
        refuse("response_cache.enable", True, "must be false: a model of the graph answers in parts")
