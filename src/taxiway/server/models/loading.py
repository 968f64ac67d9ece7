"""From a model on disk to versions that are loaded, measured, warm and ready."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taxiway.config.autocomplete import autocomplete
from taxiway.config.model_config import ModelConfig, from_json, new_config, parse_pbtxt, to_json_dict
from taxiway.config.model_defaults import defaults_from, overrides_from, uses_gpu
from taxiway.config.model_spec import (
    ModelSpec,
    TimeoutAction,
    build_spec,
    ignored_fields,
    refuse_unsupported,
    version_policy,
)
from taxiway.config.settings import ModelSettings, Settings
from taxiway.core.clock import Clock
from taxiway.core.errors import InvalidConfig, InvalidModel
from taxiway.core.ports import BatchOutcome, Executor, LoadedModel
from taxiway.core.requests import InferRequest
from taxiway.runtimes.onnx import OnnxRuntime
from taxiway.server.batching.loop import Batcher
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy, QueueLimits
from taxiway.server.cache.front import CacheFront, RunAccounts
from taxiway.server.cache.key import KeyMaker
from taxiway.server.cache.shelf import Shelf
from taxiway.server.cache.store import AnswerStore
from taxiway.server.execution import BatchRunner, HybridExecutor, ThreadExecutor
from taxiway.server.models.caching import store_for
from taxiway.server.models.fingerprint import Fingerprint, stamp_model
from taxiway.server.models.measure import measure_model
from taxiway.server.models.options import session_options
from taxiway.server.models.repository import FoundModel
from taxiway.server.models.rows import Rows, try_rows
from taxiway.server.models.served import Front, ServedModel
from taxiway.server.models.warmup import warm_up
from taxiway.server.statistics import ModelStatistics
from taxiway.server.tracing.gates import TraceGate
from taxiway.server.tracing.trace import note_runs
from taxiway.stats.latency import LatencyCurve
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")

AUTOMATIC_MAX_BATCH_SIZE = 4096
"""Rows one request may have where nothing says otherwise and the file can batch."""
TRITON_MAX_BATCH_SIZE = 4
"""What Triton completes instead (--backend-config=default-max-batch-size)."""
_MEASURED_ROWS = 128
_MEASURE_BUDGET_S = 1.0
_THREADS_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class Host:
    """What the versions run on, and who makes the gates through which their requests are traced."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    cpus: int
    gate: Callable[[ModelSpec, int], TraceGate] = TraceGate


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be served of a model: its configuration, and the versions that this chooses.

    Attributes:
        found: where they lie.
        message: what is configured, not completed yet.
        versions: what each chosen version is made of.
    """

    found: FoundModel
    message: ModelConfig
    versions: Mapping[int, Fingerprint]

    @property
    def nbytes(self) -> int:
        """The size of the files of all chosen versions."""
        return sum(print_.nbytes for print_ in self.versions.values())

    @property
    def policy(self) -> Mapping[str, Any]:
        """Its version policy, as Triton's configuration JSON has it: the one thing that versions are not loaded for."""
        own = new_config()
        own.version_policy.latest.num_versions = 1
        if self.message.HasField("version_policy"):
            own.version_policy.CopyFrom(self.message.version_policy)
        policy: Mapping[str, Any] = to_json_dict(own)["version_policy"]
        return policy


