"""Which versions are served: loads them, switches to them, lets those they replace leave.

All of it runs on the event loop; what blocks is done by the loading port, one thing after the other, while the loop
goes on serving. A switch is one step: the routes change from what served before to what serves now, and what the
old versions have taken is answered by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from taxiway.config.problems import suggest
from taxiway.config.settings import ModelsSettings
from taxiway.core.clock import Clock
from taxiway.core.errors import (
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    InvalidConfig,
    InvalidModel,
    RepositoryModelNotFound,
    TaxiwayError,
)
from taxiway.server.models.departures import Departures, close_version
from taxiway.server.models.loading import Prepared
from taxiway.server.models.loading_thread import Loading
from taxiway.server.models.machine import ModelEvent, ModelState, begin_life
from taxiway.server.models.repository import FoundModel, Look, check_look, check_overrides
from taxiway.server.models.roster import IndexEntry, Model, ModelRoutes, Version, index_of, routes_of
from taxiway.server.models.served import ServedModel
from taxiway.telemetry.log_fields import LogFields
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
_CLOSE_S = 5.0


class ModelManager:
    """Owns every version, from its loading to its end.

    Args:
        loading: does what blocks.
        settings: what to serve, and who may change that.
        clock: monotonic time.
        on_routes: told the routes of every model whenever they change; from then on they hold.
    """

    def __init__(
        self,
        loading: Loading,
        settings: ModelsSettings,
        clock: Clock,
        on_routes: Callable[[Mapping[str, ModelRoutes]], None],
    ) -> None:
        self._loading = loading
        self._settings = settings
        self._now_ns = clock.monotonic_ns
        self._on_routes = on_routes
        self._models: dict[str, Model] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._one_load = asyncio.Lock()
        self._departures = Departures(loading, self._now_ns, self._publish)
        self._started = False

    # --- what is asked ------------------------------------------------------------------------------------

    @property
    def served(self) -> Sequence[ServedModel]:
        """Every version in the routes, by name and version."""
        models = (self._models[name] for name in sorted(self._models))
        return [version.served for model in models for version in model.routed if version.served is not None]

    def is_ready(self) -> bool:
        """Whether what was promised is served: all that was to be loaded at start was, and nothing is stalled.

        A model that is loaded anew, is unloaded, or could not be loaded later takes nothing from that.
        """
        routed = (version for model in self._models.values() for version in model.routed)
        return self._started and all(version.life.now.state is ModelState.READY for version in routed)

    def is_version_ready(self, name: str, version: int) -> bool:
        """Whether this version is in the routes and makes progress."""
        model = self._models.get(name)
        known = None if model is None else model.versions.get(version)
        return known is not None and known.life.now.state is ModelState.READY

    async def index(self) -> list[IndexEntry]:
        """Every version that is known, and every model that could be loaded on demand."""
        names = set(self._models)
        if self._settings.control == "explicit":
            names.update((await self._loading.look()).models)
        return [entry for name in sorted(names) for entry in index_of(self._models.get(name) or Model(name))]

    # --- what is done -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what is to be served from the start; all of it enters the routes at once.

        Raises:
            InvalidConfig: some cannot be served; everything that is wrong is told at once, and nothing stays loaded.
        """
        look = await self._loading.look()
        errors: list[TaxiwayError] = []
        for name in self._wanted_at_start(look):
            try:
                await self._bring(self._model(name), look.models[name])
            except TaxiwayError as error:
                errors.append(error)
        if errors:
            await self.drain(_CLOSE_S)
            raise errors[0] if len(errors) == 1 else _all_of(errors)
        self._started = True
        self._publish()

    async def load(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        """Load a model, or load it again; what serves meanwhile goes on serving until the new one is ready.

        Versions whose files and configuration are the same as before stay as they are.

        Args:
            name: of the model.
            config: its configuration as JSON, instead of its config.pbtxt; None for that.
            files: what its directory is to hold, by relative path, instead of the one on disk; needs `config`.

        Raises:
            FailedPrecondition: models are not loaded on demand (`models.control`).
            RepositoryModelNotFound: no such model lies at the paths.
            InvalidModel, InvalidConfig, Unsupported: it cannot be loaded; what served before still serves.
        """
        self._check_on_demand()
        async with self._lock(name):
            found = await self._find(name, config, files)
            try:
                await self._bring(self._model(name), found)
            except BaseException as problem:
                await self._loading.discard(found)
                if isinstance(problem, InvalidModel | InvalidConfig):
                    raise _load_failed(name, problem) from problem
                raise

    async def unload(self, name: str) -> None:
        """Take a model out of the routes; what it has taken is still answered. One that is not known is no error.

        Raises:
            FailedPrecondition: models are not unloaded on demand (`models.control`).
        """
        self._check_on_demand()
        async with self._lock(name):
            if name in self._models:
                self._take_out(self._models[name], "unloaded")

    async def drain(self, timeout_s: float) -> bool:
        """Let every version answer what it has taken, then close it; what waits longer than that is refused.

        Returns:
            False if something still runs. Nobody waits for it: its callers are still owed an answer.
        """
        for model in self._models.values():
            self._departures.begin(model.routed, "the server is shutting down", model.found)
        return await self._departures.finish(timeout_s)

    # --- loading and switching ----------------------------------------------------------------------------

    async def _bring(self, model: Model, found: FoundModel) -> None:
        """Have `model` served from `found`: load what is new, switch, and let the rest leave.

        Raises:
            TaxiwayError: it cannot be; whatever served before still does.
        """
        async with self._one_load:
            try:
                prepared = await self._loading.prepare(found)
                fresh = self._begin_versions(model, prepared)
                await self._load_all(prepared, fresh)
            except Exception as problem:
                error = _as_ours(model.name, problem)
                self._note_failure(model, error)
                if error is problem:
                    raise
                raise error from problem
            self._switch(model, prepared, fresh)

    def _begin_versions(self, model: Model, prepared: Prepared) -> list[Version]:
        """The versions to load; what serves under their numbers stays in its place until they are ready."""
        kept = {version.number for version in model.routed if version.print == prepared.versions.get(version.number)}
        fresh = [
            Version(number, print_, begin_life(f"{model.name}:{number}", self._now_ns()))
            for number, print_ in prepared.versions.items()
            if number not in kept
        ]
        serving = {version.number for version in model.routed}
        model.versions.update((version.number, version) for version in fresh if version.number not in serving)
        model.note = ""
        self._publish()
        return fresh

    async def _load_all(self, prepared: Prepared, fresh: Sequence[Version]) -> None:
        try:
            for version in fresh:
                version.served = await self._loading.load(prepared, version.number)
        except BaseException as problem:
            loaded = [version for version in fresh if version.served is not None]
            failed = next(version for version in fresh if version.served is None)
            for version in fresh:
                reason = str(problem) if version is failed else f"version {failed.number} could not be loaded"
                version.step(ModelEvent.LOAD_FAILED, reason, self._now_ns())
            for version in loaded:
                await close_version(version, self._loading)
            raise

    def _switch(self, model: Model, prepared: Prepared, fresh: Sequence[Version]) -> None:
        """One step: from here on the new versions answer, and the old ones leave."""
        new = {version.number for version in fresh}
        replaced = [version for version in model.routed if version.number in new]
        dropped = [version for version in model.routed if version.number not in prepared.versions]
        for version in fresh:
            version.step(ModelEvent.LOADED, "loaded, measured and warm", self._now_ns())
        model.versions.update((version.number, version) for version in fresh)
        on_disk = prepared.found.versions
        model.versions = {
            number: version for number, version in model.versions.items() if version.in_routes or number in on_disk
        }
        for version in model.versions.values():
            version.note = ""
        before, model.found = model.found, prepared.found
        model.since_ns = self._now_ns()
        self._departures.begin([*replaced, *dropped], "unloaded", before)
        if self._started:
            self._publish()
        for version in fresh:
            _log.info("model_ready", **_describe(version))

    def _take_out(self, model: Model, reason: str) -> None:
        before, model.found = model.found, None
        self._departures.begin(model.routed, reason, before)
        self._publish()

    def _note_failure(self, model: Model, error: TaxiwayError) -> None:
        """The routes are as before; the index says what happened."""
        model.note = error.message
        for version in model.routed:
            version.note = f"loading it again failed: {error.message}"
        if self._started:
            _log.error("model_load_failed", model=model.name, code=error.code, error=error)
        self._publish()

    def _publish(self) -> None:
        """The routes as they are now, from now on. Until the start is over, nothing is in them."""
        if self._started:
            self._on_routes({name: routes_of(model) for name, model in self._models.items()})

    # --- what is meant by a name --------------------------------------------------------------------------

    def _model(self, name: str) -> Model:
        return self._models.setdefault(name, Model(name))

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _wanted_at_start(self, look: Look) -> list[str]:
        control, wanted = self._settings.control, self._settings.load
        check_look(look, may_be_empty=control != "none")
        names = sorted(look.models)
        if control == "none":
            check_overrides(self._settings.overrides, names)
        if control != "explicit" or "*" in wanted:
            return names
        for name in wanted:
            if name not in look.models:
                raise InvalidArgument(
                    f"models.load names {name!r}, which does not lie at the paths{suggest(name, names)}",
                    hint=f"the models there are {', '.join(names) or 'none'}",
                )
        return sorted(set(wanted))

    async def _find(self, name: str, config: str | None, files: Mapping[str, bytes]) -> FoundModel:
        if files:
            if config is None:
                raise InvalidArgument(
                    f"load of model '{name}': files are given, and no configuration",
                    hint="give parameter 'config' with them; {} leaves everything to the file",
                )
            return await self._loading.upload(name, config, files)
        found = (await self._loading.look()).models.get(name)
        if found is None:
            raise RepositoryModelNotFound(
                f"failed to load '{name}', failed to poll from model repository",
                hint="put the model into one of models.paths: NAME/config.pbtxt, NAME/1/model.onnx",
                model=name,
            )
        return found if config is None else found.with_config(config)

    def _check_on_demand(self) -> None:
        control = self._settings.control
        if control == "poll":
            raise FailedPrecondition(
                "explicit model load / unload is not allowed if polling is enabled",
                hint="change the files in models.paths, or start `taxiway serve` with --models.control explicit",
            )
        if control == "none":
            raise FailedPrecondition(
                "explicit model load / unload is not allowed: models are loaded when the server starts",
                hint="start `taxiway serve` with --models.control explicit",
            )


def _as_ours(name: str, problem: Exception) -> TaxiwayError:
    if isinstance(problem, TaxiwayError):
        return problem
    if isinstance(problem, OSError):
        return InvalidModel(f"model {name!r} cannot be read: {problem}")
    _log.error("bug", model=name, error=problem)
    return InternalError(f"model {name!r} could not be loaded; the server's log has the details")


def _load_failed(name: str, error: InvalidModel | InvalidConfig) -> TaxiwayError:
    """As Triton begins to tell it."""
    return type(error)(f"load failed for model '{name}': {error.message}", hint=error.hint, **error.facts)


def _describe(version: Version) -> LogFields:
    assert version.served is not None  # noqa: S101 - it is ready
    duration_ms = round(version.served.statistics.load_s * 1000, 1)
    return {"model": version.served.name, "version": str(version.number), "duration_ms": duration_ms}


def _all_of(errors: Sequence[TaxiwayError]) -> InvalidConfig:
    lines = [f"- {error.message}" + (f" ({error.hint})" if error.hint else "") for error in errors]
    text = f"{len(errors)} models cannot be served:\n" + "\n".join(lines)
    return InvalidConfig(text, problems=[error.to_data() for error in errors])
