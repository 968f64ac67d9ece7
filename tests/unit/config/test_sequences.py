"""`sequence_batching`: completed as Triton does, read into its plain form, and every problem told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taxiway.config.autocomplete import Defaults, autocomplete
from taxiway.config.model_config import ModelConfig, parse_pbtxt, to_json_dict
from taxiway.config.model_spec import ModelSpec, build_spec
from taxiway.config.sequence_spec import (
    ControlKind,
    ControlTensor,
    DirectStrategy,
    OldestStrategy,
    SequenceBatching,
    StateTensor,
)
from taxiway.core.errors import InvalidConfig
from taxiway.core.tensors import Datatype, TensorSpec

INPUTS = (
    TensorSpec("X", Datatype.FP32, (-1, 4)),
    TensorSpec("START", Datatype.INT32, (-1, 1)),
    TensorSpec("READY", Datatype.BOOL, (-1,)),
    TensorSpec("END", Datatype.FP32, (-1, 1)),
    TensorSpec("ID", Datatype.BYTES, (-1, 1)),
    TensorSpec("BEFORE", Datatype.FP32, (-1, 2, -1)),
)
OUTPUTS = (TensorSpec("Y", Datatype.FP32, (-1, 3)), TensorSpec("AFTER", Datatype.FP32, (-1, 2, -1)))
CONTROLS = """
    control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 5 ] } }
    control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } }
    control_input { name: "END" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ -1, 1 ] } }
    control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } }
