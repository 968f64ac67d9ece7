"""Calls over gRPC with the server's own messages, as any generated client would make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import message_factory

from taxiway.config.model_config import POOL
from taxiway.server.wire.grpc.protos import HEALTH, INFERENCE, Message, message_class

PATIENCE_S = 20.0
Request = message_class("inference.ModelInferRequest")
StreamResponse = message_class("inference.ModelStreamInferResponse")


class Channel:
    """One connection to a server, and the methods of its services."""

    def __init__(self, address: str, *options: tuple[str, int | str]) -> None:
        own: list[tuple[str, int | str]] = [("grpc.use_local_subchannel_pool", 1), *options]
        self.channel = grpc.insecure_channel(address, options=own)

    def method(self, name: str, service: str = INFERENCE) -> Any:
        """The method as grpcio lets it be called; serializes and parses."""
        described = POOL.FindServiceByName(service).methods_by_name[name]
        request = message_factory.GetMessageClass(described.input_type)
        response = message_factory.GetMessageClass(described.output_type)
        kind = (described.client_streaming, described.server_streaming)
        made = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, True): self.channel.stream_stream,
        }[kind]
        return made(f"/{service}/{name}", request.SerializeToString, response.FromString)

    def call(self, name: str, message: Message, service: str = INFERENCE, **options: Any) -> Message:
        """One call, to its answer."""
        return self.method(name, service)(message, timeout=PATIENCE_S, **options)

    def ask(self, name: str, /, **fields: Any) -> Message:
        """One call of the inference service with these fields."""
        described = POOL.FindServiceByName(INFERENCE).methods_by_name[name]
        return self.call(name, message_factory.GetMessageClass(described.input_type)(**fields))

    def health(self, service: str = "") -> str:
        """The status that Check tells."""
        answer = self.call("Check", message_class("grpc.health.v1.HealthCheckRequest")(service=service), HEALTH)
        return str(type(answer).ServingStatus.Name(answer.status))

    def close(self) -> None:
        """Hang up."""
        self.channel.close()


@dataclass
class Refusal:
    """What a caller was told with a status other than OK."""

    details: str = ""
    trailers: dict[str, Any] = field(default_factory=dict)


@contextmanager
def refused(*codes: grpc.StatusCode) -> Iterator[Refusal]:
    """The block's call must end with one of these statuses; what else it was told is known after the block."""
    told = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield told
    error: Any = caught.value
    assert error.code() in codes, error
    told.details = error.details()
    told.trailers = dict(error.trailing_metadata())


@contextmanager
def connected(address: str, *options: tuple[str, int]) -> Iterator[Channel]:
    """A connection for the length of the block."""
    channel = Channel(address, *options)
    try:
        yield channel
    finally:
        channel.close()


def infer_request(model: str, *inputs: tuple[str, Any], **fields: Any) -> Message:
    """A ModelInferRequest with raw contents; each input is a name and an array."""
    message = Request(model_name=model, **fields)
    for name, values in inputs:
        array = np.asarray(values)
        kind = {"f": "FP", "i": "INT", "u": "UINT"}[array.dtype.kind]
        message.inputs.add(name=name, datatype=f"{kind}{array.dtype.itemsize * 8}", shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return message


def output_of(answer: Message, index: int = 0, dtype: str = "<f4") -> Any:
    """An output's elements in its shape."""
    shape: Sequence[int] = answer.outputs[index].shape
    return np.frombuffer(answer.raw_output_contents[index], dtype).reshape(shape).tolist()
