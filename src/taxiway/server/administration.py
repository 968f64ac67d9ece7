"""What is asked of a server beside inference, in plain data: each protocol puts its own words around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from taxiway.core.errors import StatisticsNotFound, TraceModelNotFound, Unavailable
from taxiway.core.tensors import TensorSpec
from taxiway.server.adding import add_statistics
from taxiway.server.channel import Verb
from taxiway.server.fleet import Alone, Fleet, Lasting
from taxiway.server.models.machine import ModelState
from taxiway.server.models.manager import ModelManager
from taxiway.server.models.roster import IndexEntry
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Service, Snapshot, version_number
from taxiway.server.shared_memory import Regions
from taxiway.server.tracing.gates import TraceGates
from taxiway.telemetry.log_switch import LogSwitch

SHARED_MEMORY = ("system_shared_memory",)
"""The one that is off unless it is turned on."""
EXTENSIONS = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    *SHARED_MEMORY,
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""The protocol extensions that work here, by Triton's names and in its order."""

_STATES = {
    ModelState.LOADING: "LOADING",
    ModelState.READY: "READY",
    ModelState.STALLED: "UNAVAILABLE",
    ModelState.LACKING: "UNAVAILABLE",
    ModelState.DRAINING: "UNLOADING",
    ModelState.GONE: "UNAVAILABLE",
    ModelState.FAILED: "UNAVAILABLE",
}
"""Our states in Triton's words."""
_READINESS = {"UNAVAILABLE": 1, "LOADING": 2, "UNLOADING": 3, "READY": 4}


