"""The walk: read, split, prepare, calibrate once, try every recipe, mend what breaks the promise, prove the fastest."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from taxiway import __version__
from taxiway.core.errors import InvalidArgument, InvalidModel, TaxiwayError, error_from_data
from taxiway.core.tensors import TensorSpec
from taxiway.optimize.cache import Memory, digest_of, digest_of_file, workplace
from taxiway.optimize.data.racing import racing_samples
from taxiway.optimize.data.reading import read_samples
from taxiway.optimize.data.samples import Samples
from taxiway.optimize.data.splitting import Split, split, split_beside
from taxiway.optimize.data.store import load_samples, write_samples
from taxiway.optimize.graph.classes import NodeClass, node_classes
from taxiway.optimize.graph.preparing import external_files
from taxiway.optimize.metrics import METRICS, Kind, check
from taxiway.optimize.recipes import EVERYTHING, Dynamic, Float8, Fused, Plain, Static
from taxiway.optimize.repair import Damage, Mendable, repair
from taxiway.optimize.shelf import Siblings, recipes_for
from taxiway.optimize.targets import TARGETS, Target, engines_folder, provider_options
from taxiway.optimize.trials import Fate, Trial, is_faster, pareto, probably_keeps, quickness, worthwhile
from taxiway.optimize.trying import FINAL_RACE_S, Promise, Tester, baseline_scores
from taxiway.optimize.workshop.client import OrderFailed, Workshop
from taxiway.optimize.workshop.orders import (
    Answer,
    Answered,
    Calibrate,
    Calibrated,
    Prepare,
    Prepared,
    Race,
    Raced,
    Step,
    Times,
    Weigh,
    Weighed,
)
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime

ALPHA: Final = 0.05
MOST_PROVEN: Final = 4
"""Candidates that come to a proof; the level is divided by them."""

MOST_MENDED: Final = 1
WORTH_MENDING: Final = 1.2
"""Times the best speed there is; exceptions cost some of it."""

RACING: Final = 64
"""Samples that are run for time."""

CALIBRATION_BATCH: Final = 8

Outcome = Literal["recommended", "baseline", "not enough data", "speed unknown"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What whoever optimizes says.

    Attributes:
        model: an ONNX file, which is only read.
        data: as in `read_samples`.
        eval_data: samples for the proof alone; empty: some of `data` are set aside.
        metric: a name of METRICS, or a function of the user's; empty: accuracy where there are labels, else
            agreement for an answer that looks like classes, else cosine.
        max_drop: as in `judge`.
        output: that the metric looks at; empty: the first.
        batch: rows that are run together.
        workload: recorded requests to take the time of; None: rows of `data`, a batch at a time.
        targets: names of TARGETS.
        cache: a directory for what was found out.
    """

    model: Path
    data: str
    cache: Path
    eval_data: str = ""
    metric: str = ""
    max_drop: float = 0.005
    output: str = ""
    batch: int = 16
    targets: tuple[str, ...] = ("cpu",)
    workload: Path | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found out.

    Attributes:
        baseline: size, times and memory of the model as it is.
        trials: every candidate, the recommended first, then by speed.
        damages: what each class of nodes does when it alone is quantized, by recipe.
        samples: how many calibrated, chose and proved.
        recommended: the name of a trial; empty: the baseline.
        provider_options: what the provider of each target is to be started with.
        spent_s: CPU seconds of this run.
    """

    model: str
    model_digest: str
    metric: str
    output: str
    max_drop: float
    batch: int
    baseline: Trial
    baseline_value: float
    trials: tuple[Trial, ...]
    damages: dict[str, tuple[tuple[str, int, float], ...]]
    steps: tuple[Step, ...]
    operators: dict[str, int]
    samples: dict[str, int]
    versions: dict[str, str]
    outcome: Outcome
    recommended: str
    provider_options: dict[str, dict[str, str]]
    spent_s: float
    asked: int

    @property
    def metric_name(self) -> str:
        """In a table: of a function its name without its place."""
        return self.metric.rpartition(":")[2]


def optimize(wanted: Wanted, tell: Callable[[str], object] = lambda _doing: None) -> Report:
    """Find the fastest variant that keeps the promise.

    Raises:
        InvalidData, NotEnoughData, OverlappingData, InvalidArgument: data, metric or model do not fit.
        NoRoom: the disk is full; said again, it goes on from where it was.
    """
    _targets(wanted.targets)
    began = _cpu_s()
    tell("reading the model and the data")
    inputs, outputs = _signature(wanted.model)
    parts = _read(wanted, inputs)
    with _run(wanted, parts, inputs) as (folder, memory):
        return _Walk(wanted, folder, memory, parts, outputs, tell, began).report()


def _targets(names: Sequence[str]) -> tuple[Target, ...]:
    for name in names:
        if name not in TARGETS:
            raise InvalidArgument(
                f"target: {name!r} is none of {', '.join(TARGETS)}", hint="choose one of them", value=name
            )
    return tuple(TARGETS[name] for name in dict.fromkeys(names))


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


@contextmanager
def _run(wanted: Wanted, parts: Split, inputs: Sequence[TensorSpec]) -> Iterator[tuple[Path, Memory]]:
    size = wanted.model.stat().st_size
    key = digest_of(
        [
            digest_of_file(wanted.model),
            *(digest_of_file(wanted.model.parent / name) for name in external_files(wanted.model)),
            *(b"".join(part.digests()).hex() for part in (parts.calibrating, parts.choosing, parts.proving)),
            str([str(label) for part in (parts.choosing, parts.proving) for label in part.labels()]),
            _metric_key(wanted.metric),
            str(wanted.batch),
            digest_of_file(wanted.workload) if wanted.workload is not None and wanted.workload.is_file() else "",
            *(f"{name}={value}" for name, value in _versions().items()),
            _processor(),
            _own_digest(),
        ]
    )
    with workplace(wanted.cache, key, size) as folder, Workshop(folder) as workshop:
        for name in ("candidates", "scores"):
            (folder / name).mkdir(exist_ok=True)
        racing = _racing(wanted, parts, inputs)
        for name, part in (*_parts(parts), ("racing", racing)):
            if not (folder / name).is_dir():
                _write_whole(part, folder / name)
        yield folder, Memory(workshop, folder)


def _racing(wanted: Wanted, parts: Split, inputs: Sequence[TensorSpec]) -> Samples:
    if wanted.workload is not None:
        return racing_samples(wanted.workload, inputs)
    return parts.choosing.first(max(RACING, 2 * wanted.batch))


def _parts(parts: Split) -> tuple[tuple[str, Samples], ...]:
    return (("calibrating", parts.calibrating), ("choosing", parts.choosing), ("proving", parts.proving))


def _write_whole(samples: Samples, folder: Path) -> None:
    """A folder that is there is whole."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    write_samples(samples, beside)
    beside.replace(folder)


