"""What is asked of a server beside inference, in plain data: each protocol puts its own words around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taxiway.core.errors import FailedPrecondition, StatisticsNotFound, Unavailable
from taxiway.core.tensors import TensorSpec
from taxiway.server.fleet import Alone, Fleet
from taxiway.server.models.machine import ModelState
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Service, Snapshot, version_number

EXTENSIONS = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
"""The protocol extensions that work here, by Triton's names."""

_STATES = {
    ModelState.LOADING: "LOADING",
    ModelState.READY: "READY",
    ModelState.DRAINING: "UNLOADING",
    ModelState.GONE: "UNAVAILABLE",
    ModelState.FAILED: "UNAVAILABLE",
}
"""Our states in Triton's words."""


class Administration:
    """Health, metadata, configuration, statistics and the repository of one server.

    Versions are given as the protocols write them: digits, or None for the model's default. What only reads this
    process answers at once; what concerns all processes is awaited.

    Args:
        ready: whether the server as a whole may be sent requests.
        version: of the server.
    """

    def __init__(self, routing: Callable[[], Snapshot], ready: Callable[[], bool], version: str) -> None:
        self._routing = routing
        self._ready = ready
        self._version = version
        self._fleet: Fleet = Alone({"statistics": self._own_statistics})
        self._listeners: list[Callable[[], None]] = []

    # --- the server and its models ------------------------------------------------------------------------

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""
        return {"name": "taxiway", "version": self._version, "extensions": list(EXTENSIONS)}

    def is_ready(self) -> bool:
        """Whether every model is loaded and warm, and the server is not draining."""
        return self._ready()

    def is_model_ready(self, name: str, version: str | None) -> bool:
        """Whether this version may be sent requests.

        Raises:
            ModelNotFound: there is none of that name and version.
            InvalidArgument: not a version.
        """
        try:
            served = self._routing().find(name, version)
        except Unavailable:
            return False
        return self._ready() and served.life.now.state is ModelState.READY

    def on_readiness(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called whenever the server or a model may have become ready, or stopped being so.

        Returns:
            What ends that.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def readiness_changed(self) -> None:
        """Called by whoever changes it: a model's state, the routes, whether the server accepts requests."""
        for listener in tuple(self._listeners):
            listener()

    def model_names(self) -> list[str]:
        """The names that are served."""
        return sorted(self._routing().services)

    def model_metadata(self, name: str, version: str | None) -> dict[str, Any]:
        """Inputs, outputs and versions of a model.

        Raises:
            ModelNotFound, Unavailable, InvalidArgument: as `Snapshot.find`.
        """
        served = self._routing().find(name, version)
        versions = sorted(self._routing().services[served.name].versions) if version is None else [served.version]
        spec = served.spec
        return {
            "name": spec.name,
            "versions": [str(number) for number in versions],
            "platform": spec.platform or spec.backend,
            "inputs": [_tensor(tensor, batches=served.batches) for tensor in spec.inputs],
            "outputs": [_tensor(tensor, batches=served.batches) for tensor in spec.outputs],
        }

    def model_config(self, name: str, version: str | None) -> Mapping[str, Any]:
        """Triton's ModelConfig as JSON.

        Raises:
            ModelNotFound, Unavailable, InvalidArgument: as `Snapshot.find`.
        """
        return self._routing().find(name, version).config

    # --- statistics ---------------------------------------------------------------------------------------

    async def statistics(self, name: str | None, version: str | None) -> list[dict[str, Any]]:
        """Triton's statistics of every version, of one model's versions, or of one version.

        Raises:
            StatisticsNotFound: no such model or version.
            InvalidArgument: not a version.
        """
        answers: list[list[dict[str, Any]]] = await self._fleet.ask("statistics", {"model": name, "version": version})
        return answers[0]

    async def _own_statistics(self, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [served.statistics.to_json() for served in self._asked_versions(words["model"], words["version"])]

    def _asked_versions(self, name: str | None, version: str | None) -> Iterable[ServedModel]:
        services = self._routing().services
        if name is None:
            return [served for key in sorted(services) for served in _by_version(services[key])]
        number = None if version is None else version_number(version)
        service = services.get(name)
        if service is None:
            raise StatisticsNotFound(f"requested model '{name}' is not available", model=name)
        if number is None:
            return _by_version(service)
        served = service.versions.get(number)
        if served is None:
            raise StatisticsNotFound(f"requested model version is not available for model '{name}'", model=name)
        return [served]

    # --- repository ---------------------------------------------------------------------------------------

    def repository_index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """Every version with its state in Triton's words."""
        return [
            {"name": served.name, "version": str(served.version), "state": _STATES[served.life.now.state]}
            for service in sorted(self._routing().services.values(), key=lambda service: service.name)
            for served in _by_version(service)
            if not only_ready or served.life.now.state is ModelState.READY
        ]

    async def load_model(self, name: str, *, config: str | None, files: Mapping[str, bytes]) -> None:
        """Load a model, or load it again; what serves meanwhile goes on serving until the new one is ready.

        Args:
            name: of the model.
            config: its configuration as JSON, instead of its config.pbtxt.
            files: what stands in the model's directory instead of what is on disk, by relative path.

        Raises:
            FailedPrecondition: models are not loaded on demand (`models.control`).
            ModelNotFound, InvalidModel, InvalidConfig: it cannot be loaded; what served before still serves.
        """
        del config, files
        raise _not_on_demand(name)

    async def unload_model(self, name: str, *, dependents: bool) -> None:
        """Stop serving a model. It has left the routes when this returns; what it has taken is still answered.

        Raises:
            FailedPrecondition: models are not unloaded on demand (`models.control`).
        """
        del dependents
        raise _not_on_demand(name)


def _not_on_demand(name: str) -> FailedPrecondition:
    return FailedPrecondition(
        "explicit model load / unload is not allowed: models are loaded when the server starts",
        hint="restart `taxiway serve` with the paths to serve",
        model=name,
    )


def _by_version(service: Service) -> list[ServedModel]:
    return [service.versions[version] for version in sorted(service.versions)]


def _tensor(spec: TensorSpec, *, batches: bool) -> dict[str, Any]:
    shape = [-1, *spec.shape] if batches else list(spec.shape)
    return {"name": spec.name, "datatype": spec.datatype.wire_name, "shape": shape}
