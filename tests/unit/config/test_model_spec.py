"""The plain form of a model's configuration, and what is refused on the way to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.config import model_spec
from taxiway.config.autocomplete import Defaults, autocomplete
from taxiway.config.model_config import parse_pbtxt
from taxiway.config.model_spec import (
    ModelSpec,
    QueuePolicy,
    TimeoutAction,
    VersionPolicy,
    WarmupData,
    WarmupInput,
    build_spec,
    refuse_unsupported,
)
from taxiway.core.errors import InvalidConfig, Unsupported
from taxiway.core.tensors import Datatype, TensorSpec

X = TensorSpec("X", Datatype.FP32, (-1, 4))
Y = TensorSpec("Y", Datatype.FP32, (-1, 3))


def spec_of(pbtxt: str, directory: Path = Path("/nowhere")) -> ModelSpec:
    config = parse_pbtxt(pbtxt, "config.pbtxt")
    return build_spec(autocomplete(config, [X], [Y], "m", defaults=Defaults(max_batch_size=8)), directory)


def problem_of(pbtxt: str, directory: Path) -> dict[str, Any]:
    with pytest.raises(InvalidConfig) as caught:
        spec_of(pbtxt, directory)
    assert str(directory) in caught.value.hint
    (problem,) = caught.value.facts["problems"]
    return dict(problem)


def test_the_spec_of_an_empty_configuration() -> None:
    spec = spec_of("")
    assert (spec.name, spec.platform, spec.backend) == ("m", "onnxruntime_onnx", "onnxruntime")
    assert spec.inputs == (TensorSpec("X", Datatype.FP32, (4,)),)
    assert spec.outputs == (TensorSpec("Y", Datatype.FP32, (3,)),)
    assert (spec.max_batch_size, spec.instance_count) == (8, 1)
    assert spec.dynamic_batching is not None
    assert spec.dynamic_batching.preferred_sizes == (8,)
    assert spec.version_policy == VersionPolicy(latest=1)
    assert (spec.warmup, spec.reshapes, spec.parameters, spec.ignored) == ((), {}, {}, ())
    assert not spec.decoupled
    assert not spec.response_cache


def test_the_spec_is_frozen() -> None:
    spec = spec_of("")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        spec.parameters["k"] = "v"  # type: ignore[index]


def test_all_of_the_batcher() -> None:
    spec = spec_of(
        """
        max_batch_size: 8
        dynamic_batching {
          preferred_batch_size: [8, 4, 4] max_queue_delay_microseconds: 100 priority_levels: 3
          default_priority_level: 2
          default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 max_queue_size: 6 }
          priority_queue_policy { key: 1 value { allow_timeout_override: true } }
        }
        """
    )
    batcher = spec.dynamic_batching
    assert batcher is not None
    assert (batcher.preferred_sizes, batcher.max_queue_delay_ns) == ((4, 8), 100_000)
    assert (batcher.priority_levels, batcher.default_priority_level) == (3, 2)
    default = QueuePolicy(TimeoutAction.DELAY, 5000, False, 6)
    assert batcher.policy_for(1) == QueuePolicy(allow_timeout_override=True)
    assert batcher.policy_for(2) == batcher.policy_for(3) == default


def test_the_rest_of_the_spec() -> None:
    spec = spec_of(
        """
        max_batch_size: 2
        input { name: "X" dims: [2, 2] reshape { shape: [4] } }
        instance_group [ { count: 2 }, { count: 3 }, { count: 9 passive: true } ]
        parameters { key: "k" value { string_value: "v" } }
        model_transaction_policy { decoupled: true }
        version_policy { specific { versions: [3, 1, 3] } }
        """
    )
    assert spec.inputs[0].shape == (2, 2)
    assert spec.reshapes == {"X": (4,)}
    assert spec.instance_count == 5
    assert spec.parameters == {"k": "v"}
    assert spec.decoupled
    assert spec.version_policy == VersionPolicy(specific=(1, 3))


@given(st.sets(st.integers(1, 99)), st.integers(0, 5), st.sets(st.integers(1, 99), max_size=3))
def test_version_policy_chooses_among_those_that_exist(versions: set[int], latest: int, named: set[int]) -> None:
    chosen = VersionPolicy(latest=latest, specific=tuple(sorted(named))).choose(versions)
    assert list(chosen) == sorted(chosen)
    assert set(chosen) <= versions
    if named:
        assert set(chosen) == named & versions
    elif latest:
        assert chosen == tuple(sorted(versions)[-latest:])
    else:
        assert set(chosen) == versions


# --- files beside the model ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "labels"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"cat\r\ndog", ("cat", "dog")),
        (b"cat\n\ndog\n", ("cat", "", "dog")),
        (b"\xef\xbb\xbfcat\n", ("cat",)),
        ("Käse\u2028x\n".encode(), ("Käse\u2028x",)),
        (b"", ()),
    ],
)
def test_labels_are_a_line_each(tmp_path: Path, raw: bytes, labels: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_bytes(raw)
    assert spec_of('output { name: "Y" label_filename: "labels.txt" }', tmp_path).outputs[0].labels == labels


@pytest.mark.parametrize(
    ("filename", "rule"),
    [
        ("none.txt", "no such file in the model's directory"),
        ("../secret", "must stay inside the model's directory"),
        ("/etc/passwd", "must stay inside the model's directory"),
        ("link", "must stay inside the model's directory"),
        (".", "no such file in the model's directory"),
        ("latin", "must be UTF-8"),
        ("large", "must be at most"),
    ],
)
def test_label_files_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filename: str, rule: str) -> None:
    monkeypatch.setattr(model_spec, "MAX_LABEL_BYTES", 10)
    directory = tmp_path / "m"
    directory.mkdir()
    (tmp_path / "secret").write_text("x")
    (directory / "link").symlink_to(tmp_path / "secret")
    (directory / "latin").write_bytes(b"\xff")
    (directory / "large").write_bytes(b"x" * 11)
    problem = problem_of(f'output {{ name: "Y" label_filename: "{filename}" }}', directory)
    assert problem["path"] == "output[0].label_filename"
    assert problem["rule"].startswith(rule)


def test_warmup_requests(tmp_path: Path) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "x.bin").write_bytes(b"1234")
    given_data = {
        "zero_data: true": "zero",
        "random_data: true": "random",
        'input_data_file: "x.bin"': "file",
        "": "zero",
    }
    for text, data in given_data.items():
        inputs = f'inputs {{ key: "X" value {{ data_type: TYPE_FP32 dims: [4] {text} }} }}'
        (request,) = spec_of(f'model_warmup {{ name: "w" batch_size: 2 count: 3 {inputs} }}', tmp_path).warmup
        assert (request.name, request.rows, request.runs) == ("w", 2, 3)
        file = tmp_path / "warmup" / "x.bin" if data == "file" else None
        assert request.inputs == {"X": WarmupInput(Datatype.FP32, (4,), WarmupData(data), file)}


@pytest.mark.parametrize(
    ("inputs", "path", "rule"),
    [
        ("", "model_warmup[0].inputs", "lacks inputs ['X']"),
        (
            "X data_type: TYPE_FP32 dims: [-1]",
            "model_warmup[0].inputs[X].dims",
            "each dimension must be at least 1",
        ),
        ("X dims: [4]", "model_warmup[0].inputs[X].data_type", "must be given"),
        (
            'X data_type: TYPE_FP32 dims: [4] input_data_file: "../../x"',
            "model_warmup[0].inputs[X].input_data_file",
            "must stay inside the model's directory",
        ),
    ],
)
def test_wrong_warmup_requests(tmp_path: Path, inputs: str, path: str, rule: str) -> None:
    name, _, value = inputs.partition(" ")
    entry = f'inputs {{ key: "{name}" value {{ {value} }} }}' if inputs else ""
    problem = problem_of(f"model_warmup {{ {entry} }}", tmp_path)
    assert problem["path"] == path
    assert problem["rule"].startswith(rule)


# --- what is not done ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pbtxt", "fields"),
    [
        ('ensemble_scheduling { step { model_namespace: "x" } }', ["ensemble_scheduling.step[0].model_namespace"]),
        ("sequence_batching { iterative_sequence: true }", ["sequence_batching.iterative_sequence"]),
        ('backend: "python" sequence_batching { state {} }', ["sequence_batching.state"]),
        ('backend: "dali"', ["backend"]),
        ('platform: "tensorrt_plan"', ["platform"]),
        ("batch_input {} batch_output {}", ["batch_input", "batch_output"]),
        ("input {} input { allow_ragged_batch: true }", ["input[1].allow_ragged_batch"]),
        ("output { is_shape_tensor: true }", ["output[0].is_shape_tensor"]),
        ("input { is_non_linear_format_io: true }", ["input[0].is_non_linear_format_io"]),
        ("instance_group { kind: KIND_GPU }", ["instance_group[0].kind"]),
        ("instance_group { kind: KIND_MODEL }", ["instance_group[0].kind"]),
        ('model_operations { op_library_filename: "x.so" }', ["model_operations.op_library_filename"]),
        ('model_repository_agents { agents { name: "checksum" } }', ["model_repository_agents"]),
        ('runtime: "x"', ["runtime"]),
        ('backend: "dali" batch_input {}', ["backend", "batch_input"]),
    ],
)
def test_what_is_not_done_is_refused_by_name(pbtxt: str, fields: list[str]) -> None:
    with pytest.raises(Unsupported) as caught:
        refuse_unsupported(parse_pbtxt(pbtxt, "config.pbtxt"), "fraud")
    assert "model 'fraud' asks" in caught.value.message
    assert caught.value.facts["fields"] == fields
    assert all(f"\n  {field}: " in caught.value.message for field in fields)
    assert caught.value.hint


@pytest.mark.parametrize("pbtxt", ["", 'backend: "onnxruntime" platform: "onnxruntime_onnx"', "dynamic_batching {}"])
def test_what_is_done_passes(pbtxt: str) -> None:
    refuse_unsupported(parse_pbtxt(pbtxt, "config.pbtxt"), "fraud")


def test_a_gpu_makes_kind_gpu_possible() -> None:
    refuse_unsupported(parse_pbtxt("instance_group { kind: KIND_GPU }", "config.pbtxt"), "fraud", gpu=True)


def test_hints_that_change_nothing_are_named() -> None:
    spec = spec_of(
        """
        metric_tags { key: "a" value: "b" } model_metrics {}
        optimization { priority: PRIORITY_MAX graph { level: 1 } cuda { graphs: true } }
        instance_group { host_policy: "h" rate_limiter {} }
        """
    )
    assert spec.ignored == (
        "metric_tags",
        "model_metrics",
        "optimization.graph",
        "optimization.cuda",
        "optimization.priority",
        "instance_group[0].rate_limiter",
        "instance_group[0].host_policy",
    )