def _metric_key(metric: str) -> str:
    """A function is what its file holds."""
    place = Path(metric.rpartition(":")[0])
    return f"{metric}:{digest_of_file(place)}" if place.suffix == ".py" and place.is_file() else metric


def _versions() -> dict[str, str]:
    found = {"taxiway": __version__, "python": platform.python_version()}
    for name in ("onnx", "onnxruntime", "onnxruntime-gpu", "onnxslim", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _own_digest() -> str:
    """What made the results, to the letter: a release's number does not change while it is worked on."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return digest_of([digest_of_file(file) for file in files])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    return f"{platform.machine()} {next((line for line in lines if line.startswith('model name')), '')} {flags}"


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
        self._damages: dict[str, tuple[Damage, ...]] = {}
        self._promise = _promise(wanted, parts, outputs)
        racing = load_samples(folder / "racing").calls(wanted.batch)
        shapes = [{name: array.shape for name, array in call.items()} for call in racing]
        engines = engines_folder(wanted.cache)
        self._options = {target.name: provider_options(target, shapes, engines) for target in self._targets}

    def report(self) -> Report:
        prepared = self._prepare()
        self._answer_baseline()
        self._calibrate()
        tester = Tester(
            memory=self._memory,
            folder=self._folder,
            source=self._wanted.model.resolve(),
            promise=self._promise,
            batch=self._wanted.batch,
            labels={"choosing": _classes(self._parts.choosing), "proving": _classes(self._parts.proving)},
            tell=self._tell,
            options=self._options,
        )
        trials = [trial for target in self._targets for trial in self._tried(target, prepared, tester)]
        return self._told(prepared, trials, tester)

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
        for part in ("choosing", "proving"):
            self._tell(f"asking the baseline ({part})")
            order = Answer(
                str(self._wanted.model.resolve()),
                str(self._folder / part),
                str(self._folder / f"{part}-answers"),
                self._wanted.batch,
                self._promise.metric,
                self._promise.output,
                str(baseline_scores(self._folder, part)),
            )
            try:
                self._memory.ask(order, Answered)
            except OrderFailed as problem:
                raise _ours(problem, "does not run on these data") from problem

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

    def _tried(self, target: Target, prepared: Prepared, tester: Tester) -> list[Trial]:
        """Every candidate for one target, each with its fate."""
        trials = [
            trial
            for siblings in recipes_for(target.name, prepared.operators)
            if siblings != (Fused(),) or _is_changed(prepared)
            for trial in self._of_siblings(siblings, target, tester)
        ]
        trials += self._mended(trials, target, tester)
        hopeful = [one for one in trials if not one.reason and probably_keeps(one, self._promise.max_drop)]
        useful = worthwhile(hopeful, self._wanted.model.stat().st_size)
        front = pareto(useful) if target.here else useful  # without speeds there is no front
        finalists = sorted(front, key=quickness)[:MOST_PROVEN]
        self._tell("proving the promise")
        proven = {one.path: self._proven(one, target, tester, len(finalists)) for one in finalists}
        return [proven.get(one.path) or self._dropped(one, useful) for one in trials]

    def _of_siblings(self, siblings: Siblings, target: Target, tester: Tester) -> list[Trial]:
        """All of them, of which the one that errs least was studied."""
        if len(siblings) == 1:
            return [tester.study(siblings[0], target)]
        self._tell(f"trying {siblings[0].name} and its like")
        looks = [tester.look(one, target) for one in siblings]
        made = [one for one in looks if not one.reason]
        if not made:
            return looks
        best = min(made, key=_error_of)
        reason = f"{best.recipe.name} is as fast and errs less"
        return [
            tester.study(one.recipe, target) if one is best else one if one.reason else _because(one, reason)
            for one in looks
        ]

    def _proven(self, trial: Trial, target: Target, tester: Tester, finalists: int) -> Trial:
        trial = tester.raced(trial, target, FINAL_RACE_S)
        trial = tester.proven(trial, target, ALPHA / finalists)
        if trial.reason:
            return trial
        times = self._baseline().times
        if times is not None:
            trial = tester.raced_alone(trial, target, times)
        return tester.weighed(trial, target)

    def _dropped(self, trial: Trial, useful: Sequence[Trial]) -> Trial:
        if trial.reason:
            return trial
        if not probably_keeps(trial, self._promise.max_drop):
            reason = f"{self._promise.metric.rpartition(':')[2]} drops by about {trial.drop:.4f}"
        elif trial not in useful:
            reason = "neither faster than the baseline nor smaller than a faster one"
        else:
            reason = "another candidate is as good in every way"
        return _because(trial, reason)

    def _mended(self, trials: Sequence[Trial], target: Target, tester: Tester) -> list[Trial]:
        """Mixes of those that would be faster than all that keep it; and of the best static one, in any case.

        What is rounded by ranges of its own run answers differently in different company; a static mix does not.
        """
        max_drop = self._promise.max_drop
        made = [one for one in trials if not one.reason]
        best = max((one.speed or 0.0 for one in made if probably_keeps(one, max_drop)), default=0.0)
        broken = sorted(
            (one for one in made if _is_mendable(one) and not probably_keeps(one, max_drop)), key=_promising
        )
        chosen = [one for one in broken if one.speed is None or one.speed > WORTH_MENDING * max(best, 1.0)]
        chosen = chosen[:MOST_MENDED]
        static = [one for one in made if isinstance(one.recipe, Static)]
        if not any(probably_keeps(one, max_drop) for one in static):
            chosen += [one for one in static if (one.speed or 0.0) > WORTH_MENDING and one not in chosen][:1]
        found: list[Trial] = []
        for trial in chosen:
            self._tell(f"mending {trial.recipe.name}")
            found += self._mend(trial, target, tester)
        return found

    def _mend(self, trial: Trial, target: Target, tester: Tester) -> list[Trial]:
        recipe = trial.recipe
        assert isinstance(recipe, (Static, Dynamic, Float8))  # noqa: S101 - `_is_mendable` said so
        classes = self._classes_of(recipe)
        matmuls = frozenset(name for one in classes if one.operator == "MatMul" and one.weight for name in one.nodes)
        repaired = repair(trial, classes, lambda mix: tester.look(mix, target), self._promise.max_drop, matmuls)
        self._damages[trial.name] = repaired.damages
        return [
            msgspec.structs.replace(tester.study(mix, target), repaired_from=trial.name) for mix in repaired.recipes
        ]

    def _classes_of(self, recipe: Mendable) -> tuple[NodeClass, ...]:
        model = onnx.load(self._folder / "prepared.onnx", load_external_data=False)
        return node_classes(model, recipe.operators or EVERYTHING)

    # --- what is told -----------------------------------------------------------------------------------

    def _told(self, prepared: Prepared, trials: Sequence[Trial], tester: Tester) -> Report:
        kept = sorted((one for one in trials if one.fate is Fate.KEPT and is_faster(one)), key=quickness)
        unproven = any(one.fate is Fate.UNPROVEN for one in trials)
        best = kept[0].name if kept else ""
        untimed = any(one.fate is Fate.KEPT and one.speed is None for one in trials)
        outcome: Outcome = (
            "recommended" if kept else "speed unknown" if untimed else "not enough data" if unproven else "baseline"
        )
        told = [
            msgspec.structs.replace(one, fate=Fate.RECOMMENDED) if kept and one is kept[0] else one for one in trials
        ]
        for one in told:
            if one.fate is not Fate.DROPPED:
                tester.file_of(one, TARGETS[one.target])
        scores = np.load(baseline_scores(self._folder, "proving"))
        return Report(
            model=str(self._wanted.model),
            model_digest=f"sha256:{digest_of_file(self._wanted.model)}",
            metric=self._promise.metric,
            output=self._promise.output,
            max_drop=self._promise.max_drop,
            batch=self._wanted.batch,
            baseline=self._baseline(),
            baseline_value=float(np.mean(scores)),
            trials=tuple(sorted(told, key=_as_told)),
            damages={
                name: tuple((one.where.name, len(one.where.nodes), one.distortion) for one in damages)
                for name, damages in self._damages.items()
            },
            steps=prepared.steps,
            operators=prepared.operators,
            samples={name: len(part) for name, part in _parts(self._parts)},
            versions=_versions(),
            outcome=outcome,
            recommended=best,
            provider_options=self._options,
            spent_s=_cpu_s() - self._began,
            asked=self._memory.asked,
        )

    def _baseline(self) -> Trial:
        source = str(self._wanted.model.resolve())
        racing = str(self._folder / "racing")
        times: Times | None = None
        memory = None
        try:
            raced = self._memory.ask(Race((source, source), racing, self._wanted.batch, 1.0), Raced)
            times = raced.times[0]
            memory = self._memory.ask(Weigh(source, racing, self._wanted.batch), Weighed, apart=True).bytes
        except OrderFailed:
            pass
        size = self._wanted.model.stat().st_size
        return Trial(recipe=Plain(), target="cpu", path=source, size=size, speed=1.0, times=times, memory=memory)


def _promise(wanted: Wanted, parts: Split, outputs: Sequence[TensorSpec]) -> Promise:
    names = [spec.name for spec in outputs]
    output = wanted.output or names[0]
    if output not in names:
        raise InvalidArgument(
            f"output: {output!r} is none of {', '.join(names)}", hint="name one of them", value=output
        )
    if not 0.0 < wanted.max_drop < 1.0:
        raise InvalidArgument(
            f"max_drop: {wanted.max_drop:g} is not between 0 and 1",
            hint="write --max-drop 0.5% or 0.005; nothing can be proven to lose nothing at all",
            value=wanted.max_drop,
        )
    labelled = parts.choosing.labelled and parts.proving.labelled
    metric = wanted.metric or _default_metric(next(spec for spec in outputs if spec.name == output), labelled=labelled)
    if metric in METRICS:
        check(METRICS[metric], labelled=labelled)
        return Promise(metric, METRICS[metric].kind, output, wanted.max_drop)
    if ":" not in metric:
        raise InvalidArgument(
            f"metric: {metric!r} is none of {', '.join(METRICS)}",
            hint="choose one of them, or name a function: module:function or file.py:function",
            value=metric,
        )
    return Promise(metric, Kind.POINTS, output, wanted.max_drop)


_MOST_CLASSES: Final = 10_000


def _default_metric(output: TensorSpec, *, labelled: bool) -> str:
    if labelled:
        return "accuracy"
    classes = output.shape[-1] if len(output.shape) == 2 else 0
    return "agreement" if output.datatype.numpy_dtype[1:] not in ("f4", "f2", "f8") or 1 < classes <= 64 else "cosine"


def _classes(samples: Samples) -> NDArray[Any] | None:
    labels = samples.labels()
    if not labels:
        return None
    first = np.asarray(labels[0])
    if first.size != 1 or first.dtype.kind not in "biuf":
        return None
    return np.asarray([np.asarray(one).reshape(-1)[0] for one in labels], dtype=np.float64)


def _is_changed(prepared: Prepared) -> bool:
    """Whether simplifying did anything."""
    return any(not step.problem for step in prepared.steps)


def _because(trial: Trial, reason: str) -> Trial:
    return msgspec.structs.replace(trial, reason=reason)


def _error_of(trial: Trial) -> tuple[float, float]:
    """To choose by: whole percents of the metric first, as a few samples know no more."""
    return (round(trial.drop or 0.0, 2), trial.distortion or 0.0)


def _is_mendable(trial: Trial) -> bool:
    return isinstance(trial.recipe, (Static, Dynamic, Float8)) and trial.distortion is not None


def _promising(trial: Trial) -> tuple[float, float]:
    """To sort by: the faster first in steps of a tenth, then the one that errs less."""
    return (-round((trial.speed or 0.0) * 10) / 10, trial.distortion or 0.0)


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
