"""The walk: read, split, prepare, calibrate once, search for each target, tell."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument, InvalidModel, TaxiwayError, Unsupported, error_from_data
from taxiway.core.tensors import TensorSpec
from taxiway.optimize.cache import Memory, digest_of_file, no_room
from taxiway.optimize.data.reading import read_samples
from taxiway.optimize.data.splitting import Split, split, split_beside
from taxiway.optimize.data.store import load_samples
from taxiway.optimize.graph.preparing import model_bytes
from taxiway.optimize.outcome import Outcome, Report, Wanted
from taxiway.optimize.promising import promise_of, true_classes
from taxiway.optimize.searching import Search
from taxiway.optimize.targets import TARGETS, Target, engines_folder, provider_options
from taxiway.optimize.trials import Fate, Trial, is_faster, quickness
from taxiway.optimize.truth import check_baseline
from taxiway.optimize.trying import Tester, baseline_scores
from taxiway.optimize.workplace import open_workplace, parts_by_name, tool_versions
from taxiway.optimize.workshop.client import OrderFailed
from taxiway.optimize.workshop.orders import Answer, Answered, Calibrate, Calibrated, Prepare, Prepared
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime

CALIBRATION_BATCH: Final = 8
MOST_MODEL_BYTES: Final = 1900 << 20


def optimize(wanted: Wanted, tell: Callable[[str], object] = lambda _doing: None) -> Report:
    """Find the fastest variant that keeps the promise.

    Raises:
        InvalidData, NotEnoughData, OverlappingData, InvalidArgument: data, metric or model do not fit.
        Unsupported: the model is larger than one file can be.
        NoRoom: the disk is full; said again, it goes on from where it was.
    """
    _targets(wanted.targets)
    began = _cpu_s()
    tell("reading the model and the data")
    _check_size(wanted.model)
    inputs, outputs = _signature(wanted.model)
    parts = _read(wanted, inputs)
    try:
        with open_workplace(wanted, parts, inputs) as (folder, memory):
            return _Walk(wanted, folder, memory, parts, outputs, tell, began).report()
    except OrderFailed as problem:
        raise _ours(problem, "had a candidate that cannot be made again") from problem
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_room(wanted.cache) from problem


def _targets(names: Sequence[str]) -> tuple[Target, ...]:
    for name in names:
        if name not in TARGETS:
            raise InvalidArgument(
                f"target: {name!r} is none of {', '.join(TARGETS)}", hint="choose one of them", value=name
            )
    return tuple(TARGETS[name] for name in dict.fromkeys(names))


def _check_size(path: Path) -> None:
    """Candidates are written as one file each, which protocol buffers let grow to 2 GiB."""
    size = model_bytes(path)
    if size > MOST_MODEL_BYTES:
        raise Unsupported(
            f"model: {path} has {size >> 20} MiB with its weights, more than {MOST_MODEL_BYTES >> 20} MiB",
            hint="a model of this size is not optimized here: serve it as it is",
        )


def _signature(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    model = OnnxRuntime().load(path, OnnxOptions())
    try:
        return model.inputs, model.outputs
    finally:
        model.close()


def _read(wanted: Wanted, inputs: Sequence[TensorSpec]) -> Split:
    samples = read_samples(wanted.data, inputs)
    if not wanted.eval_data:
        return split(samples)
    return split_beside(samples, read_samples(wanted.eval_data, inputs, field="eval_data"))


def _cpu_s() -> float:
    return sum(os.times()[:4])


class _Walk:
    """One run, step by step."""

    def __init__(
        self,
        wanted: Wanted,
        folder: Path,
        memory: Memory,
        parts: Split,
        outputs: Sequence[TensorSpec],
        tell: Callable[[str], object],
        began: float,
    ) -> None:
        self._wanted = wanted
        self._targets = _targets(wanted.targets)
        self._folder = folder
        self._memory = memory
        self._parts = parts
        self._tell = tell
        self._began = began
        self._promise = promise_of(wanted, parts, outputs)
        self._classes = {name: true_classes(part) for name, part in parts_by_name(parts)}
        racing = load_samples(folder / "racing")
        calls = (*racing.calls(wanted.batch), *itertools.islice(racing.calls(1), 1))  # a row alone comes as well
        shapes = [{name: array.shape for name, array in call.items()} for call in calls]
        engines = engines_folder(wanted.cache)
        self._options = {target.name: provider_options(target, shapes, engines) for target in self._targets}

    def report(self) -> Report:
        """Walk it."""
        prepared = self._prepare()
        self._answer_baseline()
        self._calibrate()
        tester = Tester(
            memory=self._memory,
            folder=self._folder,
            source=self._wanted.model.resolve(),
            size=model_bytes(self._wanted.model),
            promise=self._promise,
            batch=self._wanted.batch,
            labels=self._classes,
            tell=self._tell,
            options=self._options,
        )
        searches = [Search(tester, target) for target in self._targets]
        trials = [trial for search in searches for trial in search.candidates(prepared)]
        return self._told(prepared, trials, searches, tester)

    # --- steps ------------------------------------------------------------------------------------------

    def _prepare(self) -> Prepared:
        self._tell("simplifying")
        target = self._folder / "prepared.onnx"
        order = Prepare(str(self._wanted.model.resolve()), str(target))
        try:
            return self._memory.ensure(order, Prepared, target)
        except OrderFailed as problem:
            raise _ours(problem, "cannot be prepared") from problem

    def _answer_baseline(self) -> None:
        for part in ("screening", "choosing", "proving"):
            self._tell(f"asking the baseline ({part})")
            order = Answer(
                str(self._wanted.model.resolve()),
                str(self._folder / part),
                str(self._folder / f"{part}-answers"),
                self._wanted.batch,
                self._promise.metric,
                self._promise.output,
                str(baseline_scores(self._folder, part, self._promise)),
            )
            try:
                self._memory.ensure(order, Answered, Path(order.target))
            except OrderFailed as problem:
                raise _ours(problem, "does not run on these data") from problem
        check_baseline(self._promise.metric, self._proving_scores(), self._classes["proving"], self._promise.output)

    def _proving_scores(self) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = np.load(baseline_scores(self._folder, "proving", self._promise))
        return scores

    def _calibrate(self) -> None:
        self._tell("calibrating")
        target = self._folder / "histograms.npz"
        order = Calibrate(
            str(self._folder / "prepared.onnx"), str(self._folder / "calibrating"), str(target), CALIBRATION_BATCH
        )
        try:
            self._memory.ensure(order, Calibrated, target)
        except OrderFailed as problem:
            raise _ours(problem, "cannot be calibrated") from problem

    # --- what is told -----------------------------------------------------------------------------------

    def _told(self, prepared: Prepared, trials: Sequence[Trial], searches: Sequence[Search], tester: Tester) -> Report:
        kept = sorted((one for one in trials if one.fate is Fate.KEPT and is_faster(one)), key=quickness)
        best = kept[0] if kept else None
        told = [msgspec.structs.replace(one, fate=Fate.RECOMMENDED) if one is best else one for one in trials]
        for one in told:
            if one.fate is not Fate.DROPPED:
                tester.file_of(one, TARGETS[one.target])
        return Report(
            model=str(self._wanted.model),
            model_digest=f"sha256:{digest_of_file(self._wanted.model)}",
            metric=self._promise.metric,
            output=self._promise.output,
            max_drop=self._promise.max_drop,
            batch=self._wanted.batch,
            baseline=tester.baseline(),
            baseline_value=float(np.mean(self._proving_scores())),
            trials=tuple(sorted(told, key=_as_told)),
            damages={
                name: tuple((one.where.name, len(one.where.nodes), one.distortion) for one in damages)
                for search in searches
                for name, damages in search.damages.items()
            },
            steps=prepared.steps,
            operators=prepared.operators,
            samples={name: len(part) for name, part in parts_by_name(self._parts)},
            versions=tool_versions(),
            outcome=_outcome(told),
            recommended=best.name if best is not None else "",
            provider_options=self._options,
            spent_s=_cpu_s() - self._began,
            asked=self._memory.asked,
        )


def _outcome(trials: Sequence[Trial]) -> Outcome:
    if any(one.fate is Fate.RECOMMENDED for one in trials):
        return "recommended"
    if any(one.fate is Fate.KEPT and one.speed is None for one in trials):
        return "speed unknown"
    return "not enough data" if any(one.fate is Fate.UNPROVEN for one in trials) else "baseline"


def _as_told(trial: Trial) -> tuple[int, tuple[float, int]]:
    order = list(Fate)
    return (order.index(trial.fate), quickness(trial))


def _ours(problem: OrderFailed, what: str) -> TaxiwayError:
    """The error to raise for a step that nothing goes on without."""
    failed = problem.failed
    if failed.code:
        return error_from_data({"code": failed.code, "message": failed.message, "hint": failed.hint, "facts": {}})
    return InvalidModel(
        f"the model {what}: {failed.message}", hint="it has to load and run as it is: taxiway serve MODEL"
    )
