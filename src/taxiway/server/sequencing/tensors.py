"""What a row of a stateful model's run is given beside what its caller sent, and what is kept of what came out.

The rows of a run are requests of our own: the caller's inputs, then a tensor for each control, then the states as the
last step left them. So whatever runs batches runs these. A state is not copied if it was alone in its run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.config.model_spec import ModelSpec
from taxiway.config.sequence_spec import ControlKind, ControlTensor, SequenceBatching, StateTensor
from taxiway.core.errors import InvalidArgument, InvalidConfig
from taxiway.core.requests import NO_MORE, BatchResult, InputTensor, SequenceStep
from taxiway.core.tensors import Datatype, Shape, TensorSpec, count_elements

States = tuple[InputTensor, ...]
"""In the order of the configuration, each with the shape of one row."""

_INTEGERS = {Datatype.INT32, Datatype.INT64, Datatype.UINT32, Datatype.UINT64}
_PREFIX_BYTES = 4


class SequenceTensors:
    """The tensors of one stateful model's runs.

    Args:
        spec: as callers see the model.
        sequences: what the configuration says of its sequences.
        declared: the inputs that the model's file declares, whole shapes; empty if it declares nothing.

    Attributes:
        inputs, outputs: of a run: what callers know, and what they do not. Per row where the model batches.
        initial: the states that a sequence begins with.

    Raises:
        InvalidConfig: an initial state's file is not what its shape needs.
    """

    def __init__(self, spec: ModelSpec, sequences: SequenceBatching, declared: Sequence[TensorSpec]) -> None:
        self._model = spec.name
        self._batches = spec.max_batch_size > 0
        self._controls = sequences.controls
        shapes = {tensor.name: self._control_row(tensor.shape) for tensor in declared}
        controls = [TensorSpec(c.name, c.datatype, shapes.get(c.name, (1,))) for c in sequences.controls]
        states = [TensorSpec(state.input_name, state.datatype, state.shape) for state in sequences.states]
        self.inputs = (*spec.inputs, *controls, *states)
        self._own = spec.inputs
        self._shown = len(spec.outputs)
        own = {output.name: index for index, output in enumerate(spec.outputs)}
        hidden = [state for state in sequences.states if state.output_name not in own]
        self.outputs = (*spec.outputs, *(TensorSpec(s.output_name, s.datatype, s.shape) for s in hidden))
        by_name = {output.name: index for index, output in enumerate(self.outputs)}
        self._state_outputs = tuple(by_name[state.output_name] for state in sequences.states)
        self._texts = [state.datatype is Datatype.BYTES for state in sequences.states]
        self._control_shapes = [self._whole(tensor.shape) for tensor in controls]
        self._told = [self._values(control, index) for index, control in enumerate(self._controls)]
        self._corrid = next((control for control in self._controls if control.kind is ControlKind.CORRID), None)
        self.initial: States = tuple(InputTensor(_content(s), self._whole(s.initial)) for s in sequences.states)
        self._zeros: dict[tuple[int, Shape], InputTensor] = {}

    def _control_row(self, whole: Shape) -> Shape:
        return (1,) * (len(whole) - self._batches)

    def _whole(self, row: Shape) -> Shape:
        return (1, *row) if self._batches else row

    # --- what goes in ---------------------------------------------------------------------------------------

    def check_id(self, step: SequenceStep) -> None:
        """See that the sequence's id can be told to the model.

        Raises:
            InvalidArgument: the model's CORRID tensor cannot hold it.
        """
        if self._corrid is None or self._corrid.datatype not in _INTEGERS:
            return
        wire_name = self._corrid.datatype.wire_name
        if isinstance(step.id, str):
            raise InvalidArgument(
                f"sequence_id '{step.id[:40]}' is text; model '{self._model}' is told ids in {self._corrid.name!r}, "
                f"which is {wire_name}",
                hint="use a number, or data_type: TYPE_STRING for CONTROL_SEQUENCE_CORRID",
            )
        if step.id > np.iinfo(self._corrid.datatype.numpy_dtype).max:
            raise InvalidArgument(
                f"sequence_id {step.id} does not fit {self._corrid.name!r} of model '{self._model}', a {wire_name}",
                hint="use smaller numbers, or data_type: TYPE_UINT64 for CONTROL_SEQUENCE_CORRID",
            )

    def row_inputs(
        self, own: Sequence[InputTensor | None], step: SequenceStep, states: States
    ) -> list[InputTensor | None]:
        """The inputs of a row that has a step."""
        told: dict[ControlKind, bool] = {
            ControlKind.START: step.starts,
            ControlKind.END: step.ends,
            ControlKind.READY: True,
        }
        controls = [
            self._id_tensor(step.id, index)
            if control.kind is ControlKind.CORRID
            else self._told[index][told[control.kind]]
            for index, control in enumerate(self._controls)
        ]
        return [*own, *controls, *states]

    def empty_inputs(self, like: Sequence[InputTensor | None]) -> list[InputTensor | None]:
        """The inputs of a row that has none: zeros in the shapes of the inputs of another row."""
        ends = len(self._own), len(self._own) + len(self._controls)
        controls = [values[False] for values in self._told]
        zeros = [None if tensor is None else self._zero(index, tensor.shape) for index, tensor in enumerate(like)]
        return [*zeros[: ends[0]], *controls, *zeros[ends[1] :]]

    def _id_tensor(self, id: int | str, index: int) -> InputTensor:  # noqa: A002 - the protocol's own word
        control = self._controls[index]
        if control.datatype is Datatype.BYTES:
            return InputTensor([str(id).encode()], self._control_shapes[index])
        return InputTensor(np.array(id, control.datatype.numpy_dtype).tobytes(), self._control_shapes[index])

    def _values(self, control: ControlTensor, index: int) -> tuple[InputTensor, InputTensor]:
        """What says no, and what says yes."""
        shape = self._control_shapes[index]
        if control.datatype is Datatype.BYTES:
            return InputTensor([b""], shape), InputTensor([b""], shape)
        dtype = control.datatype.numpy_dtype
        no, yes = (InputTensor(np.array(value, dtype).tobytes(), shape) for value in (control.false, control.true))
        return no, yes

    def _zero(self, index: int, shape: Shape) -> InputTensor:
        """Nothing is left of another caller's data in an empty row."""
        known = self._zeros.get((index, shape))
        if known is None:
            known = InputTensor(zeros_of(self.inputs[index].datatype, shape), shape)
            if len(self._zeros) < 4 * len(self.inputs):
                self._zeros[index, shape] = known
        return known

    def wanted(self, outputs: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """The outputs of a run whose caller asked for `outputs`: the states are always among them."""
        return None if outputs is None else tuple(sorted({*outputs, *self._state_outputs}))

    # --- what comes out -------------------------------------------------------------------------------------

    def states_of(self, result: BatchResult, row: int) -> States:
        """The states that a row's step has left."""
        return tuple(self._state(result, place, row) for place in range(len(self._state_outputs)))

    def _state(self, result: BatchResult, place: int, row: int) -> InputTensor:
        array: NDArray[Any] = result.arrays[self._state_outputs[place]]
        if self._batches:
            array = array[row : row + 1]
        if self._texts[place]:
            return InputTensor(array.reshape(-1).tolist(), array.shape)
        # A row of several is copied: held as a view, it would hold the states of all others in memory.
        alone = np.ascontiguousarray(array) if result.rows == 1 else array.copy()
        return InputTensor(alone.reshape(-1).view(np.uint8).data, array.shape)

    def shown(self, result: BatchResult) -> BatchResult:
        """A result as callers may see it."""
        if result is NO_MORE or len(result.arrays) == self._shown:
            return result
        return BatchResult(result.names[: self._shown], result.arrays[: self._shown], result.rows)


def shapes_of(states: States) -> tuple[Shape, ...]:
    """The shapes of states: those whose shapes are equal can be rows of one run."""
    return tuple(state.shape for state in states)


def zeros_of(datatype: Datatype, shape: Shape) -> Any:  # noqa: ANN401 - as InputTensor.data
    """Content of nothing but zeros, or of empty texts."""
    count = count_elements(shape)
    return [b""] * count if datatype is Datatype.BYTES else bytes(count * datatype.itemsize)


def _content(state: StateTensor) -> Any:  # noqa: ANN401 - as InputTensor.data
    if state.file is None:
        return zeros_of(state.datatype, state.initial)
    raw = state.file.read_bytes()
    if state.datatype is Datatype.BYTES:
        return _texts(raw, state.file, count_elements(state.initial))
    needed = count_elements(state.initial) * state.datatype.itemsize
    if len(raw) != needed:
        raise InvalidConfig(
            f"the initial state in {state.file} has {len(raw)} bytes; its dims {list(state.initial)} need {needed}",
            hint="write the elements of one sequence, little-endian",
        )
    return raw


def _texts(raw: bytes, file: Path, count: int) -> list[bytes]:
    """Elements as Triton writes them: each after its length in four bytes, little-endian."""
    items: list[bytes] = []
    at = 0
    while at + _PREFIX_BYTES <= len(raw):
        start = at + _PREFIX_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        items.append(raw[start:at])
    if at != len(raw) or len(items) != count:
        raise InvalidConfig(
            f"the initial state in {file} holds {len(items)} texts in {len(raw)} bytes; its dims need {count}",
            hint="write each text after its length in 4 bytes, little-endian (tritonclient's serialize_byte_tensor)",
        )
    return items
