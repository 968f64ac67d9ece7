"""The services' schema: ours is everybody's, and stands in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from taxiway.config.model_config import POOL
from taxiway.server.wire.grpc import protos

ROOM = Path(protos.__file__).parent
PROTOS = sorted(ROOM.glob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_the_committed_descriptor_sets_are_the_protos(proto: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools compiles the .proto")
    from tools.compile_protos import compile_proto

    assert proto.with_suffix(".binpb").read_bytes() == compile_proto(proto), "run `python -m tools.compile_protos`"


def test_the_inference_service_is_tritonclients() -> None:
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2", reason="tritonclient[grpc]")
    their_file, our_file = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    theirs.DESCRIPTOR.CopyToProto(their_file)
    POOL.FindFileByName("inference.proto").CopyToProto(our_file)
    ours = set(_fields(our_file))
    assert ours >= set(_fields(their_file))
    added = {field[0] for field in ours - set(_fields(their_file))}
    assert {name.removesuffix(".PropertiesEntry") for name in added} == {"ModelMetadataResponse"}  # OIP's properties
    assert _methods(our_file) == _methods(their_file)


def _fields(file: descriptor_pb2.FileDescriptorProto) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []

    def visit(message: descriptor_pb2.DescriptorProto, prefix: str) -> None:
        name = f"{prefix}{message.name}"
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            found.append((name, field.name, field.number, field.type, field.label, field.type_name, oneof))
        for nested in message.nested_type:
            visit(nested, f"{name}.")

    for message in file.message_type:
        visit(message, "")
    return found


def _methods(file: descriptor_pb2.FileDescriptorProto) -> set[tuple[str, str, str, bool, bool]]:
    return {
        (method.name, method.input_type, method.output_type, method.client_streaming, method.server_streaming)
        for method in file.service[0].method
    }


@pytest.mark.parametrize("first", ["tritonclient.grpc", "taxiway.server.wire.grpc.protos"])
def test_d14_tritonclient_and_the_server_share_a_process(first: str) -> None:
    """tritonclient and KServe cannot be imported together: both register inference.ServerLiveRequest."""
    pytest.importorskip("tritonclient.grpc")
    second = {"tritonclient.grpc": "taxiway.server.wire.grpc.protos"}.get(first, "tritonclient.grpc")
    script = f"""
import importlib
importlib.import_module({first!r}), importlib.import_module({second!r})
from tritonclient.grpc import service_pb2
from taxiway.server.wire.grpc.protos import message_class
ours, theirs = message_class("inference.ModelInferRequest"), service_pb2.ModelInferRequest
one = ours(model_name="m", id="7", raw_input_contents=[b"abc"])
assert theirs.FromString(one.SerializeToString()).raw_input_contents[0] == b"abc"
assert ours is not theirs
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
