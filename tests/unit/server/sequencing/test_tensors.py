"""What rows are given beside their callers' inputs, and what is kept of what comes out."""

from __future__ import annotations

import dataclasses
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.config.test_sequences import CONTROLS, INPUTS, STATE, spec_of

from taxiway.config.model_spec import ModelSpec
from taxiway.config.sequence_spec import ControlKind, ControlTensor, DirectStrategy, SequenceBatching, StateTensor
from taxiway.core.errors import InvalidArgument, InvalidConfig
from taxiway.core.requests import BatchResult, InputTensor, SequenceStep
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.sequencing.tensors import SequenceTensors, shapes_of

X = InputTensor(array("f", [1, 2, 3, 4]), (1, 4))


def tensors_of(spec: ModelSpec, declared: tuple[TensorSpec, ...] = INPUTS) -> SequenceTensors:
    assert spec.sequences is not None
    return SequenceTensors(spec, spec.sequences, declared)


def numbers(tensor: InputTensor | None, dtype: str) -> Any:
    assert tensor is not None
    return np.ndarray(tensor.shape, dtype, tensor.data).tolist()


def test_the_tensors_of_a_run() -> None:
    tensors = tensors_of(spec_of(CONTROLS + STATE))
    assert [spec.name for spec in tensors.inputs] == ["X", "START", "READY", "END", "ID", "BEFORE"]
    assert [spec.shape for spec in tensors.inputs] == [(4,), (1,), (), (1,), (1,), (2, -1)], "as the file has them"
    assert [spec.name for spec in tensors.outputs] == ["Y", "AFTER"]


def test_a_row_is_told_in_the_models_own_words() -> None:
    tensors = tensors_of(spec_of(CONTROLS + STATE))
    first = tensors.row_inputs([X], SequenceStep(7, starts=True), tensors.initial)
    assert first[0] is X
    assert numbers(first[1], "i4") == [[5]]
    assert numbers(first[2], "?") == [True]
    assert numbers(first[3], "f4") == [[-1]]
    assert first[4] is not None
    assert first[4].data == [b"7"]
    assert numbers(first[5], "f4") == [[[0], [0]]]
    last = tensors.row_inputs([X], SequenceStep("seven", ends=True), tensors.initial)
    assert [numbers(last[1], "i4"), numbers(last[3], "f4")] == [[[0]], [[1]]]
    assert last[4] is not None
    assert last[4].data == [b"seven"]


def test_an_empty_row_holds_nothing_of_another() -> None:
    tensors = tensors_of(spec_of(CONTROLS + STATE))
    row = tensors.row_inputs([X], SequenceStep("me", starts=True), tensors.initial)
    row[5] = InputTensor(np.ones((1, 2, 3), np.float32), (1, 2, 3))
    empty = tensors.empty_inputs(row)
    assert numbers(empty[0], "f4") == [[0, 0, 0, 0]]
    assert numbers(empty[1], "i4") == [[0]]
    assert numbers(empty[2], "?") == [False]
    assert numbers(empty[3], "f4") == [[-1]]
    assert empty[4] is not None
    assert empty[4].data == [b""]
    assert numbers(empty[5], "f4") == [[[0, 0, 0], [0, 0, 0]]], "as wide as its neighbour"
    assert tensors.empty_inputs([None, *row[1:]])[0] is None, "what was left out is left out"


@pytest.mark.parametrize(
    ("datatype", "most"),
    [
        (Datatype.INT32, 2**31 - 1),
        (Datatype.UINT32, 2**32 - 1),
        (Datatype.INT64, 2**63 - 1),
        (Datatype.UINT64, 2**64 - 1),
    ],
)
def test_ids_must_fit(datatype: Datatype, most: int) -> None:
    spec = spec_of(CONTROLS + STATE)
    assert spec.sequences is not None
    control = ControlTensor(ControlKind.CORRID, "ID", datatype)
    tensors = SequenceTensors(spec, dataclasses.replace(spec.sequences, controls=(control,)), ())
    tensors.check_id(SequenceStep(most))
    told = tensors.row_inputs([X], SequenceStep(most), tensors.initial)[1]
    assert numbers(told, datatype.numpy_dtype) == [[most]]
    with pytest.raises(InvalidArgument, match="is text"):
        tensors.check_id(SequenceStep("seven"))
    if most < 2**64 - 1:
        with pytest.raises(InvalidArgument, match="does not fit"):
            tensors.check_id(SequenceStep(most + 1))


