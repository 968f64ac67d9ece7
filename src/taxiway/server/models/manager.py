"""Which versions are loaded: loads them all at start, closes them all at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from taxiway.core.clock import Clock
from taxiway.core.errors import InvalidConfig, InvalidModel, TaxiwayError
from taxiway.server.models.loading import ModelLoader
from taxiway.server.models.machine import ModelEvent, ModelState, step_life
from taxiway.server.models.repository import find_models
from taxiway.server.models.served import ServedModel
from taxiway.telemetry.log_fields import LogFields
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")


class ModelManager:
    """Owns every `ServedModel`. All of it runs on the event loop; only loading itself blocks, before the ports open."""

    def __init__(self, loader: ModelLoader, clock: Clock) -> None:
        self._loader = loader
        self._clock = clock
        self._served: list[ServedModel] = []

    @property
    def served(self) -> Sequence[ServedModel]:
        """Every version that was loaded, by name and version."""
        return self._served

    def load_all(self, paths: Sequence[Path]) -> None:
        """Load every model at `paths`.

        Raises:
            InvalidConfig: some cannot be served; everything that is wrong is told at once, and nothing stays loaded.
        """
        errors: list[TaxiwayError] = []
        models = find_models(paths)
        self._loader.check_overrides(models)
        for found in models:
            try:
                loaded = self._loader.load(found)
            except TaxiwayError as error:
                errors.append(error)
                continue
            except OSError as problem:
                errors.append(InvalidModel(f"model {found.name!r} cannot be read: {problem}"))
                continue
            self._served += loaded
            for served in loaded:
                _log.info("model_ready", **_describe(served))
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise _all_of(errors)

    def all_ready(self) -> bool:
        """Whether every version is ready."""
        return all(served.life.now.state is ModelState.READY for served in self._served)

    async def drain(self, timeout_s: float) -> bool:
        """Let every version answer what it has taken, then close it; what waits longer than that is refused.

        Returns:
            False if something still runs. Nobody waits for it: its callers are still owed an answer.
        """
        for served in self._served:
            self._step(served, ModelEvent.RETIRED, "the server is shutting down")
        drains = {asyncio.ensure_future(served.batcher.drain()): served for served in self._served}
        late: set[asyncio.Future[None]] = set()
        if drains:
            _, late = await asyncio.wait(drains, timeout=timeout_s)
        for task, served in drains.items():
            self._close(served, on_time=task not in late)
            task.cancel()
        return not late

    def _close(self, served: ServedModel, *, on_time: bool) -> None:
        running = served.batcher.gauges().running_batches
        served.front.close()
        if on_time:
            self._step(served, ModelEvent.DRAINED, "everything taken was answered")
        else:
            reason = f"limits.drain_timeout_s ran out: {running} runs were given up, what waited was refused"
            self._step(served, ModelEvent.DRAINED, reason)
            _log.warning("drain_timeout", model=served.name, version=str(served.version), count=running, reason=reason)
        if not running:  # else this would wait for a run, which may take minutes; its thread ends with the process
            served.executor.close()
            served.model.close()

    def _step(self, served: ServedModel, event: ModelEvent, reason: str) -> None:
        served.life = step_life(served.life, event, reason, self._clock.monotonic_ns())


def _describe(served: ServedModel) -> LogFields:
    duration_ms = round(served.statistics.load_s * 1000, 1)
    return {"model": served.name, "version": str(served.version), "duration_ms": duration_ms}


def _all_of(errors: Sequence[TaxiwayError]) -> InvalidConfig:
    lines = [f"- {error.message}" + (f" ({error.hint})" if error.hint else "") for error in errors]
    text = f"{len(errors)} models cannot be served:\n" + "\n".join(lines)
    return InvalidConfig(text, problems=[error.to_data() for error in errors])
