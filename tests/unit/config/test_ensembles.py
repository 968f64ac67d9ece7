"""Graphs of models: what is completed, and every rule that a wrong one breaks, all at once."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from tests.support.ensembles import graph, step, tensor

from taxiway.config.ensemble_spec import Need, read_ensemble
from taxiway.config.ensembles import complete_ensemble, with_labels
from taxiway.config.model_config import parse_pbtxt, to_json_dict
from taxiway.config.model_spec import ModelSpec, VersionPolicy, build_spec
from taxiway.core.errors import InvalidConfig
from taxiway.core.tensors import Datatype, Shape, TensorSpec

FP32, INT64 = Datatype.FP32, Datatype.INT64


def model(
    name: str,
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    *,
    rows: int = 8,
    kind: Datatype = FP32,
    decoupled: bool = False,
    optional: tuple[str, ...] = (),
) -> ModelSpec:
    return ModelSpec(
        name=name,
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        inputs=tuple(TensorSpec(key, kind, shape, key in optional) for key, shape in inputs.items()),
        outputs=tuple(TensorSpec(key, kind, shape) for key, shape in outputs.items()),
        max_batch_size=rows,
        dynamic_batching=None,
        instance_count=1,
        version_policy=VersionPolicy(latest=1),
        default_model_filename="",
        reshapes=MappingProxyType({}),
        parameters=MappingProxyType({}),
        warmup=(),
        decoupled=decoupled,
        response_cache=False,
        ignored=(),
    )


A = model("a", {"x": (2,)}, {"y": (2,)})
B = model("b", {"p": (2,), "q": (2,)}, {"r": (3,)}, rows=4)
CHAIN = (step("a", {"x": "IN"}, {"y": "mid"}), step("b", {"p": "mid", "q": "IN"}, {"r": "OUT"}))
ENDS = tensor("input", "IN") + tensor("output", "OUT", "3")


def complete(text: str, *peers: ModelSpec, name: str = "e") -> Any:
    config = parse_pbtxt(text, "config.pbtxt")
    known = {Need(peer.name): peer for peer in peers}
    return complete_ensemble(config, known, name, where="config.pbtxt")


def problems(text: str, *peers: ModelSpec) -> list[tuple[str, str]]:
    with pytest.raises(InvalidConfig) as caught:
        complete(text, *peers)
    return [(one["path"], one["rule"]) for one in caught.value.facts["problems"]]


def only(text: str, *peers: ModelSpec) -> tuple[str, str]:
    (problem,) = problems(text, *peers)
    return problem


# --- what is completed ---------------------------------------------------------------------------------


def test_a_graph_as_triton_takes_it_stays_as_it_is() -> None:
    config = to_json_dict(complete(graph(*CHAIN, declared="max_batch_size: 4\n" + ENDS), A, B))
    assert (config["name"], config["platform"], config["backend"]) == ("e", "ensemble", "")
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["max_batch_size"] == 4
    assert config["model_transaction_policy"] == {"decoupled": False}
    assert config["instance_group"] == []
    assert "optimization" not in config
    assert [one["model_name"] for one in config["ensemble_scheduling"]["step"]] == ["a", "b"]


def test_what_is_left_out_is_that_of_the_models() -> None:
    config = complete(graph(*CHAIN), A, B)
    assert config.max_batch_size == 4
    assert [(io.name, list(io.dims)) for io in config.input] == [("IN", [2])]
    assert [(io.name, list(io.dims)) for io in config.output] == [("OUT", [3])]


def test_where_one_model_does_not_batch_the_whole_does_not() -> None:
    whole = model("whole", {"x": (-1, 2)}, {"y": (3,)}, rows=0)
    steps = (step("a", {"x": "IN"}, {"y": "mid"}), step("whole", {"x": "mid"}, {"y": "OUT"}))
    config = complete(graph(*steps), A, whole)
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, 2]
    assert list(config.output[0].dims) == [3]


def test_the_plain_form_tells_steps_versions_and_limits() -> None:
    text = graph("max_inflight_requests: 3", step("a", {"x": "IN"}, {"y": "OUT"}, version=7))
    ensemble = read_ensemble(parse_pbtxt(text, "config.pbtxt"))
    assert ensemble is not None
    assert ensemble.needs == (Need("a", 7),)
    assert (str(ensemble.needs[0]), ensemble.max_inflight) == ("a:7", 3)
    assert ensemble.steps[0].inputs == {"x": "IN"}


def test_outputs_have_the_labels_of_the_models(tmp_path: Any) -> None:
    labelled = replace(B, outputs=(replace(B.outputs[0], labels=("cat", "dog", "cow")),))
    spec = build_spec(complete(graph(*CHAIN), A, labelled), tmp_path)
    peers = {Need("a"): A, Need("b"): labelled}
    assert with_labels(spec, peers).outputs[0].labels == ("cat", "dog", "cow")


def test_a_model_may_stand_in_a_graph_twice() -> None:
    twice = (step("a", {"x": "IN"}, {"y": "mid"}), step("a", {"x": "mid"}, {"y": "OUT"}))
    assert len(complete(graph(*twice), A).ensemble_scheduling.step) == 2


def test_shapes_may_agree_as_rows_or_as_wholes() -> None:
    whole = model("whole", {"x": (-1, 2)}, {"y": (-1, 2)}, rows=0)
    steps = (step("a", {"x": "IN"}, {"y": "mid"}), step("whole", {"x": "mid"}, {"y": "OUT"}))
    assert complete(
        graph(*steps, declared="max_batch_size: 8\n" + tensor("input", "IN") + tensor("output", "OUT")), A, whole
    )


def test_an_optional_input_may_be_left_out() -> None:
    optional = replace(B, inputs=(B.inputs[0], replace(B.inputs[1], optional=True)))
    assert complete(graph(step("b", {"p": "IN"}, {"r": "OUT"})), optional)


# --- what is wrong -------------------------------------------------------------------------------------


def test_everything_is_told_at_once() -> None:
    text = graph(
        step("a", {"x": "IN", "z": "IN"}, {"y": "mid"}),
        step("b", {"p": "mid"}, {"r": "mid"}),
        step("gone", {"x": "nowhere"}, {"y": "unused"}),
        declared=ENDS + "instance_group { count: 2 }\n",
    )
    assert [path for path, _ in problems(text, A, B)] == [
        "instance_group",
        "ensemble_scheduling.step[1].output_map[r]",
        "output[0].name",
        "ensemble_scheduling.step[2].input_map[x]",
        "ensemble_scheduling.step[2].output_map[y]",
        "ensemble_scheduling.step[2].model_name",
        "ensemble_scheduling.step[0].input_map",
        "ensemble_scheduling.step[1].input_map",
        "ensemble_scheduling.step[1].output_map[r]",
    ]


@pytest.mark.parametrize(
    ("text", "path", "rule"),
    [
        ('platform: "ensemble"', "ensemble_scheduling.step", "must name the models"),
        (graph(), "ensemble_scheduling.step", "must name the models"),
        (graph(*CHAIN).replace('"ensemble"', '"onnxruntime_onnx"'), "platform", "must be 'ensemble'"),
        (graph(*CHAIN, more='backend: "python"'), "backend", "must be 'ensemble'"),
        (graph(*CHAIN, more="optimization {}"), "optimization", "must be left out"),
        (graph(*CHAIN, more="model_warmup {}"), "model_warmup", "must be left out"),
        (graph(*CHAIN, more='name: "other"'), "name", "must be the name of the model's directory"),
        (graph(*CHAIN, more="max_batch_size: -1"), "max_batch_size", "must be 0"),
        (graph(*CHAIN, declared=ENDS + tensor("input", "MORE")), "input[1].name", "is read by no step"),
        (graph(*CHAIN, declared=ENDS + tensor("output", "MORE")), "output[1].name", "is written by no step"),
        (
            graph(*CHAIN, declared="max_batch_size: 6\n" + ENDS),
            "ensemble_scheduling.step[1].model_name",
            "takes at most 4",
        ),
        (
            graph(step("a", {"x": "IN"}, {"y": "OUT", "z": "MORE"})),
            "ensemble_scheduling.step[0].output_map",
            "model a has no such output",
        ),
        (
            graph(step("b", {"p": "IN"}, {"r": "OUT"})),
            "ensemble_scheduling.step[0].input_map",
            "lacks input 'q' of model b",
        ),
        (
            graph(*CHAIN, declared=ENDS.replace("FP32", "INT64", 1)),
            "ensemble_scheduling.step[0].input_map[x]",
            "is TYPE_FP32 for",
        ),
        (
            graph(step("a", {"x": "IN"}, {"y": "OUT"}, version=-2)),
            "ensemble_scheduling.step[0].model_version",
            "must be a version",
        ),
    ],
)
def test_a_broken_rule_is_told(text: str, path: str, rule: str) -> None:
    told = problems(text, A, B)
    assert told[0][0] == path
    assert told[0][1].startswith(rule)


def test_a_step_without_maps_is_told() -> None:
    told = dict(problems('platform: "ensemble" ensemble_scheduling { step { model_name: "a" } }', A))
    assert {"ensemble_scheduling.step[0].input_map", "ensemble_scheduling.step[0].output_map"} <= told.keys()


def test_shapes_that_do_not_meet_are_told_with_both() -> None:
    path, rule = only(
        graph(step("b", {"p": "IN", "q": "IN"}, {"r": "mid"}), step("a", {"x": "mid"}, {"y": "OUT"})), A, B
    )
    assert path == "ensemble_scheduling.step[1].input_map[x]"
    assert rule == "has shape [-1, 2] for model a, and [-1, 3] for model b"


def test_a_circle_is_told_with_its_way() -> None:
    round_ = (step("b", {"p": "IN", "q": "back"}, {"r": "on"}), step("a", {"x": "on"}, {"y": "back"}))
    told = problems(graph(*round_, declared=tensor("input", "IN") + tensor("output", "on", "3")), A, B)
    assert ("ensemble_scheduling.step", "go round in a circle: 0 (b) -> 1 (a) -> 0 (b)") in told


# --- answers in parts ----------------------------------------------------------------------------------

PARTS = model("parts", {"x": (2,)}, {"y": (2,)}, decoupled=True)


def test_a_model_that_answers_in_parts_makes_the_whole_do_so() -> None:
    config = complete(graph(step("parts", {"x": "IN"}, {"y": "mid"}), step("a", {"x": "mid"}, {"y": "OUT"})), A, PARTS)
    assert config.model_transaction_policy.decoupled


def test_whole_tensors_and_parts_do_not_mix() -> None:
    steps = (step("parts", {"x": "IN"}, {"y": "mid"}), step("b", {"p": "mid", "q": "IN"}, {"r": "OUT"}))
    path, rule = only(graph(*steps), B, PARTS)
    assert path == "ensemble_scheduling.step[1].input_map"
    assert rule.startswith("reads tensors that come in the parts of different models")


def test_outputs_come_in_the_same_parts() -> None:
    steps = (step("parts", {"x": "IN"}, {"y": "OUT"}), step("a", {"x": "IN"}, {"y": "MORE"}))
    assert only(graph(*steps), A, PARTS)[0] == "output"


def test_answers_in_parts_are_not_cached() -> None:
    text = graph(step("parts", {"x": "IN"}, {"y": "OUT"}), more="response_cache { enable: true }")
    assert only(text, PARTS)[0] == "response_cache.enable"
