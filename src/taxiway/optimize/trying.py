"""Tries recipes through the workshop: makes, scores, races, weighs; every answer remembered."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from taxiway.optimize.cache import Memory, Wanted
from taxiway.optimize.metrics import Kind
from taxiway.optimize.promise import Verdict, estimated_drop, judge
from taxiway.optimize.recipes import Plain, Recipe, needs_calibration
from taxiway.optimize.targets import Target
from taxiway.optimize.trials import Fate, Trial, is_faster, is_steady
from taxiway.optimize.workshop.client import OrderFailed
from taxiway.optimize.workshop.orders import Made, Make, Order, Race, Raced, Score, Scored, Times, Weigh, Weighed

RACE_S, FINAL_RACE_S = 1.0, 2.0
MOST_RACED_BYTES: Final = 1 << 30
"""Of models that are loaded at once."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised: `metric` of `output` falls by at most `max_drop`."""

    metric: str
    kind: Kind
    output: str
    max_drop: float


@dataclass(frozen=True, slots=True)
class Tester:
    """Everything about one run that a trial needs.

    Attributes:
        folder: of the run, with `prepared.onnx`, samples and baseline answers by part.
        source: the original model.
        size: its bytes, with its weights.
        labels: true classes by part, for metrics that want them beside the scores.
        options: of the provider, by target.
    """

    memory: Memory
    folder: Path
    source: Path
    size: int
    promise: Promise
    batch: int
    labels: dict[str, NDArray[Any] | None]
    tell: Callable[[str], object]
    options: Mapping[str, Mapping[str, str]]

    def look(self, recipe: Recipe, target: Target) -> Trial:
        """Made and scored on some of the samples that choose; its file is not kept."""
        trial = self._made(recipe, target)
        if trial.reason:
            return trial
        scored = self._scored(trial, target, "screening")
        Path(trial.path).unlink(missing_ok=True)
        return scored

    def study(self, recipe: Recipe, target: Target) -> Trial:
        """Made, scored, and raced against the baseline where this machine can; hopeless ones on few samples only."""
        self.tell(f"trying {recipe.name}")
        trial = self._made(recipe, target)
        if not trial.reason:
            trial = self._scored(trial, target, "screening")
        if not trial.reason:
            trial = self.raced(trial, target, RACE_S)
        if trial.reason or not self._has_hope(trial):
            return trial
        return self._scored(trial, target, "choosing")

    def _has_hope(self, trial: Trial) -> bool:
        """Whether more samples may show that it keeps the promise, and it is of any use."""
        useful = trial.speed is None or is_faster(trial) or trial.size < 0.9 * self.size
        return useful and (trial.drop or 0.0) - 2.0 * (trial.error or 0.0) <= self.promise.max_drop

    def raced(self, trial: Trial, target: Target, budget_s: float) -> Trial:
        """Timed in turns with the baseline."""
        if not target.here:
            return trial
        try:
            return self._raced([trial], target, budget_s)[0]
        except OrderFailed as problem:
            return msgspec.structs.replace(trial, reason=f"did not run: {problem}")

    def raced_together(self, trials: Sequence[Trial], target: Target, budget_s: float) -> list[Trial]:
        """Timed in turns with the baseline and one another, in the time that as many races of two would take.

        The baseline's runs serve all, so that each gets more rounds, and one that is quicker was so in the same rounds.
        """
        together = self.size + sum(one.size for one in trials) <= MOST_RACED_BYTES
        if target.here and together and len(trials) > 1:
            with contextlib.suppress(OrderFailed):  # whose fault it is, a race of two tells
                return self._raced(trials, target, budget_s * len(trials))
        return [self.raced(one, target, budget_s) for one in trials]

    def _raced(self, trials: Sequence[Trial], target: Target, budget_s: float) -> list[Trial]:
        racers = (str(self.source), *(one.path for one in trials))
        options = self._options(target)
        order = Race(racers, str(self.folder / "racing"), self.batch, budget_s, target.providers, options)
        if not self.memory.knows(order):
            for one in trials:
                self.file_of(one, target)
        raced = self.memory.ask(order, Raced)
        return [
            msgspec.structs.replace(
                one, speed=raced.speed[at], speed_low=raced.low[at], speed_high=raced.high[at], times=raced.times[at]
            )
            for at, one in enumerate(trials, start=1)
        ]

    def raced_alone(self, trial: Trial, target: Target, baseline: Times) -> Trial:
        """With its speed for requests of one row: a server merges them only where rows do not touch each other."""
        if trial.speed is None or is_steady(trial.recipe):
            return msgspec.structs.replace(trial, alone_speed=trial.speed)
        racers = (str(self.source), trial.path)
        order = Race(racers, str(self.folder / "racing"), 1, RACE_S, target.providers, self._options(target))
        try:
            alone = self._ask(order, Raced, trial, target).times[1]
        except OrderFailed:
            return trial
        merged_ms = baseline.cpu_ms / max(baseline.rows, 1.0)
        return msgspec.structs.replace(trial, alone_speed=merged_ms / max(alone.cpu_ms / alone.rows, 1e-6))

    def weighed(self, trial: Trial, target: Target) -> Trial:
        """With the memory it takes."""
        order = Weigh(trial.path, str(self.folder / "racing"), self.batch)
        try:
            return msgspec.structs.replace(trial, memory=self._ask(order, Weighed, trial, target, apart=True).bytes)
        except OrderFailed:
            return trial

    def proven(self, trial: Trial, target: Target, alpha: float) -> Trial:
        """With the verdict of the samples that nothing else has seen."""
        scored = self._scored(trial, target, "proving")
        if scored.reason:
            return scored
        verdict = self._verdict(trial, target, alpha)
        fate = {"kept": Fate.KEPT, "broken": Fate.BROKEN}.get(verdict.answer.value, Fate.UNPROVEN)
        return msgspec.structs.replace(trial, verdict=verdict, fate=fate)

    def file_of(self, trial: Trial, target: Target) -> Path:
        """The candidate's file, made again if it is gone."""
        self.memory.ensure(self._make_order(trial.recipe, target), Made, Path(trial.path))
        return Path(trial.path)

    def baseline(self) -> Trial:
        """The model as it is, with its time on this machine's CPU and the memory it takes."""
        source = str(self.source)
        racing = str(self.folder / "racing")
        times: Times | None = None
        memory = None
        try:
            raced = self.memory.ask(Race((source, source), racing, self.batch, 1.0), Raced)
            times = raced.times[0]
            memory = self.memory.ask(Weigh(source, racing, self.batch), Weighed, apart=True).bytes
        except OrderFailed:
            pass
        return Trial(recipe=Plain(), target="cpu", path=source, size=self.size, speed=1.0, times=times, memory=memory)

    def _options(self, target: Target) -> dict[str, str]:
        return dict(self.options.get(target.name, {}))

    def _ask(self, order: Order, wanted: type[Wanted], trial: Trial, target: Target, *, apart: bool = False) -> Wanted:
        if not self.memory.knows(order):
            self.file_of(trial, target)
        return self.memory.ask(order, wanted, apart=apart)

    def _verdict(self, trial: Trial, target: Target, alpha: float) -> Verdict:
        promise = self.promise
        return judge(
            promise.kind,
            self._baseline_scores("proving"),
            self._scores(trial, target, "proving"),
            self.labels["proving"],
            promise.max_drop,
            alpha,
        )

    def _make_order(self, recipe: Recipe, target: Target) -> Make:
        return Make(
            recipe,
            str(self.folder / "prepared.onnx"),
            str(self.folder / "histograms.npz") if needs_calibration(recipe) else "",
            str(self.folder / "candidates" / f"{_file_name(recipe, target)}.onnx"),
            target.keep_shapes,
        )

    def _made(self, recipe: Recipe, target: Target) -> Trial:
        order = self._make_order(recipe, target)
        try:
            made = self.memory.ask(order, Made)
        except OrderFailed as problem:
            return Trial(recipe=recipe, target=target.name, reason=f"could not be made: {problem}")
        return Trial(recipe=recipe, target=target.name, path=order.target, size=made.size)

    def _scored(self, trial: Trial, target: Target, part: str) -> Trial:
        try:
            scored = self._ask(self._score_order(trial, target, part), Scored, trial, target)
        except OrderFailed as problem:
            return msgspec.structs.replace(trial, reason=f"did not run: {problem}")
        if not scored.finite:
            return msgspec.structs.replace(trial, reason="answers with NaN or infinity", distortion=1.0)
        baseline, mine = self._baseline_scores(part), self._scores(trial, target, part)
        drop, error = estimated_drop(self.promise.kind, baseline, mine, self.labels[part])
        return msgspec.structs.replace(trial, drop=drop, error=error, distortion=scored.distortion)

    def _baseline_scores(self, part: str) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = np.load(baseline_scores(self.folder, part, self.promise))
        return scores

    def _scores(self, trial: Trial, target: Target, part: str) -> NDArray[np.float64]:
        path = self._score_path(Path(trial.path), part)
        order = self._score_order(trial, target, part)
        if not path.exists():
            self.file_of(trial, target)
        self.memory.ensure(order, Scored, path)
        scores: NDArray[np.float64] = np.load(path)
        return scores

    def _score_order(self, trial: Trial, target: Target, part: str) -> Score:
        """On the target itself where it is here; else on the CPU, which computes what Q and DQ say exactly."""
        promise, model = self.promise, Path(trial.path)
        return Score(
            model=str(model),
            samples=str(self.folder / part),
            folder=str(self.folder / f"{part}-answers"),
            batch=self.batch,
            metric=promise.metric,
            output=promise.output,
            target=str(self._score_path(model, part)),
            providers=target.providers or ("CPUExecutionProvider",),
            options=self._options(target) if target.here else {},
        )

    def _score_path(self, model: Path, part: str) -> Path:
        return _scores_of(self.folder, model.stem, part, self.promise)


def baseline_scores(folder: Path, part: str, promise: Promise) -> Path:
    """Where the baseline's own scores stand."""
    return _scores_of(folder, "baseline", part, promise)


def _scores_of(folder: Path, model: str, part: str, promise: Promise) -> Path:
    """A file for each promise: another output's scores are other scores."""
    return folder / "scores" / f"{_short(f'{model}-{part}-{promise.metric}-{promise.output}')}.npy"


def _file_name(recipe: Recipe, target: Target) -> str:
    return f"{recipe.name}-{_short(msgspec.json.encode(recipe).decode() + target.name)[:10]}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
