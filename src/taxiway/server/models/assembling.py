"""From one loaded version to what answers for it: measured, warm, with its queue and whatever stands before that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from taxiway.config.model_config import ModelConfig
from taxiway.config.model_spec import ModelSpec, TimeoutAction
from taxiway.config.sequence_spec import SequenceBatching
from taxiway.config.settings import ModelSettings, Settings
from taxiway.core.clock import Clock
from taxiway.core.errors import InvalidConfig
from taxiway.core.ports import BatchOutcome, Executor, LoadedModel, PinnedExecutor
from taxiway.core.requests import InferRequest
from taxiway.server.batching.loop import Batcher
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy, QueueLimits
from taxiway.server.batching.streaming import StreamAccounts, StreamCurve, StreamFront
from taxiway.server.cache.front import CacheFront, RunAccounts
from taxiway.server.cache.store import AnswerStore
from taxiway.server.execution import BatchRunner, HybridExecutor, ThreadExecutor, WholeRunner
from taxiway.server.execution.processes.executor import ProcessExecutor
from taxiway.server.execution.processes.model import HostedModel
from taxiway.server.models.caching import shelf_for, store_for
from taxiway.server.models.engine import ModelEngine
from taxiway.server.models.host import Host
from taxiway.server.models.measure import measure_model
from taxiway.server.models.rows import Rows, try_rows
from taxiway.server.models.served import Front, ServedModel, sampled
from taxiway.server.models.warmup import warm_up
from taxiway.server.sequencing.front import SequenceFront, SequencePorts
from taxiway.server.sequencing.plan import SequencePlan
from taxiway.server.sequencing.tensors import SequenceTensors, shapes_of
from taxiway.server.statistics import ModelStatistics
from taxiway.server.tracing.trace import note_runs
from taxiway.stats.latency import LatencyCurve
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")

_MEASURED_ROWS = 128
_MEASURE_BUDGET_S = 1.0


@dataclass(frozen=True, slots=True)
class Completed:
    """A version that is loaded, and its configuration completed from it.

    Attributes:
        message: the configuration as it was written.
        spec: as it was completed.
        config: the same as Triton's configuration JSON.
    """

    version: int
    model: LoadedModel
    message: ModelConfig
    spec: ModelSpec
    config: Mapping[str, Any]
    settings: ModelSettings


class Assembler:
    """Makes what answers for one version. It may block: models are measured and run before they are ready.

    Args:
        store: keeps the answers of versions that are cached; None: none is.
    """

    def __init__(self, settings: Settings, host: Host, store: AnswerStore | None) -> None:
        self._settings = settings
        self._is_strict = settings.compat == "strict"
        self._host = host
        self._store = store

    def assemble(self, completed: Completed) -> ServedModel:
        """What answers for the version.

        Raises:
            InvalidConfig, InvalidModel: its configuration contradicts what it does, or its warm-up failed.
        """
        served = self._assemble(completed)
        make = self._host.sampler
        return served if make is None else sampled(served, make(served.spec, served.version))

    def _assemble(self, completed: Completed) -> ServedModel:
        spec, model, settings = completed.spec, completed.model, completed.settings
        if spec.sequences is not None:
            return self._assemble_stateful(completed, spec.sequences)
        if isinstance(model, HostedModel):
            return self._assemble_hosted(completed, model)
        mergeable = self._may_merge(completed)
        points = self._measure(spec, model, settings)
        if settings.execution.warmup:
            warm_up(model, spec, settings.execution.warmup_runs)
        curve = LatencyCurve(points)
        executor = self._executor(completed, curve, measured=bool(points))
        plan = self._plan(spec, settings, curve, mergeable=mergeable)
        return self._serve(completed, executor, plan, curve)

    def _assemble_hosted(self, completed: Completed, model: HostedModel) -> ServedModel:
        """Nothing is measured, and nothing is run that was not asked for: who knows what a model's own code does."""
        spec, settings = completed.spec, completed.settings
        if settings.execution.warmup and spec.warmup:
            warm_up(model, spec, settings.execution.warmup_runs)
        executor = model.spread(spec.instance_count, self._host.loop, self._host.clock, self._host.inner)
        curve = LatencyCurve([])
        plan = self._plan(spec, settings, curve, mergeable=not spec.decoupled)
        served = self._serve(completed, executor, plan, curve)
        served.statistics.processes = executor.counts
        served.statistics.own_metrics = executor.metrics.points
        return served

    def _serve(self, completed: Completed, executor: Executor, plan: BatchingPlan, curve: LatencyCurve) -> ServedModel:
        clock, loop = self._host.clock, self._host.loop
        spec, version = completed.spec, completed.version
        statistics = ModelStatistics(spec.name, str(version), clock)
        traces = self._host.gate(spec, version)
        traces.exemplify = statistics.traced
        observer = Accounts(statistics, clock)
        traces.follow(observer.note_traces)
        store = store_for(spec, version, plan, self._store)
        front: Front
        alone = None
        if spec.decoupled:
            accounts = StreamAccounts(observer, statistics)
            batcher = Batcher(plan, executor, clock, loop, StreamCurve(), accounts, expire_running=self._is_strict)
            front = StreamFront(batcher, _names(spec), statistics, clock)
        elif store is None:
            batcher = Batcher(plan, executor, clock, loop, curve, observer, expire_running=self._is_strict)
            front, alone = batcher, batcher.run_alone
            if isinstance(executor, ProcessExecutor) and plan.merge_rows == 1:
                executor.look_ahead(batcher.resize)  # where requests may be merged, those that wait make a better batch
        else:
            batcher = Batcher(plan, executor, clock, loop, curve, RunAccounts(observer))
            shelf = shelf_for(spec, store, self._settings.cache.max_input_bytes)
            front = CacheFront(batcher, shelf, plan, statistics, clock, loop, expire_running=self._is_strict)
        statistics.depth = batcher.depth
        engine = ModelEngine(batcher, executor, completed.model)
        return ServedModel(spec, completed.config, version, engine, statistics, front, traces, alone)

    def _assemble_stateful(self, completed: Completed, sequences: SequenceBatching) -> ServedModel:
        """The same for a model whose requests are steps of sequences."""
        clock, loop = self._host.clock, self._host.loop
        spec, version = completed.spec, completed.version
        tensors = SequenceTensors(spec, sequences, completed.model.inputs)
        # What is run has more tensors than callers know of.
        own = replace(completed, spec=replace(spec, inputs=tensors.inputs, outputs=tensors.outputs))
        executor, curve = self._run_stateful(own)
        statistics = ModelStatistics(spec.name, str(version), clock)
        traces = self._host.gate(spec, version)
        traces.exemplify = statistics.traced
        accounts = Accounts(statistics, clock)
        traces.follow(accounts.note_traces)
        observer = StreamAccounts(accounts, statistics) if spec.decoupled else accounts
        plan = SequencePlan(
            model=spec.name,
            strategy=sequences.strategy,
            rows=max(1, spec.max_batch_size),
            merged_rows=1 if spec.decoupled else max(1, spec.max_batch_size),
            instances=executor.instances,
            max_idle_ns=sequences.max_idle_ns,
            limits=_queue_limits(completed.settings),
            strict_timeouts=self._is_strict,
            initial_shapes=shapes_of(tensors.initial),
        )
        ports = SequencePorts(executor, clock, loop, curve, observer)
        steps = SequenceFront(plan, tensors, ports, expire_running=self._is_strict)
        front: Front = steps
        if spec.decoupled:
            front = StreamFront(steps, [output.name for output in spec.outputs], statistics, clock)
        statistics.depth, statistics.sequences = steps.depth, steps.counts
        if isinstance(executor, ProcessExecutor):
            statistics.processes = executor.counts
            statistics.own_metrics = executor.metrics.points
        engine = ModelEngine(steps, executor, completed.model)
        config = completed.config
        return ServedModel(spec, config, version, engine, statistics, front, traces, wind_down=steps.wind_down)

    def _run_stateful(self, own: Completed) -> tuple[PinnedExecutor, LatencyCurve]:
        """What runs the steps, and what is known of their cost."""
        spec, model, settings = own.spec, own.model, own.settings
        if isinstance(model, HostedModel):
            model.learn(spec)
            if settings.execution.warmup and spec.warmup:
                warm_up(model, spec, settings.execution.warmup_runs)
            processes = model.spread(spec.instance_count, self._host.loop, self._host.clock, self._host.inner)
            return processes, StreamCurve() if spec.decoupled else LatencyCurve([])
        points = self._measure(spec, model, settings)
        if settings.execution.warmup:
            warm_up(model, spec, settings.execution.warmup_runs)
        curve = LatencyCurve(points)
        return self._executor(own, curve, measured=bool(points)), curve

    def _measure(self, spec: ModelSpec, model: LoadedModel, settings: ModelSettings) -> list[tuple[int, int]]:
        if not settings.batching.measure:
            return []
        rows = min(spec.max_batch_size, settings.batching.best_batch or _MEASURED_ROWS)
        return measure_model(model, spec.inputs, spec.reshapes, max_rows=rows, budget_s=_MEASURE_BUDGET_S)

    def _may_merge(self, completed: Completed) -> bool:
        """Whether requests may share a run.

        Who asks for batches is believed; where only the file's shapes say that the model batches, its rows are tried.
        """
        spec, message, settings = completed.spec, completed.message, completed.settings
        asked = message.max_batch_size or message.HasField("dynamic_batching")
        if asked or "batching.max_batch_size" in settings.overridden:
            return True
        if spec.dynamic_batching is None or spec.max_batch_size < 2:
            return True
        trial = try_rows(completed.model, spec.inputs, spec.reshapes)
        if trial.verdict is Rows.UNKNOWN:
            _log.info("rows_not_tried", model=spec.name, version=str(completed.version), reason=trial.reason)
        if trial.verdict is not Rows.MIXED:
            return True
        _log.warning(
            "requests_not_merged",
            model=spec.name,
            version=str(completed.version),
            reason=f"its rows are not independent: {trial.reason}",
            hint="if requests may share a run all the same, say so with max_batch_size in config.pbtxt",
        )
        return False

    def _executor(self, completed: Completed, curve: LatencyCurve, *, measured: bool) -> PinnedExecutor:
        spec, settings = completed.spec, completed.settings
        runner = (BatchRunner if spec.sequences is None else WholeRunner)(
            completed.model,
            spec.inputs,
            spec.outputs,
            batches=spec.max_batch_size > 0,
            reshapes=spec.reshapes,
            fixed_rows=0 if spec.sequences is not None else _fixed_rows(spec),
        )
        threshold_ns = settings.execution.inline_threshold_us * 1000
        mode = settings.execution.mode
        if mode == "auto":
            mode = "inline" if measured and curve.expected_ns(1) < threshold_ns else "thread"
        name = f"{spec.name}:{completed.version}"
        if mode == "inline":
            return HybridExecutor(runner, self._host.loop, name, curve, threshold_ns)
        return ThreadExecutor(runner, spec.instance_count, self._host.loop, name)

    def _plan(self, spec: ModelSpec, settings: ModelSettings, curve: LatencyCurve, *, mergeable: bool) -> BatchingPlan:
        batching = spec.dynamic_batching
        limits = _queue_limits(settings)
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


def _queue_limits(settings: ModelSettings) -> QueueLimits:
    queue = settings.queue
    return QueueLimits(queue.max_requests, queue.max_rows, queue.max_bytes, round(queue.max_wait_ms * 1e6))


def _names(spec: ModelSpec) -> list[str]:
    return [output.name for output in spec.outputs]


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


class Accounts:
    """The observer of a version's runs: counts each once its answers are handed over."""

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
