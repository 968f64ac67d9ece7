"""Which versions are served: loads them, switches to them, lets those they replace leave.

All of it runs on the event loop; what blocks is done by the loading port, one thing after the other, while the loop
goes on serving. A switch is one step: the routes change from what served before to what serves now, and what the
old versions have taken is answered by them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from taxiway.config.settings import ModelsSettings
from taxiway.core.clock import Clock
from taxiway.core.errors import (
    InternalError,
    InvalidConfig,
    InvalidModel,
    RepositoryModelNotFound,
    TaxiwayError,
)
from taxiway.server.admission import Admission
from taxiway.server.models.asked import asked_at_start, check_on_demand
from taxiway.server.models.cold import ColdStarts
from taxiway.server.models.companions import Companions
from taxiway.server.models.departures import Departures, close_version
from taxiway.server.models.loading import Prepared
from taxiway.server.models.loading_thread import Loading
from taxiway.server.models.machine import ModelEvent, ModelState, begin_life
from taxiway.server.models.memory import MemoryBudget
from taxiway.server.models.needs import Needs, load_order
from taxiway.server.models.poller import Poller
from taxiway.server.models.progress import ProgressWatch
from taxiway.server.models.repository import FoundModel, Look
from taxiway.server.models.roster import IndexEntry, Model, ModelRoutes, Roster, Version
from taxiway.server.models.served import ServedModel
from taxiway.server.models.supplying import Supplier
from taxiway.server.models.turns import Turns
from taxiway.server.totals import LifecycleStatistics
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.adding import Totals
from taxiway.telemetry.catalogue import LoadOutcome, UnloadReason
from taxiway.telemetry.log_fields import LogFields
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.models")
_CLOSE_S = 5.0


class ModelManager:
    """Owns every version, from its loading to its end.

    Args:
        loading: does what blocks.
        settings: what to serve, and who may change that.
        clock: monotonic time.
        admission: where requests count that wait for a model.
        on_routes: told the routes of every model, which hold from then on, whenever they or the states of versions
            change.
    """

    def __init__(
        self,
        loading: Loading,
        settings: ModelsSettings,
        clock: Clock,
        admission: Admission,
        on_routes: Callable[[Mapping[str, ModelRoutes]], None],
    ) -> None:
        self.statistics = LifecycleStatistics()
        self.cold = ColdStarts(settings.cold_requests, admission, clock, self._bring_back, self.statistics)
        """Holds requests for models that were unloaded to make room."""
        self._loading = loading
        self._settings = settings
        self._now_ns = clock.monotonic_ns
        self._on_routes = on_routes
        self._roster = Roster()
        self._needs = Needs(self._roster, self._now_ns)
        self._turns = Turns()
        self._supplier = Supplier(self._needs, self._roster, loading, self._turns, self._bring)
        self._one_load = asyncio.Lock()
        self._forgetting: set[asyncio.Task[None]] = set()
        self._departures = Departures(loading, self._now_ns, self.statistics, self._publish)
        limit_bytes, stalled_s = settings.memory_bytes, settings.stall_timeout_s
        self._budget = MemoryBudget(self._roster, self._departures, limit_bytes, stalled_s, self._publish)
        self.statistics.memory = self._budget.used
        self._progress = ProgressWatch(self._roster, stalled_s, self._now_ns, self._publish)
        self.companions = Companions(
            self._roster, self._turns, self._bring_beside, self._bring, self._take_out_whole, self.cold
        )
        """What is loaded beside what was to be served."""
        self._poller = Poller(loading, settings.poll_s, self._follow, self._unfollow)
        self._started = False

    # --- what is asked ------------------------------------------------------------------------------------

    @property
    def served(self) -> Sequence[ServedModel]:
        """Every version in the routes, by name and version."""
        return [version.served for version in self._roster.in_routes() if version.served is not None]

    def is_ready(self) -> bool:
        """Whether what was promised is served: all that was to be loaded at start was, and nothing is stalled.

        A model that is loaded anew, is unloaded, or could not be loaded later takes nothing from that; nor does an
        ensemble that lacks a model which was unloaded.
        """
        self._progress.look()
        states = [version.life.now.state for version in self._roster.in_routes()]
        return self._started and ModelState.STALLED not in states

    def is_version_ready(self, name: str, version: int) -> bool:
        """Whether this version is in the routes and makes progress."""
        self._progress.look()
        model = self._roster.models.get(name)
        known = None if model is None else model.versions.get(version)
        if known is None or not known.in_routes:
            beside = (other for other in self._roster.models.values() if other.is_companion and other.service == name)
            return any(one.number == version and _is_ready(one) for other in beside for one in other.routed)
        return _is_ready(known)

    async def index(self) -> list[IndexEntry]:
        """Every version that is known, and every model that could be loaded on demand."""
        on_demand = self._settings.control == "explicit"
        loadable = (await self._loading.look()).models if on_demand else ()
        self._progress.look()
        return self._roster.index(loadable)

    def points(self) -> Iterator[Point]:
        """Every series of the models as a whole, and of each version that is served."""
        yield from self.statistics.points()
        self._progress.look()
        own = Totals()  # several models may count under one name, and a version may be there twice
        twice = self._roster.twice()
        for version in self._roster.in_routes():
            served = version.served
            if served is None:
                continue
            own.add(served.statistics.own_metrics())
            if (served.name, version.number) in twice:
                own.add(served.statistics.points())
                continue
            yield from served.statistics.points()
            yield Point(names.VERSION_READY, (served.name, str(version.number)), int(_is_ready(version)))
        for name, number in twice:
            yield Point(names.VERSION_READY, (name, str(number)), int(self.is_version_ready(name, number)))
        yield from own.points()

    # --- what is done -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what is to be served from the start; all of it enters the routes at once.

        Raises:
            InvalidConfig: some cannot be served; everything that is wrong is told at once, and nothing stays loaded.
        """
        look = await self._loading.look()
        wanted = asked_at_start(self._settings, look)
        if self._settings.control == "poll":
            await self._poller.remember(look)
        errors: dict[str, TaxiwayError] = {}
        prepared = await self._prepare_all(wanted, look, errors)
        for name in load_order(prepared):
            try:
                await self._bring_at_start(self._roster.of(name), prepared[name], prepared)
            except TaxiwayError as error:
                errors[name] = error
        if errors:
            await self.drain(_CLOSE_S)
            raise _all_of([_naming(name, errors[name]) for name in sorted(errors)])
        self._started = True
        self._publish()
        self._progress.begin()
        if self._settings.control == "poll":
            self._poller.begin()

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
        check_on_demand(self._settings)
        async with self._turns.of(name):
            found = await self._find(name, config, files)
            model = self._roster.of(name)
            try:
                await self._bring(model, found)
            except BaseException as problem:
                await self._discard(found)
                if isinstance(problem, InvalidModel | InvalidConfig):
                    raise problem.retold(f"load failed for model '{name}': {problem.message}") from problem
                raise
            model.implied = False
        await self._supplier.tell(name)

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Take a model out of the routes; what it has taken is still answered. One that is not known is no error.

        Args:
            name: of the model.
            dependents: also those that were loaded only because it asks them, and that nobody else asks.

        Raises:
            FailedPrecondition: models are not unloaded on demand (`models.control`).
        """
        check_on_demand(self._settings)
        async with self._turns.of(name):
            needs = self._needs.of(name)
            self._take_out(name, UnloadReason.ASKED, "unloaded")
        if dependents:
            for idle in self._needs.idle(needs):
                await self.unload(idle, dependents=True)

    async def wind_down(self, timeout_s: float) -> None:
        """Let no sequence begin, and those under way come to their ends; after `timeout_s` they are cut."""
        ending = [asyncio.ensure_future(served.wind_down()) for served in self.served if served.wind_down is not None]
        if not ending:
            return
        _, cut = await asyncio.wait(ending, timeout=timeout_s)
        for task in cut:
            task.cancel()
        if cut:
            reason = "limits.drain_timeout_s ran out before sequences had ended; their next requests will be refused"
            _log.warning("drain_timeout", count=len(cut), reason=reason)

    async def drain(self, timeout_s: float) -> bool:
        """Let every version answer what it has taken, then close it; what waits longer than that is refused.

        Returns:
            False if something still runs. Nobody waits for it: its callers are still owed an answer.
        """
        self._poller.end()
        self._progress.end()
        self.cold.refuse_all()
        for model in self._roster.models.values():
            self._departures.begin(model.routed, UnloadReason.SHUTDOWN, "the server is shutting down", model.found)
        return await self._departures.finish(timeout_s)

    # --- following the files ------------------------------------------------------------------------------

    async def _follow(self, found: FoundModel) -> None:
        async with self._turns.of(found.name):
            model = self._roster.of(found.name)
            if model.cold:
                model.found = found  # it is read when it is asked for
                return
            with contextlib.suppress(TaxiwayError):  # told already, in the log and in the index
                await self._bring(model, found)
            model.implied = False
        await self._supplier.tell(found.name)

    async def _unfollow(self, name: str) -> None:
        async with self._turns.of(name):
            self._take_out(name, UnloadReason.REMOVED, "its files are gone")

    # --- loading and switching ----------------------------------------------------------------------------

    async def _bring(self, model: Model, found: FoundModel) -> None:
        """Have `model` served from `found`: load what is new, switch, and let the rest leave.

        Raises:
            TaxiwayError: it cannot be; whatever served before still does.
        """
        with self._noting_failure(model):
            prepared = await self._loading.prepare(found)
            if self._settings.control == "poll":  # where nobody would ask for it again
                model.wait_for(self._needs.missing(prepared.needs), found)
            await self._supplier.supply(model, prepared)
        async with self._one_load:
            with self._noting_failure(model):
                # Once more: what is loaded is what lies there now, and who waited for the last one gets its turn.
                prepared = await self._loading.prepare(found)
                self._needs.check_circle(model.name, prepared.needs)
                await self._budget.make_room(model, prepared)
                fresh = await self._load_fresh(model, prepared)
            self._switch(model, prepared, fresh)

    async def _bring_beside(self, model: Model, found: FoundModel) -> None:
        """Likewise, for a companion: nothing leaves to make room for it.

        Raises:
            TaxiwayError: it cannot be, or does not fit.
        """
        async with self._one_load:
            with self._noting_failure(model):
                prepared = await self._loading.prepare(found)
                if set(prepared.versions) == {version.number for version in model.routed}:
                    return
                self._budget.check_room(model, prepared)
                fresh = await self._load_fresh(model, prepared)
            self._switch(model, prepared, fresh)

    async def _bring_at_start(self, model: Model, prepared: Prepared, others: Mapping[str, Prepared]) -> None:
        """Likewise, beside `others`. Nobody leaves to make room: what does not fit is loaded when it is asked for."""
        async with self._one_load:
            with self._noting_failure(model):
                self._needs.check_circle(model.name, prepared.needs, others)
                if not self._budget.has_room(model, prepared) or self._needs.are_cold(prepared.needs):
                    self._budget.leave_cold(model, prepared, self._now_ns())
                    return
                fresh = await self._load_fresh(model, prepared)
            self._switch(model, prepared, fresh)

    async def _prepare_all(
        self, names: Sequence[str], look: Look, errors: dict[str, TaxiwayError]
    ) -> dict[str, Prepared]:
        """What is to be served of `names`, and of what they ask; what is wrong with some is put into `errors`."""
        prepared: dict[str, Prepared] = {}
        waiting = dict.fromkeys(names)
        while waiting:
            name = next(iter(waiting))
            del waiting[name]
            model = self._roster.of(name)
            model.implied = name not in names
            try:
                with self._noting_failure(model):
                    prepared[name] = await self._loading.prepare(look.models[name])
            except TaxiwayError as error:
                errors[name] = error
            else:
                asked = (need.model for need in prepared[name].needs)
                waiting.update((one, None) for one in asked if one in look.models and one not in (*prepared, *names))
        return prepared

    async def _bring_back(self, name: str) -> None:
        """A request asks for a model that was unloaded to make room."""
        async with self._turns.of(name):
            model = self._roster.of(name)
            if model.cold and model.found is not None:
                await self._bring(model, model.found)

    async def _load_fresh(self, model: Model, prepared: Prepared) -> list[Version]:
        """Load the versions that are new or changed; what serves under their numbers stays in its place meanwhile."""
        serving = {version.number: version for version in model.routed}
        peers = self._needs.specs(prepared.needs)
        fresh = [
            Version(number, print_, begin_life(f"{model.name}:{number}", self._now_ns()), peers)
            for number, print_ in prepared.versions.items()
            if number not in serving or serving[number].print != print_ or serving[number].peers != peers
        ]
        model.versions.update((version.number, version) for version in fresh if version.number not in serving)
        self._publish()
        try:
            for version in fresh:
                version.served = await self._loading.load(prepared, version.number, peers)
        except BaseException as problem:
            await self._drop_fresh(fresh, problem)
            raise
        return fresh

    async def _drop_fresh(self, fresh: Sequence[Version], problem: BaseException) -> None:
        """One of them could not be loaded; none of them is served."""
        failed = next(version for version in fresh if version.served is None)
        for version in fresh:
            reason = str(problem) if version is failed else f"version {failed.number} could not be loaded"
            version.step(ModelEvent.LOAD_FAILED, reason, self._now_ns())
        self.statistics.loads[LoadOutcome.FAILED] += 1
        for version in fresh:
            await close_version(version, self._loading)

    def _switch(self, model: Model, prepared: Prepared, fresh: Sequence[Version]) -> None:
        """One step: from here on the new versions answer, and the old ones leave."""
        new = {version.number for version in fresh}
        old = [version for version in model.routed if version.number in new or version.number not in prepared.versions]
        for version in fresh:
            version.step(ModelEvent.LOADED, "loaded, measured and warm", self._now_ns())
        self.statistics.loads[LoadOutcome.LOADED] += len(fresh)
        before = model.found
        model.take_over(fresh, prepared.found, self._now_ns())
        for version in model.routed:
            if version.served is not None and version not in fresh:
                version.served.config = {**version.served.config, "version_policy": prepared.policy}
        self._departures.begin(old, UnloadReason.REPLACED, "unloaded", None if before is model.found else before)
        self._publish()
        for version in fresh:
            _log.info("model_ready", **_describe(version))

    async def _take_out_whole(self, name: str, why: UnloadReason, reason: str) -> None:
        """Return when nothing of it is left."""
        model = self._roster.models.get(name)
        if model is None:
            return
        model.found = None
        leaving = self._departures.begin(model.routed, why, reason, None)
        self._publish()
        await asyncio.wait([leaving])

    def _take_out(self, name: str, why: UnloadReason, reason: str) -> None:
        model = self._roster.models.get(name)
        if model is None:
            return
        before, model.found, model.cold = model.found, None, False
        model.forget_failure()
        leaving = self._departures.begin(model.routed, why, reason, before)
        if before is not None and before.upload is not None:
            task = asyncio.ensure_future(self._forget_after(leaving, name))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)
        self._publish()

    async def _forget_after(self, leaving: asyncio.Task[None], name: str) -> None:
        """Nothing is kept of a name that a caller made up, unless it was loaded again while its versions left."""
        await asyncio.wait([leaving])
        async with self._turns.of(name):  # not under the hands of whoever loads it just now
            self._roster.forget_unserved(name)

    async def _discard(self, found: FoundModel) -> None:
        """It could not be loaded: what came with the call leaves nothing behind."""
        await self._loading.discard(found)
        if found.upload is not None:
            self._roster.forget_unserved(found.name)

    @contextlib.contextmanager
    def _noting_failure(self, model: Model) -> Iterator[None]:
        """Within, what goes wrong leaves the routes as they are; the index says what happened.

        Raises:
            TaxiwayError: whatever went wrong, as ours.
        """
        try:
            yield
        except Exception as problem:
            error = _as_ours(model.name, problem)
            model.note_failure(error.message)
            if self._started:
                _log.error("model_load_failed", model=model.name, code=error.code, error=error)
            self._publish()
            if error is problem:
                raise
            raise error from problem

    def _publish(self) -> None:
        """The routes as they are now, from now on. Until the start is over, nothing is in them."""
        if self._started:
            self._needs.look()
            self._on_routes(self._roster.routes())

    # --- what is meant by a name --------------------------------------------------------------------------

    async def _find(self, name: str, config: str | None, files: Mapping[str, bytes]) -> FoundModel:
        if files:
            if config is None:
                raise InvalidConfig(
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


def _is_ready(version: Version) -> bool:
    return version.life.now.state is ModelState.READY


def _as_ours(name: str, problem: Exception) -> TaxiwayError:
    if isinstance(problem, TaxiwayError):
        return problem
    if isinstance(problem, OSError):
        return InvalidModel(f"model {name!r} cannot be read: {problem}")
    _log.error("bug", model=name, error=problem)
    return InternalError(f"model {name!r} could not be loaded; the server's log has the details")


def _describe(version: Version) -> LogFields:
    assert version.served is not None  # noqa: S101 - it is ready
    duration_ms = round(version.served.statistics.load_s * 1000, 1)
    return {"model": version.served.name, "version": str(version.number), "duration_ms": duration_ms}


def _naming(name: str, error: TaxiwayError) -> TaxiwayError:
    """The same, so that it says of which model: a model's own code that raises, or a file without a name, does not."""
    if any(told in error.message for told in (f"'{name}'", f"/{name}/", f"/{name}.")):
        return error
    return error.retold(f"model '{name}': {error.message}")


def _all_of(errors: Sequence[TaxiwayError]) -> TaxiwayError:
    if len(errors) == 1:
        return errors[0]
    lines = [f"- {error.message}" + (f" ({error.hint})" if error.hint else "") for error in errors]
    text = f"{len(errors)} models cannot be served:\n" + "\n".join(lines)
    return InvalidConfig(text, problems=[error.to_data() for error in errors])
