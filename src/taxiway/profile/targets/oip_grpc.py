"""Servers of the Open Inference Protocol v2 over gRPC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import json_format

from taxiway.core.errors import InvalidArgument, ModelNotFound
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.phases import Counters, counters_of
from taxiway.profile.requests import Request
from taxiway.profile.resources import listener_of
from taxiway.profile.targets.asking import Address, unavailable
from taxiway.profile.targets.inputs import Shapes, made_up
from taxiway.profile.targets.oip_http import inputs_of
from taxiway.profile.targets.rendering import raw_tensor
from taxiway.profile.workload import Workload
from taxiway.server.wire.grpc.protos import INFERENCE, Message, message_class, request_class

_PATH: Final = re.compile(r"/(?:v2/models/)?(?P<model>[^/?]+)(?:/(?:versions/)?(?P<version>[^/?]+))?")
_METADATA_NAME: Final = re.compile(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)")
_METADATA_VALUE: Final = re.compile(r"[ -~]*")
_TIMEOUT_S: Final = 10.0


class OipGrpcTarget:
    """A model behind `grpc://host:port/NAME[/VERSION]`; see `Target`.

    Args:
        address: with that path.
        headers: of each call, as metadata.
        shapes: of inputs that are made up.

    Raises:
        InvalidArgument: the path names no model, or a header cannot be sent.
    """

    def __init__(self, address: Address, headers: Mapping[str, str], shapes: Shapes | None = None) -> None:
        match = _PATH.fullmatch(address.path)
        if match is None:
            raise InvalidArgument(f"{address.path!r} names no model", hint="grpc://127.0.0.1:8001/fraud")
        self._address = address
        self._model = match["model"]
        self._version = match["version"] or ""
        self._headers = _metadata(headers)
        self._shapes = shapes or {}
        self._metadata: Mapping[str, Any] = {}
        self.name = f"{address.scheme}://{address.host_header}{address.path}"

    async def open(self) -> None:
        """Ask what the model takes."""
        asked = request_class(INFERENCE, "ModelMetadata")(name=self._model, version=self._version)
        try:
            self._metadata = _plain(await self._call("ModelMetadata", asked, "inference.ModelMetadataResponse"))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise ModelNotFound(error.details() or self._model, hint="check the model's name") from None
            raise unavailable(self._address, error.details() or error.code().name) from None

    async def close(self) -> None:
        """Nothing was started."""

    @property
    def door(self) -> Door:
        """The server's."""
        return Door(self._address.host, self._address.port, self._address.tls, method=f"/{INFERENCE}/ModelInfer")

    def render(self, workload: Workload | None) -> list[Shot]:
        """A ModelInferRequest with raw contents for each request."""
        if workload is None:
            requests = [Request(inputs=inputs) for inputs in made_up(self._metadata, self._shapes)]
        else:
            requests = workload.requests
        return [self._shot(inputs_of(one, number), one.headers) for number, one in enumerate(requests, 1)]

    async def counters(self) -> Counters | None:
        """Triton's statistics, an extension that not every server has."""
        asked = request_class(INFERENCE, "ModelStatistics")(name=self._model, version=self._version)
        try:
            return counters_of(_plain(await self._call("ModelStatistics", asked, "inference.ModelStatisticsResponse")))
        except grpc.aio.AioRpcError:
            return None

    def process(self) -> int | None:
        """Whoever listens on the port."""
        return listener_of(self._address.host, self._address.port)

    async def _call(self, method: str, asked: Message, answer: str) -> Message:
        where = self._address.host_header
        secure = grpc.aio.secure_channel(where, grpc.ssl_channel_credentials()) if self._address.tls else None
        async with secure or grpc.aio.insecure_channel(where) as channel:
            call: Any = channel.unary_unary(f"/{INFERENCE}/{method}", None, message_class(answer).FromString)
            return await call(asked.SerializeToString(), timeout=_TIMEOUT_S, metadata=self._headers)

    def _shot(self, inputs: list[dict[str, Any]], headers: Mapping[str, str]) -> Shot:
        message = request_class(INFERENCE, "ModelInfer")(model_name=self._model, model_version=self._version)
        for one in inputs:
            tensor = message.inputs.add()
            tensor.name, tensor.datatype = one["name"], one["datatype"]
            tensor.shape.extend(one["shape"])
            message.raw_input_contents.append(raw_tensor(one))
        return Shot(message.SerializeToString(), self._headers + _metadata(headers))


def _metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers as gRPC carries them.

    Raises:
        InvalidArgument: one cannot be carried.
    """
    for name, value in headers.items():
        if not _METADATA_NAME.fullmatch(name.lower()) or not _METADATA_VALUE.fullmatch(value):
            raise InvalidArgument(
                f"header {name!r} cannot be given: it is {value!r}, and gRPC has letters, digits and -_. in names, no "
                "binary ones (-bin) here, and one line of ASCII in values",
                hint="percent-encode or base64 what is beyond that, as its reader expects",
                name=name,
            )
    return tuple((name.lower(), value) for name, value in headers.items())


def _plain(message: Message) -> Mapping[str, Any]:
    """As the JSON of HTTP has it, but for integers of 64 bits, which are text."""
    told: Mapping[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return told
