"""From a model on disk to versions that are loaded, measured, warm and ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taxiway.config.autocomplete import autocomplete
from taxiway.config.model_config import ModelConfig, new_config, parse_pbtxt, to_json_dict
from taxiway.config.model_defaults import defaults_from, overrides_from, uses_gpu
from taxiway.config.model_spec import ModelSpec, TimeoutAction, build_spec, refuse_unsupported
from taxiway.config.settings import ModelSettings, Settings
from taxiway.core.clock import Clock
from taxiway.core.errors import InvalidConfig, InvalidModel
from taxiway.core.ports import BatchOutcome, Executor, LoadedModel
from taxiway.core.requests import InferRequest
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime
from taxiway.server.batching.loop import Batcher
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy, QueueLimits
from taxiway.server.execution import BatchRunner, HybridExecutor, ThreadExecutor
from taxiway.server.models.machine import ModelEvent, begin_life, step_life
from taxiway.server.models.measure import measure_model
from taxiway.server.models.repository import FoundModel
from taxiway.server.models.served import ServedModel
from taxiway.server.models.warmup import warm_up
from taxiway.server.statistics import ModelStatistics
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
    """What the versions run on."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    cpus: int


class ModelLoader:
    """Loads models for one server. Everything here may block; it runs before the server is ready."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._runtime = OnnxRuntime()

    def load(self, found: FoundModel) -> list[ServedModel]:
        """Every version of `found` that its version policy asks for, ready.

        Raises:
            InvalidConfig, Unsupported: its configuration is wrong, or asks for what is not done.
            InvalidModel: a file cannot be loaded, or its warm-up failed.
        """
        settings = self._settings.for_model(found.name)
        gpu = uses_gpu(settings)
        message = parse_pbtxt(found.config.read_text(), str(found.config)) if found.config else new_config()
        refuse_unsupported(message, gpu=gpu)
        instances = settings.execution.instances or min(self._host.cpus, _THREADS_AT_MOST)
        options = self._options(settings, message, instances)
        if not found.versions:
            hint = f"put a model into {found.directory}/1/model.onnx"
            raise InvalidModel(f"model {found.name!r} has no version", hint=hint)
        probe = max(found.versions)
        model = self._runtime.load(self._file(found.versions[probe], message), options)
        completed = self._complete(found, message, model, settings, instances)
        spec = build_spec(completed, found.directory, gpu=gpu)
        for path in spec.ignored:
            _log.warning("config_field_ignored", model=found.name, setting=path)
        config = to_json_dict(completed)
        loaded = {probe: model}
        served: list[ServedModel] = []
        for version in spec.version_policy.choose(found.versions):
            if version not in loaded:
                loaded[version] = self._runtime.load(self._file(found.versions[version], message), options)
            served.append(self._serve(spec, config, version, loaded[version], settings))
        if not served:
            raise InvalidConfig(
                f"version_policy of model {found.name!r} chooses none of its versions {sorted(found.versions)}",
                hint="name a version that exists, or leave version_policy out",
            )
        return served

    def _options(self, settings: ModelSettings, message: ModelConfig, instances: int) -> OnnxOptions:
        """Threads: as many as there are cores, over all instances, unless something says otherwise."""
        execution = settings.execution
        asked = sum(group.count for group in message.instance_group) or instances
        return OnnxOptions(
            providers=tuple(execution.providers),
            provider_options=execution.provider_options,
            intra_op_threads=execution.intra_op_threads or max(1, self._host.cpus // asked),
            inter_op_threads=execution.inter_op_threads or 1,
        )

    def _file(self, version: Path, message: ModelConfig) -> Path:
        return version if version.is_file() else version / (message.default_model_filename or "model.onnx")

    def _complete(
        self, found: FoundModel, message: ModelConfig, model: LoadedModel, settings: ModelSettings, instances: int
    ) -> ModelConfig:
        as_triton = self._settings.compat == "triton"
        automatic = TRITON_MAX_BATCH_SIZE if as_triton else AUTOMATIC_MAX_BATCH_SIZE
        defaults = defaults_from(settings, automatic_max_batch_size=automatic, instance_count=instances)
        if as_triton and message.max_batch_size:
            # Triton completes a batcher only where it also chose the batch size.
            defaults = replace(defaults, dynamic_batching=False)
        return autocomplete(
            message,
            model.inputs,
            model.outputs,
            found.name,
            defaults=defaults,
            overrides=overrides_from(settings),
            where=str(found.config or found.directory),
        )

    def _serve(
        self, spec: ModelSpec, config: Mapping[str, Any], version: int, model: LoadedModel, settings: ModelSettings
    ) -> ServedModel:
        clock = self._host.clock
        began_ns = clock.monotonic_ns()
        life = begin_life(f"{spec.name}:{version}", began_ns)
        points = self._measure(spec, model, settings)
        if settings.execution.warmup:
            warm_up(model, spec, settings.execution.warmup_runs)
        curve = LatencyCurve(points)
        executor = self._executor(spec, version, model, settings, curve, measured=bool(points))
        plan = self._plan(spec, settings, curve)
        statistics = ModelStatistics(spec.name, str(version), clock)
        observer = _Accounts(statistics, clock)
        strict = self._settings.compat == "strict"
        batcher = Batcher(plan, executor, clock, self._host.loop, curve, observer, expire_running=strict)
        statistics.depth = batcher.depth
        statistics.load_s = (clock.monotonic_ns() - began_ns) / 1e9
        life = step_life(life, ModelEvent.LOADED, "loaded, measured and warm", clock.monotonic_ns())
        return ServedModel(spec, config, version, model, executor, batcher, statistics, life)

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

    def _plan(self, spec: ModelSpec, settings: ModelSettings, curve: LatencyCurve) -> BatchingPlan:
        batching = spec.dynamic_batching
        queue = settings.queue
        limits = QueueLimits(queue.max_requests, queue.max_rows, queue.max_bytes, round(queue.max_wait_ms * 1e6))
        if batching is None:
            return BatchingPlan(max_rows=spec.max_batch_size, merge_rows=1, limits=limits)
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
            strict_timeouts=self._settings.compat == "strict",
        )


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

    def batch_done(self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int) -> None:
        """Count the run, and the answers it gave."""
        self._statistics.batch_done(batch, outcome, dispatched_ns)
        self._statistics.responses_done([request.arrived_ns for request in batch], self._now_ns())
