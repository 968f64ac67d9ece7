"""The messages of the gRPC services, in the descriptor pool that ModelConfig lives in.

tritonclient's, KServe's and MLServer's generated code all claim the same names in the default pool, and whoever comes
second there cannot be imported at all; nothing of ours is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any, Final, TypeAlias

from google.protobuf import descriptor_pb2, message_factory

from taxiway.config.model_config import POOL

Message: TypeAlias = Any
"""A message of the private pool; mypy cannot see fields of a class made at run time."""

MessageClass: TypeAlias = Any
"""Its class."""

INFERENCE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = "grpc.reflection.v1.ServerReflection"
REFLECTION_ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"

_SETS = ("inference", "health", "reflection_v1", "reflection_v1alpha")


def _files() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    folder = resources.files("taxiway.server.wire.grpc")
    for name in _SETS:
        content = folder.joinpath(f"{name}.binpb").read_bytes()
        yield from descriptor_pb2.FileDescriptorSet.FromString(content).file


for _file in _files():
    POOL.Add(_file)


def message_class(name: str) -> MessageClass:
    """The class of the message with this full name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


def request_class(service: str, method: str) -> MessageClass:
    """The class of what `method` is sent."""
    return message_factory.GetMessageClass(POOL.FindServiceByName(service).methods_by_name[method].input_type)


def method_names(service: str) -> list[str]:
    """The methods of a service, in the order of its .proto."""
    return [method.name for method in POOL.FindServiceByName(service).methods]
