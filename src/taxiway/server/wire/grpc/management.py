"""Health, metadata, configuration, statistics and the repository over gRPC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import json_format

from taxiway.config.model_config import POOL
from taxiway.core.errors import InvalidArgument, ModelNotFound, Unsupported
from taxiway.server.administration import Administration
from taxiway.server.wire.grpc.extensions import Extensions
from taxiway.server.wire.grpc.infer import version_of
from taxiway.server.wire.grpc.infer_requests import parameter_value
from taxiway.server.wire.grpc.protos import Message, message_class
from taxiway.server.wire.grpc.shared_memory import SharedMemoryService
from taxiway.server.wire.grpc.unary import Method, always
from taxiway.server.wire.status import Profile


def _class(name: str) -> Any:  # noqa: ANN401 - a message's class
    return message_class(f"inference.{name}")


_ServerLive = _class("ServerLiveResponse")
_ServerReady = _class("ServerReadyResponse")
_ModelReady = _class("ModelReadyResponse")
_ServerMetadata = _class("ServerMetadataResponse")
_ModelMetadata = _class("ModelMetadataResponse")
_ModelConfig = _class("ModelConfigResponse")
_Statistics = _class("ModelStatisticsResponse")
_Index = _class("RepositoryIndexResponse")
_Loaded = _class("RepositoryModelLoadResponse")
_Unloaded = _class("RepositoryModelUnloadResponse")
_FILE = "file:"
_DEPENDENTS = "unload_dependents"


class ManagementService:
    """Everything about the server and its models that is not inference."""

    def __init__(self, administration: Administration, profile: Profile) -> None:
        self._administration = administration
        self._profile = profile

    def methods(self) -> Iterator[Method]:
        """All of it, with what each needs."""
        yield Method("ServerLive", self._server_live, always(""))
        yield Method("ServerReady", self._server_ready, always(""))
        yield Method("ModelReady", self._model_ready, always(""))
        yield Method("ServerMetadata", self._server_metadata, always("read"))
        yield Method("ModelMetadata", self._model_metadata, always("read"))
        yield Method("ModelConfig", self._model_config, always("read"))
        yield Method("ModelStatistics", self._statistics, always("read"))
        yield Method("RepositoryIndex", self._index, always("read"))
        yield Method("RepositoryModelLoad", self._load, always("admin"))
        yield Method("RepositoryModelUnload", self._unload, always("admin"))
        yield from Extensions(self._administration).methods()
        yield from SharedMemoryService(self._administration).methods()

    # --- the server and its models ------------------------------------------------------------------------

    def _server_live(self, _: Message) -> Message:
        return _ServerLive(live=True)

    def _server_ready(self, _: Message) -> Message:
        return _ServerReady(ready=self._administration.is_ready())

    def _model_ready(self, message: Message) -> Message:
        try:
            holds = self._administration.is_model_ready(message.name, version_of(message.version))
        except ModelNotFound:
            if self._profile.explains:
                raise
            holds = False
        return _ModelReady(ready=holds)

    def _server_metadata(self, _: Message) -> Message:
        return _ServerMetadata(**self._administration.server_metadata())

    def _model_metadata(self, message: Message) -> Message:
        return _ModelMetadata(**self._administration.model_metadata(message.name, version_of(message.version)))

    def _model_config(self, message: Message) -> Message:
        config = self._administration.model_config(message.name, version_of(message.version))
        response = _ModelConfig()
        json_format.ParseDict(dict(config), response.config, descriptor_pool=POOL)
        return response

    async def _statistics(self, message: Message) -> Message:
        told = await self._administration.statistics(message.name or None, version_of(message.version))
        return json_format.ParseDict({"model_stats": told}, _Statistics(), descriptor_pool=POOL)

    # --- repository ---------------------------------------------------------------------------------------

    async def _index(self, message: Message) -> Message:
        _refuse_repository(message)
        return _Index(models=await self._administration.repository_index(only_ready=message.ready))

    async def _load(self, message: Message) -> Message:
        _refuse_repository(message)
        config: str | None = None
        files: dict[str, bytes] = {}
        for name, parameter in message.parameters.items():
            value = parameter_value(name, parameter)
            if name == "config" and isinstance(value, str):
                config = value
            elif name.startswith(_FILE) and isinstance(value, bytes):
                files[name.removeprefix(_FILE)] = value
            elif name == "config" or name.startswith(_FILE):
                wanted = "string_param" if name == "config" else "bytes_param"
                raise InvalidArgument(f"invalid value type for load parameter '{name}', expected {wanted}.")
            else:
                raise InvalidArgument(
                    f"unrecognized load parameter '{name}'.", hint="there are 'config' and 'file:VERSION/NAME'"
                )
        await self._administration.load_model(message.model_name, config=config, files=files)
        return _Loaded()

    async def _unload(self, message: Message) -> Message:
        _refuse_repository(message)
        values: Mapping[str, Any] = {name: parameter_value(name, one) for name, one in message.parameters.items()}
        dependents = values.get(_DEPENDENTS, False)
        if dependents.__class__ is not bool:
            raise InvalidArgument(f"invalid value type for '{_DEPENDENTS}' parameter, expected bool_param.")
        await self._administration.unload_model(message.model_name, dependents=bool(dependents))
        return _Unloaded()


def _refuse_repository(message: Message) -> None:
    if message.repository_name:
        raise Unsupported(
            "'repository_name' specification is not supported", hint="a model's name says which repository it is in"
        )
