"""What the server needs to know of a stateful model: how its sequences are batched, told of, and kept.

Plain and frozen, read from a configuration that `sequence_rules` has completed and found right.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taxiway.config.model_config import DATATYPES, ModelConfig, type_name
from taxiway.core.tensors import Datatype, Shape

INITIAL_STATE_FOLDER = "initial_state"
"""Where in a model's directory the files of initial states lie."""


class ControlKind(enum.Enum):
    """What a control tensor tells the model of a row."""

    START = "CONTROL_SEQUENCE_START"
    READY = "CONTROL_SEQUENCE_READY"
    END = "CONTROL_SEQUENCE_END"
    CORRID = "CONTROL_SEQUENCE_CORRID"


@dataclass(frozen=True, slots=True)
class ControlTensor:
    """An input that no caller sends: the server fills it.

    Attributes:
        false, true: the values that say no and yes; 0 and 0 for CORRID, which holds the sequence's id.
    """

    kind: ControlKind
    name: str
    datatype: Datatype
    false: float = 0
    true: float = 0


@dataclass(frozen=True, slots=True)
class StateTensor:
    """An output of one step of a sequence that is an input of the next.

    Attributes:
        shape: of one row where the model batches; -1 where it may change from step to step.
        initial: the shape that a sequence begins with: 1 where it is free and nothing says otherwise.
        file: what it begins with; None: zeros, or empty texts.
    """

    input_name: str
    output_name: str
    datatype: Datatype
    shape: Shape
    initial: Shape
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class DirectStrategy:
    """A sequence keeps one row of one instance for as long as it lasts.

    Attributes:
        max_queue_delay_ns: how long a step may wait for those of other rows.
        minimum_slot_utilization: the share of rows that is worth no more waiting.
    """

    max_queue_delay_ns: int = 0
    minimum_slot_utilization: float = 0.0


@dataclass(frozen=True, slots=True)
class OldestStrategy:
    """A sequence keeps one instance; its steps run in whatever row.

    Attributes:
        max_candidates: sequences that an instance has at a time; 0: as many as rows.
        preferred_sizes: rows; a batch that reaches one of them need not wait. Ascending.
        max_queue_delay_ns: how long a step may wait for those of other sequences.
        preserve_ordering: whether answers leave in the order in which an instance's steps became ready.
    """

    max_candidates: int = 0
    preferred_sizes: tuple[int, ...] = ()
    max_queue_delay_ns: int = 0
    preserve_ordering: bool = False


@dataclass(frozen=True, slots=True)
class SequenceBatching:
    """How a stateful model's sequences are run."""

    strategy: DirectStrategy | OldestStrategy
    max_idle_ns: int
    controls: tuple[ControlTensor, ...] = ()
    states: tuple[StateTensor, ...] = ()


def read_sequences(config: ModelConfig, find_file: Callable[[str, str], Path | None]) -> SequenceBatching | None:
    """The plain form of `sequence_batching`; None if the model is not stateful.

    `find_file`, given a file's name in the model's directory and the field that names it, gives its path; None, and a
    problem noted, if there is none.
    """
    if not config.HasField("sequence_batching"):
        return None
    batcher = config.sequence_batching
    return SequenceBatching(
        strategy=_strategy(batcher),
        max_idle_ns=batcher.max_sequence_idle_microseconds * 1000,
        controls=tuple(_control(entry) for entry in batcher.control_input),
        states=tuple(
            _state(state, f"sequence_batching.state[{index}]", find_file) for index, state in enumerate(batcher.state)
        ),
    )


def _strategy(batcher: ModelConfig) -> DirectStrategy | OldestStrategy:
    if batcher.HasField("oldest"):
        oldest = batcher.oldest
        return OldestStrategy(
            oldest.max_candidate_sequences,
            tuple(sorted(set(oldest.preferred_batch_size))),
            oldest.max_queue_delay_microseconds * 1000,
            oldest.preserve_ordering,
        )
    direct = batcher.direct
    return DirectStrategy(direct.max_queue_delay_microseconds * 1000, direct.minimum_slot_utilization)


def control_kind(control: ModelConfig) -> ControlKind:
    """The kind of a control, as the enum."""
    return ControlKind(control.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number[control.kind].name)


def control_datatype(control: ModelConfig) -> Datatype:
    """The datatype of a control's tensor: for CORRID it is named, else it follows from the form of its values."""
    if control_kind(control) is ControlKind.CORRID:
        return DATATYPES[type_name(control)]
    if control.int32_false_true:
        return Datatype.INT32
    return Datatype.FP32 if control.fp32_false_true else Datatype.BOOL


def _control(entry: ModelConfig) -> ControlTensor:
    (control,) = entry.control
    kind, datatype = control_kind(control), control_datatype(control)
    if kind is ControlKind.CORRID:
        return ControlTensor(kind, entry.name, datatype)
    false, true = control.int32_false_true or control.fp32_false_true or control.bool_false_true
    return ControlTensor(kind, entry.name, datatype, false, true)


def _state(state: ModelConfig, path: str, find_file: Callable[[str, str], Path | None]) -> StateTensor:
    shape = tuple(state.dims)
    initial, file = tuple(max(1, dim) for dim in shape), None
    for given in state.initial_state:
        initial = tuple(given.dims)
        if given.data_file:
            file = find_file(f"{INITIAL_STATE_FOLDER}/{given.data_file}", f"{path}.initial_state[0].data_file")
    return StateTensor(state.input_name, state.output_name, DATATYPES[type_name(state)], shape, initial, file)