def test_any_id_can_be_told_as_text_or_not_at_all() -> None:
    for batching in (CONTROLS + STATE, STATE):
        tensors_of(spec_of(batching)).check_id(SequenceStep(2**64 - 1))
        tensors_of(spec_of(batching)).check_id(SequenceStep("x" * 128))


def test_a_state_alone_is_not_copied_and_one_of_several_is() -> None:
    tensors = tensors_of(spec_of(CONTROLS + STATE))
    y = np.zeros((1, 3), np.float32)
    after = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    (alone,) = tensors.states_of(BatchResult(("Y", "AFTER"), (y, after), 1), 0)
    assert np.shares_memory(np.asarray(alone.data), after)
    assert shapes_of((alone,)) == ((1, 2, 3),)
    both = np.concatenate([after, after + 6])
    (second,) = tensors.states_of(BatchResult(("Y", "AFTER"), (np.zeros((2, 3)), both), 2), 1)
    assert numbers(second, "f4") == [[[6, 7, 8], [9, 10, 11]]]
    assert not np.shares_memory(np.asarray(second.data), both), "the others' states are not held"


def test_callers_are_shown_no_more_than_is_declared() -> None:
    tensors = tensors_of(spec_of(CONTROLS + STATE))
    shown = tensors.shown(BatchResult(("Y", "AFTER"), (np.zeros((1, 3)), np.zeros((1, 2, 3))), 1))
    assert (shown.names, len(shown.arrays), shown.rows) == (("Y",), 1, 1)
    assert tensors.wanted(None) is None
    assert tensors.wanted((0,)) == (0, 1), "the state is needed, whoever asks for what"
    declared = tensors_of(
        spec_of(CONTROLS + STATE, more='max_batch_size: 8 output { name: "AFTER" } output { name: "Y" }')
    )
    result = BatchResult(("AFTER", "Y"), (np.ones((1, 2, 3), np.float32), np.zeros((1, 3))), 1)
    assert declared.shown(result) is result
    assert numbers(declared.states_of(result, 0)[0], "f4") == [[[1, 1, 1], [1, 1, 1]]]


def test_what_a_file_begins_with(tmp_path: Path) -> None:
    folder = tmp_path / "initial_state"
    folder.mkdir()
    initial = 'initial_state { name: "i" data_type: TYPE_FP32 dims: [ 2, 2 ] data_file: "first" }'
    batching = f'{CONTROLS} state {{ input_name: "BEFORE" output_name: "AFTER" {initial} }}'
    (folder / "first").write_bytes(np.array([1, 2, 3, 4], np.float32).tobytes())
    (state,) = tensors_of(spec_of(batching, tmp_path)).initial
    assert numbers(state, "f4") == [[[1, 2], [3, 4]]]
    (folder / "first").write_bytes(bytes(15))
    with pytest.raises(InvalidConfig, match=r"15 bytes; its dims \[2, 2\] need 16"):
        tensors_of(spec_of(batching, tmp_path))


@pytest.mark.parametrize("raw", [b"", b"\x01\0\0\0", b"\x02\0\0\0a", b"\x01\0\0\0ab"])
def test_texts_that_a_file_does_not_hold(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "initial_state").mkdir()
    (tmp_path / "initial_state/first").write_bytes(raw)
    text = TensorSpec("BEFORE", Datatype.BYTES, (-1, 1))
    state = StateTensor("BEFORE", "AFTER", Datatype.BYTES, (1,), (1,), tmp_path / "initial_state/first")
    with pytest.raises(InvalidConfig, match="texts in"):
        SequenceTensors(spec_of(CONTROLS + STATE), SequenceBatching(DirectStrategy(), 1, (), (state,)), (text,))
