"""Triton's ModelConfig: read, printed, and kept apart from everyone else's copy of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from taxiway.config import model_config
from taxiway.config.model_config import (
    DATATYPES,
    TYPE_NAMES,
    ModelConfig,
    from_json,
    new_config,
    parse_pbtxt,
    to_json,
    to_json_dict,
    to_pbtxt,
)
from taxiway.core.errors import InvalidConfig
from taxiway.core.tensors import Datatype

ROOM = Path(model_config.__file__).parent


# --- the schema ----------------------------------------------------------------------------------------


def test_the_committed_descriptor_set_is_the_protos() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools compiles the .proto")
    from tools.compile_protos import compile_proto

    committed = (ROOM / "model_config.binpb").read_bytes()
    assert committed == compile_proto(ROOM / "model_config.proto"), "run `python -m tools.compile_protos`"


def test_the_proto_has_every_field_of_tritonclients() -> None:
    pytest.importorskip("grpc", reason="without grpcio, tritonclient.grpc raises something else")
    theirs = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc]")
    their_file = descriptor_pb2.FileDescriptorProto()
    theirs.DESCRIPTOR.CopyToProto(their_file)
    ours = descriptor_pb2.FileDescriptorSet.FromString((ROOM / "model_config.binpb").read_bytes()).file[0]
    assert described(ours) == described(their_file)


def described(file: descriptor_pb2.FileDescriptorProto) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()

    def visit(message: descriptor_pb2.DescriptorProto, prefix: str) -> None:
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            kind = (field.label, field.type, field.type_name, oneof)
            found.add((f"{prefix}.{message.name}.{field.name}", field.number, *kind))
        for enum in message.enum_type:
            found.update((f"{prefix}.{message.name}.{enum.name}", v.name, v.number) for v in enum.value)
        for nested in message.nested_type:
            visit(nested, f"{prefix}.{message.name}")

    for message in file.message_type:
        visit(message, file.package)
    for enum in file.enum_type:
        found.update((enum.name, value.name, value.number) for value in enum.value)
    return found


@pytest.mark.parametrize("ours_first", [True, False])
def test_tritonclient_lives_in_the_same_process(ours_first: bool) -> None:
    pytest.importorskip("grpc", reason="without grpcio, tritonclient.grpc raises something else")
    pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc]")
    both = ["import taxiway.config.model_config", "import tritonclient.grpc.model_config_pb2"]
    code = "; ".join(both if ours_first else reversed(both))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_nothing_is_added_to_the_default_pool() -> None:
    code = (
        "import taxiway.config.model_config\n"
        "from google.protobuf import descriptor_pool\n"
        "try: descriptor_pool.Default().FindMessageTypeByName('inference.ModelConfig')\n"
        "except KeyError: raise SystemExit(0)\n"
        "raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_datatypes_are_all_named() -> None:
    names = set(new_config().input.add().DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name)
    assert set(DATATYPES) == names - {"TYPE_INVALID"}
    assert set(TYPE_NAMES) == set(Datatype)
    assert DATATYPES["TYPE_STRING"] is Datatype.BYTES
    assert TYPE_NAMES[Datatype.FP32] == "TYPE_FP32"


# --- printing ------------------------------------------------------------------------------------------

EMPTY = {
    "name": "",
    "platform": "",
    "backend": "",
    "runtime": "",
    "max_batch_size": 0,
    "input": [],
    "output": [],
    "batch_input": [],
    "batch_output": [],
    "instance_group": [],
    "default_model_filename": "",
    "cc_model_filenames": {},
    "metric_tags": {},
    "parameters": {},
    "model_warmup": [],
}


def test_an_empty_configuration_prints_its_primitives() -> None:
    assert list(to_json_dict(new_config()).items()) == list(EMPTY.items())


@pytest.mark.parametrize(
    ("pbtxt", "field", "printed"),
    [
        ("version_policy { latest { num_versions: 2 } }", "version_policy", {"latest": {"num_versions": 2}}),
        ("version_policy { all {} }", "version_policy", {"all": {}}),
        (
            "version_policy { specific { versions: [9007199254740993] } }",
            "version_policy",
            {"specific": {"versions": [9007199254740993]}},
        ),
        ('parameters { key: "k" value { string_value: "v" } }', "parameters", {"k": {"string_value": "v"}}),
        (
            'metric_tags { key: "b" value: "2" } metric_tags { key: "a" value: "1" }',
            "metric_tags",
            {"a": "1", "b": "2"},
        ),
        ("response_cache { enable: true }", "response_cache", {"enable": True}),
        ("response_cache {}", "response_cache", {"enable": False}),
        (
            "sequence_batching { direct { minimum_slot_utilization: 0.1 } }",
            "sequence_batching",
            {
                "direct": {"max_queue_delay_microseconds": 0, "minimum_slot_utilization": 0.1},
                "max_sequence_idle_microseconds": 0,
                "control_input": [],
                "state": [],
                "iterative_sequence": False,
            },
        ),
        (
            'model_warmup { name: "w" inputs { key: "x" value { dims: 3 zero_data: false } } }',
            "model_warmup",
            [
                {
                    "name": "w",
                    "batch_size": 0,
                    "inputs": {"x": {"data_type": "TYPE_INVALID", "dims": [3], "zero_data": False}},
                    "count": 0,
                }
            ],
        ),
        (
            "instance_group { secondary_devices { device_id: 4294967296 } }",
            "instance_group",
            [
                {
                    "name": "",
                    "kind": "KIND_AUTO",
                    "count": 0,
                    "gpus": [],
                    "secondary_devices": [{"kind": "KIND_NVDLA", "device_id": 4294967296}],
                    "profile": [],
                    "passive": False,
                    "host_policy": "",
                }
            ],
        ),
        (
            "model_metrics { metric_control { histogram_options { buckets: [0.1, 5, inf] } } }",
            "model_metrics",
            {"metric_control": [{"histogram_options": {"buckets": [0.1, 5.0, "Infinity"]}}]},
        ),
        (
            "dynamic_batching { priority_queue_policy { key: 2 value { timeout_action: DELAY } } }",
            "dynamic_batching",
            {
                "preferred_batch_size": [],
                "max_queue_delay_microseconds": 0,
                "preserve_ordering": False,
                "priority_levels": 0,
                "default_priority_level": 0,
                "priority_queue_policy": {
                    "2": {
                        "timeout_action": "DELAY",
                        "default_timeout_microseconds": 0,
                        "allow_timeout_override": False,
                        "max_queue_size": 0,
                    }
                },
            },
        ),
    ],
)
def test_printed_fields(pbtxt: str, field: str, printed: object) -> None:
    message = parse_pbtxt(pbtxt, "config.pbtxt")
    assert to_json_dict(message)[field] == printed
    assert from_json(to_json(message)) == message


def test_numbers_may_be_given_as_text_as_protobuf_prints_them() -> None:
    assert list(from_json('{"input": [{"dims": ["3", 4]}]}').input[0].dims) == [3, 4]
    assert from_json('{"maxBatchSize": 3}').max_batch_size == 3


# --- what is written is read back ----------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def _value_of(field: Any) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    sizes = {
        field.TYPE_INT32: st.integers(-(1 << 31), (1 << 31) - 1),
        field.TYPE_UINT32: st.integers(0, (1 << 32) - 1),
        field.TYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
        field.TYPE_UINT64: st.integers(0, (1 << 64) - 1),
        field.TYPE_BOOL: st.booleans(),
        field.TYPE_STRING: _TEXT,
        field.TYPE_FLOAT: st.floats(width=32, allow_nan=False),
        field.TYPE_DOUBLE: st.floats(allow_nan=False),
    }
    return sizes[field.type]


def _fill(message: ModelConfig, data: st.DataObject) -> None:
    """Set some of the fields, of any kind, to anything."""
    known = list(message.DESCRIPTOR.fields)
    indices = st.lists(st.integers(0, len(known) - 1), max_size=5, unique=True) if known else st.just([])
    for field in [known[index] for index in data.draw(indices)]:
        name, repeated = field.name, field.full_name in model_config._REPEATED
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key = data.draw(_value_of(field.message_type.fields_by_name["key"]))
            inner = field.message_type.fields_by_name["value"]
            if inner.message_type is not None:
                _fill(getattr(message, name)[key], data)
            else:
                getattr(message, name)[key] = data.draw(_value_of(inner))
        elif field.message_type is not None:
            getattr(message, name).add() if repeated else getattr(message, name).SetInParent()
            _fill(getattr(message, name)[0] if repeated else getattr(message, name), data)
        elif repeated:
            getattr(message, name).extend(data.draw(st.lists(_value_of(field), max_size=3)))
        else:
            setattr(message, name, data.draw(_value_of(field)))


@given(st.data())
def test_pbtxt_to_json_to_pbtxt_keeps_everything(data: st.DataObject) -> None:
    message = new_config()
    _fill(message, data)
    read = parse_pbtxt(to_pbtxt(message), "config.pbtxt")
    assert read == message
    back = from_json(to_json(read))
    assert back == message
    assert to_json(back) == to_json(message)
    json.loads(to_json(message), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


# --- what cannot be read -------------------------------------------------------------------------------


def refused(text: str, *, as_json: bool = False) -> dict[str, Any]:
    with pytest.raises(InvalidConfig) as caught:
        from_json(text, "body") if as_json else parse_pbtxt(text, "m/config.pbtxt")
    (problem,) = caught.value.facts["problems"]
    return dict(problem)


@pytest.mark.parametrize(
    ("text", "where", "rule"),
    [
        ('name: "x"\nmax_bach_size: 3', ":2:1", "did you mean 'max_batch_size'?"),
        ("input [ {\n  data_type: TYPE_FP31 } ]", ":2:14", "did you mean 'TYPE_FP32'?"),
        ("max_batch_size: 99999999999", ":1:17", "out of range"),
        ("max_batch_size: eight", ":1:17", "eight"),
        ('name: "x', ":1:7", "missing ending quote"),
        ("dynamic_batching {", ":1:18", "expected"),
        ('name: "a" name: "b"', ":1:17", "should not have multiple"),
        ("dynamic_batching {} sequence_batching {}", "", "another member of oneof"),
        ("{", ":1:1", "expected"),
    ],
)
def test_text_format_errors_name_line_and_column(text: str, where: str, rule: str) -> None:
    problem = refused(text)
    assert problem["where"].startswith("m/config.pbtxt" + where)
    assert rule.lower() in problem["rule"].lower()


def test_enum_numbers_without_a_name_are_refused() -> None:
    problem = refused("instance_group { kind: KIND_CPU } instance_group { kind: 9 }")
    assert problem["path"] == "instance_group[1].kind"
    assert problem["rule"] == "must be one of KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL"
    nested = refused("dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: 5 } } }")
    assert nested["path"] == "dynamic_batching.priority_queue_policy[1].timeout_action"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"max_bach_size": 3}', "did you mean 'max_batch_size'?"),
        ('{"input": [{"data_type": "TYPE_FP31"}]}', "did you mean 'TYPE_FP32'?"),
        ('{"input": [{"data_type": 99}]}', "must be one of TYPE_INVALID, TYPE_BOOL"),
        ('{"max_batch_size": 1.5}', "max_batch_size"),
        ('{"name": 5}', "name"),
        ('{"name": "a", "name": "b"}', "'name' is given twice"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("", "Expecting value"),
        ('{"a', "Unterminated string"),
        ("[" * 100_000, "nests too deep"),
        (" " * (model_config.MAX_TEXT_CHARS + 1), "must be at most 4194304 characters"),
    ],
)
def test_json_errors(text: str, rule: str) -> None:
    problem = refused(text, as_json=True)
    assert rule in problem["rule"]
    assert problem["where"] == "body"
    assert "\n" not in problem["rule"]


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    for read in (parse_pbtxt, from_json):
        with contextlib.suppress(InvalidConfig):
            read(text, "t")
