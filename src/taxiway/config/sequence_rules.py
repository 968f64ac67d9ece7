"""Completing `sequence_batching` as Triton does, and checking it against itself and against the model's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from taxiway.config.model_config import DATATYPES, TYPE_NAMES, ModelConfig, type_name
from taxiway.config.problems import suggest
from taxiway.config.sequence_spec import ControlKind, control_datatype, control_kind
from taxiway.core.tensors import Datatype, Shape, TensorSpec

DEFAULT_IDLE_US = 1_000_000
"""How long a sequence may be idle where nothing says so; Triton's."""
UNASKED_ROWS = 64
"""Rows of a stateful model that does not say how many: each is a place for a sequence, and may be run empty."""
_VALUE_FORMS = ("int32_false_true", "fp32_false_true", "bool_false_true")
_ID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")

Refuse = Callable[[str, object, str], None]
"""Takes note of a problem: the field's path, its value, and the rule that it breaks."""


def internal_names(config: ModelConfig) -> frozenset[str]:
    """Tensors of the file that callers have nothing to do with: controls, states, and states as they come out."""
    batcher = config.sequence_batching
    controls = {entry.name for entry in batcher.control_input}
    return frozenset(controls | {name for state in batcher.state for name in (state.input_name, state.output_name)})


def complete_sequences(
    config: ModelConfig, file: tuple[Sequence[TensorSpec], Sequence[TensorSpec]] | None, refuse: Refuse
) -> None:
    """Fill what `sequence_batching` leaves out, and refuse what contradicts itself or the file.

    `file` is what the model's file declares, inputs and outputs, whole shapes; None if it declares nothing.
    """
    if not config.HasField("sequence_batching"):
        return
    batcher = config.sequence_batching
    batcher.max_sequence_idle_microseconds = batcher.max_sequence_idle_microseconds or DEFAULT_IDLE_US
    if batcher.HasField("oldest"):
        _complete_oldest(config, refuse)
    share = batcher.direct.minimum_slot_utilization
    if not 0 <= share <= 1:
        refuse("sequence_batching.direct.minimum_slot_utilization", share, "must be between 0 and 1")
    if config.response_cache.enable:
        refuse("response_cache.enable", True, "must be false for a stateful model: the same inputs have many answers")
    tensors = None if file is None else _File(_by_name(file[0]), _by_name(file[1]), config.max_batch_size > 0)
    _check_controls(config, tensors, refuse)
    _check_states(config, tensors, refuse)
    _check_names(config, refuse)