class Administration:
    """Health, metadata, configuration, statistics and the repository of one server.

    Versions are given as the protocols write them: digits, or None for the model's default. What only reads this
    process answers at once; what concerns all processes is awaited.

    Args:
        accepting: whether this server takes requests: it has started, and is not stopping.
        version: of the server.
        traces: what is traced in this process.
        regions: the shared memory that is registered in this process.
        make_fleet: from what every process must be able to do, the fleet that has them all do it.
        more_verbs: what it must be able to do beside what is asked here.
    """

    def __init__(
        self,
        routing: Callable[[], Snapshot],
        models: ModelManager,
        accepting: Callable[[], bool],
        version: str,
        traces: TraceGates,
        regions: Regions,
        make_fleet: Callable[[Mapping[str, Verb]], Fleet] = Alone,
        more_verbs: Mapping[str, Verb] = MappingProxyType({}),
    ) -> None:
        self._routing = routing
        self._models = models
        self._accepting = accepting
        self._version = version
        self._traces = traces
        self._regions = regions
        self._listeners: list[Callable[[], None]] = []
        self._logs = LogSwitch()
        self.fleet = self._fleet = make_fleet(
            {
                **more_verbs,
                "statistics": self._own_statistics,
                "index": self._own_index,
                "describe": self._describe,
                "kept": self._kept,
                "load": self._load_here,
                "unload": self._unload_here,
                "replace_trace_settings": self._replace_own_traces,
                "change_log_settings": self._change_own_logs,
                "register_region": self._register_here,
                "unregister_region": self._unregister_here,
            }
        )

    # --- the server and its models ------------------------------------------------------------------------

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""
        hidden = () if self._regions.enabled else SHARED_MEMORY
        extensions = [name for name in EXTENSIONS if name not in hidden]
        return {"name": "taxiway", "version": self._version, "extensions": extensions}

    def is_accepting(self) -> bool:
        """Whether this server has started and is not stopping."""
        return self._accepting()

    def is_ready(self) -> bool:
        """Whether what was promised is loaded, warm and making progress, and the server is not draining."""
        return self._accepting() and self._models.is_ready()

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
        return self._accepting() and self._models.is_version_ready(served.name, served.version)

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

    async def _kept(self, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The last slow and failed requests of a model, or of all."""
        services = self._routing().services
        return [
            {"model": name, "version": number, **one}
            for name in (services if words["model"] is None else services.keys() & {words["model"]})
            for number, served in services[name].versions.items()
            for one in served.statistics.kept.told()
        ]

    async def _describe(self, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Metadata and configuration of every version of a model that answers here, newest first."""
        service = self._routing().services.get(words["model"])
        if service is None:
            return []
        return [
            {
                "version": number,
                "ready": self._models.is_version_ready(service.versions[number].name, number),
                "metadata": self.model_metadata(words["model"], str(number)),
                "config": dict(self.model_config(words["model"], str(number))),
            }
            for number in sorted(service.versions, reverse=True)
        ]

    # --- statistics ---------------------------------------------------------------------------------------

    async def statistics(self, name: str | None, version: str | None) -> list[dict[str, Any]]:
        """Triton's statistics of every version, of one model's versions, or of one version.

        Raises:
            StatisticsNotFound: no such model or version.
            InvalidArgument: not a version.
        """
        answers: list[list[dict[str, Any]]] = await self._fleet.ask("statistics", {"model": name, "version": version})
        return add_statistics(answers)

    async def _own_statistics(self, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [served.statistics.to_json() for served in self._asked_versions(words["model"], words["version"])]

    def _asked_versions(self, name: str | None, version: str | None) -> Iterable[ServedModel]:
        services = self._routing().services
        number = None if version is None else version_number(version)
        if name is None:
            return [served for key in sorted(services) for served in _by_version(services[key])]
        service = services.get(name)
        if service is None:
            raise StatisticsNotFound(f"requested model '{name}' is not available", model=name)
        if number is None:
            return _by_version(service)
        served = service.versions.get(number)
        if served is None:
            raise StatisticsNotFound(f"requested model version is not available for model '{name}'", model=name)
        return [served]

    # --- traces and logs ----------------------------------------------------------------------------------

    def trace_settings(self, model: str | None) -> dict[str, str | list[str]]:
        """What is traced of a model, or (None) of those without settings of their own, in Triton's words.

        `trace_count` is what is left of it in this process.

        Raises:
            TraceModelNotFound: the model is not served.
        """
        self.check_traced(model)
        return self._traces.words(model)

    async def change_trace_settings(
        self, model: str | None, words: Mapping[str, Sequence[str] | None]
    ) -> dict[str, str | list[str]]:
        """Change what is traced, in every process; None as a value takes an earlier change back.

        Returns:
            As `trace_settings`, after the change.

        Raises:
            TraceModelNotFound: the model is not served.
            InvalidArgument, Unsupported: something in `words` cannot be; nothing is changed.
            FailedPrecondition: packages that the mode needs are not installed; nothing is changed.
        """
        self.check_traced(model)
        # All of the model's changes are sent, not the last: a process that starts later needs no more than that.
        changes = self._traces.changes_after(model, words)
        lasting = Lasting("traces in general") if model is None else Lasting("traces", model)
        answers = await self._fleet.ask("replace_trace_settings", {"model": model, "words": changes}, lasting)
        told: dict[str, str | list[str]] = answers[0]
        return told

    def check_traced(self, model: str | None) -> None:
        """Refuse a model that cannot be traced; None, all of them, always can.

        Raises:
            TraceModelNotFound: the model is not served.
        """
        snapshot = self._routing()
        routes = None if model is None or snapshot.routes is None else snapshot.routes.get(model)
        if model is not None and model not in snapshot.services and not (routes is not None and routes.cold):
            raise TraceModelNotFound(
                f"Request for unknown model : {model}", hint="GET /v2/models lists what is served", model=model
            )

    async def _replace_own_traces(self, words: Mapping[str, Any]) -> dict[str, str | list[str]]:
        self._traces.replace(words["model"], words["words"])
        return self._traces.words(words["model"])

    def log_settings(self) -> dict[str, str | bool | int]:
        """What is logged, in Triton's words."""
        return self._logs.words()

    async def change_log_settings(self, words: Mapping[str, Any]) -> dict[str, str | bool | int]:
        """Change what is logged, in every process; values of None change nothing.

        Returns:
            As `log_settings`, after the change.

        Raises:
            MalformedRequest, InvalidArgument, Unsupported, FailedPrecondition: as `LogSwitch.change`.
        """
        answers = await self._fleet.ask("change_log_settings", self._logs.words_after(words), Lasting("logs"))
        told: dict[str, str | bool | int] = answers[0]
        return told

    async def _change_own_logs(self, words: Mapping[str, Any]) -> dict[str, str | bool | int]:
        self._logs.change(words)
        return self._logs.words()

    # --- shared memory ------------------------------------------------------------------------------------

    def regions(self, name: str | None) -> list[dict[str, Any]]:
        """What is registered as `name`, or everything if it is None; all processes have the same.

        Raises:
            NotFound: nothing is.
            Unsupported: shared memory is off.
        """
        return self._regions.status(name)

    async def register_region(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Let requests name a piece of shared memory.

        Raises:
            AlreadyExists, InvalidArgument, Overloaded: as `SystemRegions.register`.
            Unsupported: shared memory is off.
        """
        words = {"name": name, "key": key, "offset": offset, "byte_size": byte_size}
        await self._fleet.ask("register_region", words, Lasting("regions", name))

    async def _register_here(self, words: Mapping[str, Any]) -> None:
        self._regions.register(words["name"], words["key"], words["offset"], words["byte_size"])

    async def unregister_region(self, name: str | None) -> None:
        """Forget `name`, or everything if it is None.

        Raises:
            Unsupported: shared memory is off.
        """
        await self._fleet.ask("unregister_region", {"name": name}, Lasting("regions", name))

    async def _unregister_here(self, words: Mapping[str, Any]) -> None:
        self._regions.unregister(words["name"])

    # --- repository ---------------------------------------------------------------------------------------

    async def repository_index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """Every version with its state in Triton's words; a model that was never loaded has only its name.

        Of several processes, the one tells of a version in which it is furthest from being ready.
        """
        if self._accepting():
            indexes: list[list[dict[str, str]]] = await self._fleet.ask("index", {})
        else:  # it is loading, or stopping: the fleet does not count it, and it tells of itself
            indexes = [await self._own_index({})]
        lines = merge_indexes(indexes)
        return [line for line in lines if line.get("state") == "READY"] if only_ready else lines

    async def _own_index(self, _words: Mapping[str, Any]) -> list[dict[str, str]]:
        return [_line(entry) for entry in await self._models.index()]

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
        await self._fleet.ask("load", {"model": name, "config": config, "files": dict(files)}, _of(name))

    async def _load_here(self, words: Mapping[str, Any]) -> None:
        await self._models.load(words["model"], words["config"], words["files"])

    async def unload_model(self, name: str, *, dependents: bool) -> None:
        """Stop serving a model. It has left the routes when this returns; what it has taken is still answered.

        Args:
            name: of the model; one that is not known is no error.
            dependents: whether models are unloaded too that were only loaded since it asks them, and nobody else does.

        Raises:
            FailedPrecondition: models are not unloaded on demand (`models.control`).
        """
        await self._fleet.ask("unload", {"model": name, "dependents": dependents}, _of(name))

    async def _unload_here(self, words: Mapping[str, Any]) -> None:
        await self._models.unload(words["model"], dependents=words["dependents"])


def _of(model: str) -> Lasting:
    """The last load or unload of a model is what a process that starts later has to do."""
    return Lasting("models", model)


def merge_indexes(indexes: Sequence[Sequence[dict[str, str]]]) -> list[dict[str, str]]:
    """The indexes of several processes as one: a version is as ready as it is where it is least so."""
    merged: dict[tuple[str, int], dict[str, str]] = {}
    for index in indexes:
        for line in index:
            key = (line["name"], int(line.get("version", -1)))
            other = merged.setdefault(key, line)
            if _READINESS.get(line.get("state", ""), 0) < _READINESS.get(other.get("state", ""), 0):
                merged[key] = line
    return [merged[key] for key in sorted(merged)]


def _line(entry: IndexEntry) -> dict[str, str]:
    line = {"name": entry.name}
    if entry.version is not None:
        line["version"] = str(entry.version)
    if entry.state is not None:
        line["state"] = _STATES[entry.state]
    if entry.reason:
        line["reason"] = entry.reason
    return line


def _by_version(service: Service) -> list[ServedModel]:
    return [service.versions[version] for version in sorted(service.versions)]


def _tensor(spec: TensorSpec, *, batches: bool) -> dict[str, Any]:
    shape = [-1, *spec.shape] if batches else list(spec.shape)
    return {"name": spec.name, "datatype": spec.datatype.wire_name, "shape": shape}