class ModelLoader:
    """Loads models for one server. Everything here may block, and may run beside the event loop.

    Args:
        store: keeps the answers of versions that are cached; None: none is.
    """

    def __init__(self, settings: Settings, host: Host, store: AnswerStore | None = None) -> None:
        self._settings = settings
        self._store = store
        self._is_strict = settings.compat == "strict"
        self._host = host
        self._runtime = OnnxRuntime()

    def prepare(self, found: FoundModel) -> Prepared:
        """Read the configuration of `found` and choose its versions; no model file is opened.

        Raises:
            InvalidConfig, Unsupported: its configuration is wrong, or asks for what is not done.
            InvalidModel: it has no version.
            OSError: a file cannot be looked at.
        """
        message = _read_config(found)
        refuse_unsupported(message, gpu=uses_gpu(self._settings.for_model(found.name)))
        chosen = _choose_versions(found, message)
        for path in ignored_fields(message):
            _log.warning("config_field_ignored", model=found.name, setting=path)
        stamps = stamp_model(found)
        config = _config_of_versions(message)
        versions = {number: Fingerprint(stamps.versions[number], stamps.shared, config) for number in chosen}
        return Prepared(found, message, versions)

    def load(self, prepared: Prepared, version: int) -> ServedModel:
        """One version, measured and warm. It is completed from its own file: versions may have different signatures.

        Raises:
            InvalidConfig, Unsupported: its configuration contradicts its file.
            InvalidModel: its file cannot be loaded, or its warm-up failed.
        """
        found, message = prepared.found, prepared.message
        settings = self._settings.for_model(found.name)
        instances = settings.execution.instances or min(self._host.cpus, _THREADS_AT_MOST)
        options = session_options(settings, message, instances=instances, cpus=self._host.cpus)
        began_ns = self._host.clock.monotonic_ns()
        model = self._runtime.load(self._file(found.versions[version], message), options)
        try:
            several = len(prepared.versions) > 1
            where = f"{found.config or found.directory}" + (f" (version {version})" if several else "")
            completed = self._complete(found, message, model, settings, instances, where)
            spec = build_spec(completed, found.directory, gpu=uses_gpu(settings))
            mergeable = self._may_merge(spec, message, version, model, settings)
            served = self._serve(spec, to_json_dict(completed), version, model, settings, mergeable)
        except BaseException:
            model.close()
            raise
        served.statistics.load_s = (self._host.clock.monotonic_ns() - began_ns) / 1e9
        return served

    def close(self, served: ServedModel) -> None:
        """Free a version whose front is closed, and that runs nothing; the memory goes back to the system."""
        served.executor.close()
        served.model.close()
        _trim_memory()

    def _file(self, version: Path, message: ModelConfig) -> Path:
        return version if version.is_file() else version / (message.default_model_filename or "model.onnx")

    def _complete(
        self,
        found: FoundModel,
        message: ModelConfig,
        model: LoadedModel,
        settings: ModelSettings,
        instances: int,
        where: str,
    ) -> ModelConfig:
        automatic = AUTOMATIC_MAX_BATCH_SIZE if self._is_strict else TRITON_MAX_BATCH_SIZE
        defaults = defaults_from(settings, automatic_max_batch_size=automatic, instance_count=instances)
        if message.max_batch_size and not self._is_strict:
            # Triton completes a batcher only where it also chose the batch size.
            defaults = replace(defaults, dynamic_batching=False)
        return autocomplete(
            message,
            model.inputs,
            model.outputs,
            found.name,
            defaults=defaults,
            overrides=overrides_from(settings),
            where=where,
        )

    def _may_merge(
        self, spec: ModelSpec, message: ModelConfig, version: int, model: LoadedModel, settings: ModelSettings
    ) -> bool:
        """Whether requests may share a run.

        Who asks for batches is believed; where only the file's shapes say that the model batches, its rows are tried.
        """
        asked = message.max_batch_size or message.HasField("dynamic_batching")
        if asked or "batching.max_batch_size" in settings.overridden:
            return True
        if spec.dynamic_batching is None or spec.max_batch_size < 2:
            return True
        trial = try_rows(model, spec.inputs, spec.reshapes)
        if trial.verdict is Rows.UNKNOWN:
            _log.info("rows_not_tried", model=spec.name, version=str(version), reason=trial.reason)
        if trial.verdict is not Rows.MIXED:
            return True
        _log.warning(
            "requests_not_merged",
            model=spec.name,
            version=str(version),
            reason=f"its rows are not independent: {trial.reason}",
            hint="if requests may share a run all the same, say so with max_batch_size in config.pbtxt",
        )
        return False

    def _serve(
        self,
        spec: ModelSpec,
        config: Mapping[str, Any],
        version: int,
        model: LoadedModel,
        settings: ModelSettings,
        mergeable: bool,
    ) -> ServedModel:
        clock, loop = self._host.clock, self._host.loop
        points = self._measure(spec, model, settings)
        if settings.execution.warmup:
            warm_up(model, spec, settings.execution.warmup_runs)
        curve = LatencyCurve(points)
        executor = self._executor(spec, version, model, settings, curve, measured=bool(points))
        plan = self._plan(spec, settings, curve, mergeable=mergeable)
        statistics = ModelStatistics(spec.name, str(version), clock)
        traces = self._host.gate(spec, version)
        observer = _Accounts(statistics, clock)
        traces.follow(observer.note_traces)
        store = store_for(spec, version, plan, self._store)
        front: Front
        if store is None:
            batcher = Batcher(plan, executor, clock, loop, curve, observer, expire_running=self._is_strict)
            front = batcher
        else:
            batcher = Batcher(plan, executor, clock, loop, curve, RunAccounts(observer))
            shelf = self._shelf(spec, store)
            front = CacheFront(batcher, shelf, plan, statistics, clock, loop, expire_running=self._is_strict)
        statistics.depth = batcher.depth
        return ServedModel(spec, config, version, model, executor, batcher, statistics, front, traces)

    def _shelf(self, spec: ModelSpec, store: AnswerStore) -> Shelf:
        keys = KeyMaker(spec.inputs, spec.outputs, self._settings.cache.max_input_bytes)
        return Shelf(keys, store, batches=spec.max_batch_size > 0)

    def _measure(self, spec: ModelSpec, model: LoadedModel, settings: ModelSettings) -> list[tuple[int, int]]:
        if not settings.batching.measure:
            return []
        rows = min(spec.max_batch_size, settings.batching.best_batch or _MEASURED_ROWS)
        return measure_model(model, spec.inputs, spec.reshapes, max_rows=rows, budget_s=_MEASURE_BUDGET_S)

    def _executor(
        self,
        spec: ModelSpec,
        version: int,
        model: LoadedModel,
        settings: ModelSettings,
        curve: LatencyCurve,
        *,
        measured: bool,
    ) -> Executor:
        runner = BatchRunner(
            model,
            spec.inputs,
            spec.outputs,
            batches=spec.max_batch_size > 0,
            reshapes=spec.reshapes,
            fixed_rows=_fixed_rows(spec),
        )
        threshold_ns = settings.execution.inline_threshold_us * 1000
        mode = settings.execution.mode
        if mode == "auto":
            mode = "inline" if measured and curve.expected_ns(1) < threshold_ns else "thread"
        name = f"{spec.name}:{version}"
        if mode == "inline":
            return HybridExecutor(runner, self._host.loop, name, curve, threshold_ns)
        return ThreadExecutor(runner, spec.instance_count, self._host.loop, name)

    def _plan(self, spec: ModelSpec, settings: ModelSettings, curve: LatencyCurve, *, mergeable: bool) -> BatchingPlan:
        batching = spec.dynamic_batching
        queue = settings.queue
        limits = QueueLimits(queue.max_requests, queue.max_rows, queue.max_bytes, round(queue.max_wait_ms * 1e6))
        if batching is None or not mergeable:
            return BatchingPlan(
                max_rows=spec.max_batch_size, merge_rows=1, limits=limits, strict_timeouts=self._is_strict
            )
        levels = tuple(
            LevelPolicy(
                timeout_action="delay" if policy.timeout_action is TimeoutAction.DELAY else "reject",
                default_timeout_ns=policy.default_timeout_ns,
                allow_timeout_override=policy.allow_timeout_override,
                max_requests=policy.max_queue_size,
            )
            for policy in (batching.policy_for(level) for level in range(1, max(1, batching.priority_levels) + 1))
        )
        best = settings.batching.best_batch or curve.best_rows(max(1, spec.max_batch_size))
        preferred = _worth_preferring(batching.preferred_sizes, spec.max_batch_size, batching.max_queue_delay_ns)
        fixed = _fixed_rows(spec)
        if fixed:
            # Every run has this many rows, so no other number is worth merging or waiting for.
            best, preferred = fixed, ()
        return BatchingPlan(
            max_rows=spec.max_batch_size,
            merge_rows=min(max(best, *preferred, 1), max(1, spec.max_batch_size)),
            preferred_rows=preferred,
            max_delay_ns=batching.max_queue_delay_ns,
            objective_p99_ns=round(settings.batching.objective_p99_ms * 1e6),
            preserve_ordering=batching.preserve_ordering,
            levels=levels,
            default_level=max(1, batching.default_priority_level),
            limits=limits,
            strict_timeouts=self._is_strict,
        )