"""
STATE = 'state { input_name: "BEFORE" output_name: "AFTER" }'


def complete(batching: str, more: str = "max_batch_size: 8") -> ModelConfig:
    config = parse_pbtxt(f"{more} sequence_batching {{ {batching} }}", "config.pbtxt")
    return autocomplete(config, INPUTS, OUTPUTS, "m", defaults=Defaults(max_batch_size=4096))


def spec_of(batching: str, directory: Path = Path("/nowhere"), more: str = "max_batch_size: 8") -> ModelSpec:
    return build_spec(complete(batching, more), directory)


def sequences_of(batching: str, directory: Path = Path("/nowhere")) -> SequenceBatching:
    sequences = spec_of(batching, directory).sequences
    assert sequences is not None
    return sequences


def problems_of(batching: str, more: str = "max_batch_size: 8") -> dict[str, str]:
    with pytest.raises(InvalidConfig) as caught:
        complete(batching, more)
    return {
        problem["path"].removeprefix("sequence_batching."): problem["rule"]
        for problem in caught.value.facts["problems"]
    }


def test_other_models_have_none() -> None:
    config = autocomplete(parse_pbtxt("", "config.pbtxt"), INPUTS, OUTPUTS, "m")
    assert build_spec(config, Path("/nowhere")).sequences is None


def test_what_triton_fills_in() -> None:
    done = to_json_dict(complete(f"oldest {{ max_candidate_sequences: 3 }} {CONTROLS} {STATE}"))["sequence_batching"]
    assert done["max_sequence_idle_microseconds"] == 1_000_000
    assert done["oldest"] == {
        "max_candidate_sequences": 3,
        "preferred_batch_size": [8],
        "max_queue_delay_microseconds": 0,
        "preserve_ordering": False,
    }
    assert "direct" not in done
    assert done["state"][0]["data_type"] == "TYPE_FP32", "the file tells"
    assert done["state"][0]["dims"] == [2, -1]
    assert [entry["name"] for entry in done["control_input"]] == ["START", "READY", "END", "ID"]


def test_callers_tensors_are_those_that_nobody_else_fills() -> None:
    spec = spec_of(f"{CONTROLS} {STATE}")
    assert [tensor.name for tensor in spec.inputs] == ["X"]
    assert [tensor.name for tensor in spec.outputs] == ["Y"]
    told = spec_of(f"{CONTROLS} {STATE}", more='max_batch_size: 8 output { name: "AFTER" } output { name: "Y" }')
    assert [tensor.name for tensor in told.outputs] == ["AFTER", "Y"], "a state that is declared is told"


def test_the_plain_form(tmp_path: Path) -> None:
    (tmp_path / "initial_state").mkdir()
    (tmp_path / "initial_state/first").write_bytes(bytes(24))
    initial = 'initial_state { name: "i" data_type: TYPE_FP32 dims: [ 2, 3 ] data_file: "first" }'
    sequences = sequences_of(
        "direct { max_queue_delay_microseconds: 7 minimum_slot_utilization: 0.5 } max_sequence_idle_microseconds: 9"
        f'{CONTROLS} state {{ input_name: "BEFORE" output_name: "AFTER" {initial} }}',
        tmp_path,
    )
    file = tmp_path / "initial_state/first"
    assert sequences == SequenceBatching(
        DirectStrategy(7000, 0.5),
        9000,
        (
            ControlTensor(ControlKind.START, "START", Datatype.INT32, 0, 5),
            ControlTensor(ControlKind.READY, "READY", Datatype.BOOL, False, True),
            ControlTensor(ControlKind.END, "END", Datatype.FP32, -1, 1),
            ControlTensor(ControlKind.CORRID, "ID", Datatype.BYTES),
        ),
        (StateTensor("BEFORE", "AFTER", Datatype.FP32, (2, -1), (2, 3), file),),
    )


def test_the_plain_form_of_silence() -> None:
    assert sequences_of(CONTROLS + STATE).strategy == DirectStrategy()
    assert sequences_of(CONTROLS + STATE).states[0].initial == (2, 1), "as Triton begins where a dimension is free"
    assert sequences_of(
        f"oldest {{ preferred_batch_size: [ 4, 2, 4 ] }} {CONTROLS} {STATE}"
    ).strategy == OldestStrategy(0, (2, 4))


def test_a_model_that_does_not_say_how_many_rows_has_few() -> None:
    assert spec_of(f"{CONTROLS} {STATE}", more="").max_batch_size == 64


def test_hints_are_ignored_by_name() -> None:
    state = STATE.replace("}", "use_same_buffer_for_input_output: true use_growable_memory: true }")
    assert spec_of(CONTROLS + state).ignored == (
        "sequence_batching.state[0].use_same_buffer_for_input_output",
        "sequence_batching.state[0].use_growable_memory",
    )


@pytest.mark.parametrize(
    ("batching", "path", "rule"),
    [
        ("direct { minimum_slot_utilization: 1.5 }", "direct.minimum_slot_utilization", "must be between 0 and 1"),
        ("direct { minimum_slot_utilization: nan }", "direct.minimum_slot_utilization", "must be between 0 and 1"),
        (
            "oldest { preferred_batch_size: [ 4, 9 ] }",
            "oldest.preferred_batch_size[1]",
            "must be between 1 and max_batch_size (8)",
        ),
        ("oldest { max_candidate_sequences: -1 }", "oldest.max_candidate_sequences", "must be 0 (as many"),
    ],
)
def test_wrong_strategies(batching: str, path: str, rule: str) -> None:
    problems = problems_of(f"{batching} {CONTROLS} {STATE}")
    assert problems.keys() == {path}
    assert problems[path].startswith(rule)


@pytest.mark.parametrize(
    ("control", "path", "rule"),
    [
        ('name: "START"', "control", "must be one control"),
        ("control { int32_false_true: [ 0, 1 ] }", "name", "must be the name of an input of the file"),
        ('name: "START" control { }', "control[0].kind", "must come with one of"),
        (
            'name: "START" control { int32_false_true: [ 0, 1 ] bool_false_true: [ false, true ] }',
            "control[0].kind",
            "must come with one of",
        ),
        ('name: "START" control { int32_false_true: 1 }', "control[0].int32_false_true", "must be two values"),
        ('name: "START" control { fp32_false_true: [ 0, 1 ] }', "control[0]", "the file's input 'START' is TYPE_INT32"),
        ('name: "STRAT" control { int32_false_true: [ 0, 1 ] }', "name", "the file has no such input; did you mean"),
        ('name: "X" control { fp32_false_true: [ 0, 1 ] }', "name", "the file's input is [-1, 4]; a control has"),
        ('name: "ID" control { kind: CONTROL_SEQUENCE_CORRID }', "control[0].data_type", "must be one of TYPE_UINT64"),
        (
            'name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING fp32_false_true: 1 }',
            "control[0].fp32_false_true",
            "must be left out",
        ),
    ],
)
def test_wrong_controls(control: str, path: str, rule: str) -> None:
    problems = problems_of(f"control_input {{ {control} }}")
    assert problems[f"control_input[0].{path}"].startswith(rule), problems


def test_a_control_is_told_once() -> None:
    twice = CONTROLS + 'control_input { name: "X" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } }'
    problems = problems_of(twice + STATE)
    assert problems["control_input[4].control[0].kind"] == "is told by sequence_batching.control_input[2] already"


PAIR = 'input_name: "BEFORE" output_name: "AFTER" '


@pytest.mark.parametrize(
    ("state", "path", "rule"),
    [
        ('input_name: "NO" output_name: "AFTER" data_type: TYPE_FP32', "input_name", "the file has no such tensor"),
        (
            'input_name: "BEFORE" output_name: "AFTRE"',
            "output_name",
            "the file has no such tensor; did you mean",
        ),
        (
            PAIR + "data_type: TYPE_INT32",
            "input_name",
            "the file's tensor is TYPE_FP32",
        ),
        (PAIR + "dims: [ 3, 1 ]", "input_name", "the file's tensor is [2, -1]"),
        (PAIR + "dims: [ 2, 0 ]", "dims", "each dimension must be -1"),
        ('input_name: "START" output_name: "AFTER"', "input_name", "is sequence_batching.control_input[0] as well"),
        (
            PAIR + "initial_state { data_type: TYPE_FP32 dims: [ 2, 1 ] zero_data: true }",
            "initial_state[0].name",
            "must be given",
        ),
        (
            PAIR + 'initial_state { name: "i" dims: [ 2, 1 ] zero_data: true }',
            "initial_state[0].data_type",
            "must be the state's, TYPE_FP32",
        ),
        (
            PAIR + 'initial_state { name: "i" data_type: TYPE_FP32 dims: [ 2, 1 ] }',
            "initial_state[0]",
            "must have zero_data or data_file",
        ),
        (
            PAIR + 'initial_state { name: "i" data_type: TYPE_FP32 dims: [ 2, -1 ] zero_data: true }',
            "initial_state[0].dims",
            "each dimension must be at least 1",
        ),
        (
            PAIR + 'initial_state { name: "i" data_type: TYPE_FP32 dims: [ 3, 1 ] zero_data: true }',
            "initial_state[0].dims",
            "must fit the state's dims [2, -1]",
        ),
    ],
)
def test_wrong_states(state: str, path: str, rule: str) -> None:
    problems = problems_of(f"{CONTROLS} state {{ {state} }}", more='max_batch_size: 8 input { name: "X" }')
    assert problems[f"state[0].{path}"].startswith(rule), problems


def test_two_states_do_not_share_an_output() -> None:
    problems = problems_of(CONTROLS + STATE + 'state { input_name: "X" output_name: "AFTER" }')
    assert problems["state[1].output_name"] == "is that of state[0] as well"


def test_every_problem_is_told_at_once() -> None:
    problems = problems_of(
        'oldest { preferred_batch_size: 99 } control_input { name: "START" } state { input_name: "BEFORE" }',
        more="max_batch_size: 8 response_cache { enable: true }",
    )
    assert {
        "oldest.preferred_batch_size[0]",
        "response_cache.enable",
        "control_input[0].control",
        "state[0].output_name",
    } <= problems.keys()


def test_a_callers_input_is_no_control() -> None:
    problems = problems_of(CONTROLS + STATE, more='max_batch_size: 8 input { name: "X" } input { name: "START" }')
    assert problems == {"control_input[0].name": "is input[1] as well; a tensor plays one part"}


def test_code_declares_nothing_to_check_by() -> None:
    config = parse_pbtxt(
        'backend: "python" max_batch_size: 2 input { name: "X" data_type: TYPE_FP32 dims: 1 } '
        f'output {{ name: "Y" data_type: TYPE_FP32 dims: 1 }} sequence_batching {{ {CONTROLS} }}',
        "config.pbtxt",
    )
    x, y = (TensorSpec(name, Datatype.FP32, (-1, 1)) for name in "XY")
    sequences = build_spec(autocomplete(config, [x], [y], "m"), Path("/nowhere")).sequences
    assert sequences is not None
    assert len(sequences.controls) == 4


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    initial = 'initial_state { name: "i" data_type: TYPE_FP32 dims: [ 2, 3 ] data_file: "../first" }'
    with pytest.raises(InvalidConfig) as caught:
        sequences_of(f'{CONTROLS} state {{ input_name: "BEFORE" output_name: "AFTER" {initial} }}', tmp_path)
    problem: dict[str, Any] = caught.value.facts["problems"][0]
    assert problem["path"] == "sequence_batching.state[0].initial_state[0].data_file"
