"""Compile every .proto of taxiway into a descriptor set beside it (`NAME.binpb`), which is committed.

    python -m tools.compile_protos

A descriptor set instead of generated code: it is data without a version of its own, so any protobuf runtime
reads it, and it can be loaded into a descriptor pool of ours. Needs grpcio-tools (group `lint`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

SOURCES = Path(__file__).parent.parent / "src" / "taxiway"
IMPORTED = SOURCES / "config"
"""Where model_config.proto is, which others import by that name."""


def compile_proto(proto: Path) -> bytes:
    """The serialized FileDescriptorSet of one .proto, without comments, positions and what it imports.

    Raises:
        RuntimeError: protoc refused it; what it said is on standard error.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped] # noqa: PLC0415 - absent outside development

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.binpb"
        folders = dict.fromkeys((proto.parent, IMPORTED))
        paths = [f"-I{folder}" for folder in folders]
        status = protoc.main(["protoc", *paths, f"--descriptor_set_out={out}", str(proto)])
        if status != 0:
            raise RuntimeError(f"protoc refused {proto} with status {status}")
        descriptors = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    for file in descriptors.file:
        for message in file.message_type:
            _drop_json_names(message)
    return descriptors.SerializeToString(deterministic=True)


def _drop_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """Drop the camelCase names of protoc, which the runtime derives itself and some versions leave out."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _drop_json_names(nested)


def main() -> None:
    """Write each descriptor set beside its .proto."""
    for proto in sorted(SOURCES.rglob("*.proto")):
        target = proto.with_suffix(".binpb")
        target.write_bytes(compile_proto(proto))
        print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