def _read_config(found: FoundModel) -> ModelConfig:
    """What was given with the call, or what config.pbtxt says; empty if there is neither.

    Raises:
        InvalidConfig: it cannot be read.
    """
    if found.given is not None:
        return from_json(found.given, f"the configuration given for model {found.name!r}")
    if found.config is None:
        return new_config()
    try:
        text = found.config.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"is not UTF-8: {error}"
        raise InvalidConfig(
            f"{found.config} of model {found.name!r} cannot be read: {reason}",
            hint="make it a UTF-8 text file that this user may read, or remove it: what the file says is enough",
            path=str(found.config),
        ) from error
    return parse_pbtxt(text, str(found.config))


def _config_of_versions(message: ModelConfig) -> bytes:
    """What of a configuration decides how a version is served: all but which versions are."""
    own = new_config()
    own.CopyFrom(message)
    own.ClearField("version_policy")
    return bytes(own.SerializeToString(deterministic=True))


def _trim_memory() -> None:
    """Have the allocator give back what nothing uses: it would keep a closed model's pages for the next one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _choose_versions(found: FoundModel, message: ModelConfig) -> tuple[int, ...]:
    """The versions to serve.

    Raises:
        InvalidModel: there is none, or the version policy chooses none.
    """
    if not found.versions:
        hint = f"put a model into {found.directory}/1/model.onnx"
        raise InvalidModel(f"model {found.name!r} has no version", hint=hint)
    chosen = version_policy(message).choose(found.versions)
    if not chosen:
        raise InvalidModel(
            f"version_policy of model {found.name!r} chooses none of its versions {sorted(found.versions)}",
            hint="name a version that exists, or leave version_policy out",
        )
    return chosen


def _worth_preferring(sizes: tuple[int, ...], max_rows: int, delay_ns: int) -> tuple[int, ...]:
    """Preferred sizes matter only where a request may wait; the completed default (the maximum) says nothing."""
    return () if delay_ns == 0 or sizes == (max_rows,) else sizes


def _fixed_rows(spec: ModelSpec) -> int:
    """Parameter `fixed_batch` of config.pbtxt: every run has this many rows.

    Raises:
        InvalidConfig: not a number within max_batch_size.
    """
    text = spec.parameters.get("fixed_batch", "0")
    if not text.isdigit() or int(text) > spec.max_batch_size:
        raise InvalidConfig(
            f"parameter 'fixed_batch' of model {spec.name!r} is {text!r}; it is a number of rows up to max_batch_size "
            f"({spec.max_batch_size})",
            hint="set parameters { key: 'fixed_batch' value { string_value: '8' } }, or leave it out",
        )
    return int(text)


class _Accounts:
    """The batcher's observer: counts each batch once its answers are handed over."""

    def __init__(self, statistics: ModelStatistics, clock: Clock) -> None:
        self._statistics = statistics
        self._now_ns = clock.monotonic_ns
        self.rejected = statistics.rejected
        self.cancelled = statistics.cancelled
        self.batch_done = self._count
        """The observer's; another one while requests are traced, so that it costs nothing while none are."""

    def note_traces(self, wanted: bool) -> None:
        """Note the times of runs on the requests that are traced, or do not."""
        self.batch_done = self._count_and_note if wanted else self._count

    def _count_and_note(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        note_runs(batch, outcome)
        self._count(batch, outcome, dispatched_ns, gone)

    def _count(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        """Count the run, and the answers it gave."""
        self._statistics.batch_done(batch, outcome, dispatched_ns, gone)
        if outcome.result is None:
            # Only the good parts of a batch that failed as a whole were answered with a result.
            pairs = zip(batch, outcome.parts or (), strict=False)
            batch = [request for request, part in pairs if part.result is not None]
        if gone:
            batch = [request for request in batch if request not in gone]
        self._statistics.responses_done([request.arrived_ns for request in batch], self._now_ns())