@dataclass(frozen=True, slots=True)
class _File:
    """What the file declares, by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    batches: bool

    def row(self, tensor: TensorSpec) -> Shape:
        """Its shape without the dimension that counts rows."""
        return tensor.shape[1:] if self.batches else tensor.shape


def _by_name(tensors: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    return {tensor.name: tensor for tensor in tensors}


def _complete_oldest(config: ModelConfig, refuse: Refuse) -> None:
    oldest, limit = config.sequence_batching.oldest, config.max_batch_size
    if not oldest.preferred_batch_size and limit > 0:
        oldest.preferred_batch_size[:] = [limit]
    for index, size in enumerate(oldest.preferred_batch_size):
        if not 0 < size <= limit:
            path = f"sequence_batching.oldest.preferred_batch_size[{index}]"
            refuse(path, size, f"must be between 1 and max_batch_size ({limit})")
    if oldest.max_candidate_sequences < 0:
        rule = "must be 0 (as many as max_batch_size) or more"
        refuse("sequence_batching.oldest.max_candidate_sequences", oldest.max_candidate_sequences, rule)


# --- controls ------------------------------------------------------------------------------------------


def _check_controls(config: ModelConfig, file: _File | None, refuse: Refuse) -> None:
    told: dict[ControlKind, str] = {}
    for index, entry in enumerate(config.sequence_batching.control_input):
        path = f"sequence_batching.control_input[{index}]"
        if not entry.name:
            refuse(f"{path}.name", entry.name, "must be the name of an input of the file")
        if len(entry.control) != 1:
            refuse(f"{path}.control", len(entry.control), "must be one control: a tensor tells one thing")
            continue
        control = entry.control[0]
        kind = control_kind(control)
        if kind in told:
            refuse(f"{path}.control[0].kind", kind.value, f"is told by {told[kind]} already")
        told.setdefault(kind, path)
        wrong = list(_wrong_values(control, kind))
        for field, value, rule in wrong:
            refuse(f"{path}.control[0].{field}", value, rule)
        if file is not None and entry.name and not wrong:
            _check_control_tensor(entry.name, path, control_datatype(control), file, refuse)


def _wrong_values(control: ModelConfig, kind: ControlKind) -> Iterator[tuple[str, object, str]]:
    """Field, value and rule of each problem with how a control says what it says."""
    given = [form for form in _VALUE_FORMS if getattr(control, form)]
    if kind is ControlKind.CORRID:
        for form in given:
            yield form, list(getattr(control, form)), "must be left out: the tensor holds the sequence's id"
        if type_name(control) not in _ID_TYPES:
            yield "data_type", type_name(control), f"must be one of {', '.join(_ID_TYPES)}"
        return
    if len(given) != 1:
        yield "kind", kind.value, f"must come with one of {', '.join(_VALUE_FORMS)}; it has {given or 'none'}"
    for form in given:
        values = list(getattr(control, form))
        if len(values) != 2:
            yield form, values, "must be two values: what says no, and what says yes"


def _check_control_tensor(name: str, path: str, datatype: Datatype, file: _File, refuse: Refuse) -> None:
    tensor = file.inputs.get(name)
    if tensor is None:
        refuse(f"{path}.name", name, f"the file has no such input{suggest(name, file.inputs)}")
        return
    if tensor.datatype is not datatype:
        refuse(
            f"{path}.control[0]", TYPE_NAMES[datatype], f"the file's input {name!r} is {TYPE_NAMES[tensor.datatype]}"
        )
    if any(dim not in (-1, 1) for dim in file.row(tensor)):
        refuse(f"{path}.name", name, f"the file's input is {list(tensor.shape)}; a control has one element a row")


# --- states --------------------------------------------------------------------------------------------


def _check_states(config: ModelConfig, file: _File | None, refuse: Refuse) -> None:
    for index, state in enumerate(config.sequence_batching.state):
        path = f"sequence_batching.state[{index}]"
        if file is not None:
            _complete_state(state, file)
            for side, name, tensors in (
                ("input", state.input_name, file.inputs),
                ("output", state.output_name, file.outputs),
            ):
                _check_state_tensor(state, name, f"{path}.{side}_name", tensors, file, refuse)
        if type_name(state) not in DATATYPES:
            refuse(f"{path}.data_type", type_name(state), "must be given")
        if any(dim != -1 and dim < 1 for dim in state.dims):
            refuse(f"{path}.dims", list(state.dims), "each dimension must be -1 (free) or at least 1")
        _check_initial(state, path, refuse)


def _complete_state(state: ModelConfig, file: _File) -> None:
    tensor = file.inputs.get(state.input_name)
    if tensor is None:
        return
    if type_name(state) not in DATATYPES:
        values = state.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
        state.data_type = values[TYPE_NAMES[tensor.datatype]].number
    if not state.dims:
        state.dims[:] = file.row(tensor)


def _check_state_tensor(
    state: ModelConfig, name: str, path: str, tensors: dict[str, TensorSpec], file: _File, refuse: Refuse
) -> None:
    tensor = tensors.get(name)
    if tensor is None:
        refuse(path, name, f"the file has no such tensor{suggest(name, tensors)}; it has {sorted(tensors)}")
        return
    if type_name(state) in DATATYPES and DATATYPES[type_name(state)] is not tensor.datatype:
        refuse(path, name, f"the file's tensor is {TYPE_NAMES[tensor.datatype]}, the state {type_name(state)}")
    row, dims = file.row(tensor), tuple(state.dims)
    if len(row) != len(dims) or any(-1 not in (own, want) and own != want for own, want in zip(row, dims, strict=True)):
        refuse(path, name, f"the file's tensor is {list(row)} for each sequence, the state's dims {list(dims)}")


def _check_initial(state: ModelConfig, path: str, refuse: Refuse) -> None:
    if len(state.initial_state) > 1:
        refuse(f"{path}.initial_state", len(state.initial_state), "must be one at most")
    for given in state.initial_state[:1]:
        where = f"{path}.initial_state[0]"
        if not given.name:
            refuse(f"{where}.name", given.name, "must be given")
        if given.data_type != state.data_type:
            refuse(f"{where}.data_type", type_name(given), f"must be the state's, {type_name(state)}")
        dims, own = list(given.dims), list(state.dims)
        if any(dim < 1 for dim in dims):
            refuse(f"{where}.dims", dims, "each dimension must be at least 1: a sequence begins with a whole shape")
        elif len(dims) != len(own) or any(want not in (-1, got) for got, want in zip(dims, own, strict=True)):
            refuse(f"{where}.dims", dims, f"must fit the state's dims {own}")
        if given.WhichOneof("state_data") is None:
            refuse(where, given.name, "must have zero_data or data_file")


def _check_names(config: ModelConfig, refuse: Refuse) -> None:
    """A tensor plays one part: a caller's, a control's, or a state's."""
    batcher = config.sequence_batching
    named = [
        *((f"sequence_batching.control_input[{i}].name", entry.name) for i, entry in enumerate(batcher.control_input)),
        *((f"sequence_batching.state[{i}].input_name", state.input_name) for i, state in enumerate(batcher.state)),
    ]
    parts = {io.name: f"input[{index}]" for index, io in enumerate(config.input)}
    for path, name in named:
        if name in parts:
            refuse(path, name, f"is {parts[name]} as well; a tensor plays one part")
        elif name:
            parts[name] = path.rpartition(".")[0]
    outputs: dict[str, int] = {}
    for index, state in enumerate(batcher.state):
        if state.output_name in outputs:
            path, other = f"sequence_batching.state[{index}].output_name", outputs[state.output_name]
            refuse(path, state.output_name, f"is that of state[{other}] as well")
        outputs.setdefault(state.output_name, index)
