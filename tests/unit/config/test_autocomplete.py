"""Completing a configuration from the model's file, and telling where they disagree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.config.autocomplete import Defaults, Overrides, autocomplete, supports_batching
from taxiway.config.model_config import ModelConfig, new_config, parse_pbtxt, to_json, to_json_dict
from taxiway.core.errors import InvalidConfig
from taxiway.core.tensors import Datatype, TensorSpec

X = TensorSpec("X", Datatype.FP32, (-1, 4))
Y = TensorSpec("Y", Datatype.FP32, (-1, 3))


def complete(
    pbtxt: str = "",
    inputs: tuple[TensorSpec, ...] = (X,),
    outputs: tuple[TensorSpec, ...] = (Y,),
    **rest: Any,
) -> ModelConfig:
    return autocomplete(parse_pbtxt(pbtxt, "config.pbtxt"), inputs, outputs, "m", where="m/config.pbtxt", **rest)


def problems_of(*arguments: Any, **rest: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidConfig) as caught:
        complete(*arguments, **rest)
    problems = caught.value.facts["problems"]
    assert all(problem["where"] == "m/config.pbtxt" for problem in problems)
    return [(problem["path"], problem["rule"]) for problem in problems]


def test_a_real_tritons_config_json() -> None:
    """As Triton 2.51.0 answers /v2/models/int_add/config, but for the backend, which was its Python one."""
    config = parse_pbtxt(
        """
        name: "int_add" backend: "onnxruntime" max_batch_size: 4
        input [ { name: "A" data_type: TYPE_INT32 dims: [ -1 ] }, { name: "B" } ]
        output [ { name: "SUM" data_type: TYPE_INT32 dims: [ -1 ] } ]
        dynamic_batching { max_queue_delay_microseconds: 100 }
        instance_group [ { kind: KIND_CPU count: 1 } ]
        """,
        "config.pbtxt",
    )
    tensors = {name: TensorSpec(name, Datatype.INT32, (-1, -1)) for name in ("A", "B", "SUM")}
    done = autocomplete(config, [tensors["A"], tensors["B"]], [tensors["SUM"]], "int_add")
    tensor = '"data_type":"TYPE_INT32","format":"FORMAT_NONE","dims":[-1],"is_shape_tensor":false,'
    tensor += '"allow_ragged_batch":false,"optional":false,"is_non_linear_format_io":false}'
    assert to_json(done) == (
        '{"name":"int_add","platform":"onnxruntime_onnx","backend":"onnxruntime","runtime":"",'
        '"version_policy":{"latest":{"num_versions":1}},"max_batch_size":4,'
        f'"input":[{{"name":"A",{tensor},{{"name":"B",{tensor}],'
        '"output":[{"name":"SUM","data_type":"TYPE_INT32","dims":[-1],"label_filename":"",'
        '"is_shape_tensor":false,"is_non_linear_format_io":false}],"batch_input":[],"batch_output":[],'
        '"optimization":{"priority":"PRIORITY_DEFAULT","input_pinned_memory":{"enable":true},'
        '"output_pinned_memory":{"enable":true},"gather_kernel_buffer_threshold":0,"eager_batching":false},'
        '"dynamic_batching":{"preferred_batch_size":[4],"max_queue_delay_microseconds":100,'
        '"preserve_ordering":false,"priority_levels":0,"default_priority_level":0,"priority_queue_policy":{}},'
        '"instance_group":[{"name":"int_add_0","kind":"KIND_CPU","count":1,"gpus":[],"secondary_devices":[],'
        '"profile":[],"passive":false,"host_policy":""}],"default_model_filename":"model.onnx",'
        '"cc_model_filenames":{},"metric_tags":{},"parameters":{},"model_warmup":[]}'
    )


def test_an_empty_configuration_is_filled_from_the_file() -> None:
    before = new_config()
    done = to_json_dict(autocomplete(before, [X], [Y], "m", defaults=Defaults(max_batch_size=8)))
    assert before == new_config()  # the argument is left alone
    assert (done["name"], done["platform"], done["backend"]) == ("m", "onnxruntime_onnx", "onnxruntime")
    assert done["max_batch_size"] == 8
    assert (done["input"][0]["name"], done["input"][0]["data_type"]) == ("X", "TYPE_FP32")
    assert (done["input"][0]["dims"], done["output"][0]["dims"]) == ([4], [3])
    assert done["dynamic_batching"]["preferred_batch_size"] == [8]
    assert done["instance_group"][0]["name"] == "m_0"
    assert done["default_model_filename"] == "model.onnx"


@pytest.mark.parametrize(
    ("shapes", "batches"),
    [
        ([(-1, 4), (-1, 3)], True),
        ([(-1,), (-1,)], True),
        ([(1, 4), (-1, 3)], False),
        ([(-1, 4), (3,)], False),
        ([(), (-1,)], False),
    ],
)
def test_a_file_batches_if_every_first_dimension_is_free(shapes: list[tuple[int, ...]], batches: bool) -> None:
    first, second = (TensorSpec(f"T{i}", Datatype.FP32, shape) for i, shape in enumerate(shapes))
    assert supports_batching([first], [second]) is batches
    assert not supports_batching([], [])
    done = autocomplete(new_config(), [first], [second], "m", defaults=Defaults(max_batch_size=4))
    assert done.max_batch_size == (4 if batches else 0)
    assert done.HasField("dynamic_batching") is batches


def test_declaring_whole_shapes_means_not_to_batch() -> None:
    done = complete('input { name: "X" dims: [-1, 4] }', defaults=Defaults(max_batch_size=4))
    assert (done.max_batch_size, list(done.output[0].dims)) == (0, [-1, 3])
    rows = complete('input { name: "X" dims: [4] }', defaults=Defaults(max_batch_size=4))
    assert rows.max_batch_size == 4


def test_a_row_without_dimensions_is_sent_as_one_and_reshaped() -> None:
    scalar = TensorSpec("X", Datatype.INT64, (-1,))
    done = complete("max_batch_size: 2", (scalar,))
    assert list(done.input[0].dims) == [1]
    assert to_json_dict(done)["input"][0]["reshape"] == {"shape": []}


def test_optional_inputs_stay_optional_and_may_be_left_out() -> None:
    extra = TensorSpec("E", Datatype.FP32, (-1, 1), optional=True)
    assert complete("", (X, extra)).input[1].optional
    assert len(complete('input { name: "X" }', (X, extra)).input) == 1


def test_an_output_may_be_declared_looser_than_the_runtime_infers_it() -> None:
    assert list(complete('max_batch_size: 4 output { name: "Y" data_type: TYPE_FP32 dims: -1 }').output[0].dims) == [3]


def test_outputs_may_be_a_part_of_the_files() -> None:
    other = TensorSpec("Z", Datatype.FP32, (-1, 1))
    assert [io.name for io in complete('output { name: "Z" }', outputs=(Y, other)).output] == ["Z"]


@pytest.mark.parametrize(
    ("pbtxt", "path", "rule"),
    [
        ('name: "n"', "name", "must be the name of the model's directory, 'm'"),
        (
            'default_model_filename: "../x"',
            "default_model_filename",
            "must stay inside the version's directory",
        ),
        (
            'default_model_filename: "/x"',
            "default_model_filename",
            "must stay inside the version's directory",
        ),
        (
            'backend: "onnxruntime" platform: "tensorrt_plan"',
            "platform",
            "must be 'onnxruntime_onnx' or empty",
        ),
        ("max_batch_size: -1", "max_batch_size", "must be 0 (does not batch) or more"),
        ('input { name: "x" }', "input[0].name", "the file has no such input"),
        ('output { name: "YY" }', "output[0].name", "the file has no such output; did you mean 'Y'?"),
        ('output [{ name: "Y" }, { name: "Y" }]', "output[1].name", "is declared twice"),
        (
            'input { name: "X" data_type: TYPE_FP64 }',
            "input[0].data_type",
            "the file's tensor 'X' is TYPE_FP32",
        ),
        (
            'max_batch_size: 4 input { name: "X" dims: [-1, 4] }',
            "input[0].dims",
            "the file's tensor 'X' is [4] per row",
        ),
        (
            'max_batch_size: 4 input { name: "X" dims: [5] }',
            "input[0].dims",
            "the file's tensor 'X' is [4] per row",
        ),
        (
            'max_batch_size: 4 input { name: "X" dims: [-1] }',
            "input[0].dims",
            "the file's tensor 'X' is [4] per row",
        ),
        ('input { name: "X" dims: [5] }', "input[0].dims", "the file's tensor 'X' is [-1, 4]"),
        (
            'input { name: "X" dims: [0, 4] }',
            "input[0].dims",
            "each dimension must be -1 (free) or at least 1, not 0",
        ),
        (
            'max_batch_size: 2 input { name: "X" dims: [2, 3] reshape { shape: [4] } }',
            "input[0].reshape.shape",
            "must hold as many elements",
        ),
        (
            'max_batch_size: 2 input { name: "X" dims: [6] reshape { shape: [2, 3] } }',
            "input[0].reshape.shape",
            "the file's tensor 'X' is [4] per row",
        ),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [8] }",
            "dynamic_batching.preferred_batch_size[0]",
            "must be between 1 and max_batch_size (4)",
        ),
        (
            "max_batch_size: 4 dynamic_batching { priority_levels: 2 }",
            "dynamic_batching.default_priority_level",
            "must be between 1 and priority_levels (2)",
        ),
        (
            "dynamic_batching { priority_levels: 2 priority_queue_policy { key: 3 } }",
            "dynamic_batching.priority_queue_policy[3]",
            "must be for a level between 1 and priority_levels (2)",
        ),
        (
            "dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
            "dynamic_batching.priority_levels",
            "must be at most 1 with preserve_ordering",
        ),
        (
            "dynamic_batching { preserve_ordering: true "  # noqa: ISC004
            "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 } }",
            "dynamic_batching.default_queue_policy.timeout_action",
            "must not be DELAY with preserve_ordering",
        ),
        ("version_policy { specific {} }", "version_policy.specific.versions", "must name versions"),
        (
            "version_policy { specific { versions: [0] } }",
            "version_policy.specific.versions",
            "must name versions",
        ),
        ("instance_group { count: -1 }", "instance_group[0].count", "must be 0 (the default) or more"),
        (
            "instance_group { kind: KIND_CPU gpus: 0 }",
            "instance_group[0].gpus",
            "must be empty with KIND_CPU",
        ),
        (
            "model_transaction_policy { decoupled: true } response_cache { enable: true }",
            "response_cache.enable",
            "must be false for a decoupled model",
        ),
    ],
)
def test_contradictions(pbtxt: str, path: str, rule: str) -> None:
    assert any(at == path and said.startswith(rule) for at, said in problems_of(pbtxt)), problems_of(pbtxt)


def test_every_disagreement_is_told_at_once() -> None:
    pbtxt = 'name: "n" max_batch_size: 4 input { name: "Q" } output { name: "Y" data_type: TYPE_BOOL dims: [9] }'
    assert [path for path, _ in problems_of(pbtxt)] == [
        "name",
        "input[0].name",
        "input",
        "output[0].data_type",
        "output[0].dims",
    ]


def test_a_file_with_a_fixed_first_dimension_says_how_to_batch() -> None:
    fixed = TensorSpec("X", Datatype.FP32, (1, 4))
    ((path, rule),) = problems_of("max_batch_size: 4", (fixed,))
    assert path == "max_batch_size"
    assert "'X' has shape [1, 4]" in rule
    assert "export it with a dynamic first axis" in rule


@pytest.mark.parametrize(
    ("pbtxt", "shape"),
    [
        ("dims: [2, 2] reshape { shape: [4] }", [4]),
        ("dims: [4]", None),
        ("dims: [1, 4] reshape { shape: [4] }", [4]),
    ],
)
def test_reshape(pbtxt: str, shape: list[int] | None) -> None:
    done = complete(f'max_batch_size: 2 input {{ name: "X" {pbtxt} }}')
    assert (list(done.input[0].reshape.shape) if done.input[0].HasField("reshape") else None) == shape


# --- defaults and overrides ----------------------------------------------------------------------------


def test_defaults_only_fill_gaps() -> None:
    defaults = Defaults(max_batch_size=64, max_queue_delay_us=500, preferred_batch_sizes=(2, 4, 99), instance_count=3)
    silent = complete("max_batch_size: 8", defaults=defaults)
    assert silent.max_batch_size == 8
    assert silent.dynamic_batching.max_queue_delay_microseconds == 500
    assert list(silent.dynamic_batching.preferred_batch_size) == [2, 4]
    assert silent.instance_group[0].count == 3
    said = complete(
        "max_batch_size: 8 instance_group { count: 1 } "
        "dynamic_batching { max_queue_delay_microseconds: 7 preferred_batch_size: 8 }",
        defaults=defaults,
    )
    assert said.dynamic_batching.max_queue_delay_microseconds == 7
    assert list(said.dynamic_batching.preferred_batch_size) == [8]
    assert said.instance_group[0].count == 1


def test_no_batcher_is_added_where_there_is_nothing_to_merge() -> None:
    assert not complete("max_batch_size: 1").HasField("dynamic_batching")
    assert not complete("max_batch_size: 8", defaults=Defaults(dynamic_batching=False)).HasField("dynamic_batching")
    assert not complete("max_batch_size: 8 sequence_batching {}").HasField("dynamic_batching")


def test_overrides_win() -> None:
    overrides = Overrides(
        max_batch_size=4,
        max_queue_delay_us=9,
        preferred_batch_sizes=(2,),
        instance_count=5,
        dynamic_batching=True,
    )
    pbtxt = (
        "max_batch_size: 8 instance_group [{ count: 1 }, { count: 2 }] "
        "dynamic_batching { preserve_ordering: true max_queue_delay_microseconds: 7 preferred_batch_size: 8 }"
    )
    done = complete(pbtxt, overrides=overrides)
    assert done.max_batch_size == 4
    assert done.dynamic_batching.preserve_ordering
    assert done.dynamic_batching.max_queue_delay_microseconds == 9
    assert list(done.dynamic_batching.preferred_batch_size) == [2]
    assert [group.count for group in done.instance_group] == [5]


def test_an_override_takes_the_batcher_away() -> None:
    defaults, overrides = Defaults(dynamic_batching=False), Overrides(dynamic_batching=False)
    done = complete("max_batch_size: 8 dynamic_batching {}", defaults=defaults, overrides=overrides)
    assert not done.HasField("dynamic_batching")


def test_an_override_does_not_replace_another_scheduler() -> None:
    done = complete("max_batch_size: 8 sequence_batching {}", overrides=Overrides(max_queue_delay_us=1))
    assert done.WhichOneof("scheduling_choice") == "sequence_batching"


@pytest.mark.parametrize(("gpu", "kind"), [(False, "KIND_CPU"), (True, "KIND_GPU")])
def test_kind_auto_becomes_what_there_is(gpu: bool, kind: str) -> None:
    assert to_json_dict(complete(defaults=Defaults(gpu=gpu)))["instance_group"][0]["kind"] == kind


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Datatype)), st.lists(st.sampled_from([-1, 1, 2, 3]), max_size=3)),
        min_size=1,
    ),
    st.integers(0, 64),
)
def test_completing_twice_changes_nothing(tensors: list[tuple[Datatype, list[int]]], size: int) -> None:
    inputs = [TensorSpec(f"T{i}", datatype, tuple(shape)) for i, (datatype, shape) in enumerate(tensors)]
    defaults = Defaults(max_batch_size=size)
    once = autocomplete(new_config(), inputs, inputs, "m", defaults=defaults)
    assert autocomplete(once, inputs, inputs, "m", defaults=defaults) == once
    json.loads(to_json(once))
