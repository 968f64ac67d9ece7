"""The search for one target: every recipe tried, what breaks the promise mended, the best of the rest proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import onnx

from taxiway.optimize.graph.classes import NodeClass, node_classes
from taxiway.optimize.recipes import EVERYTHING, Dynamic, Float8, Fused, Static
from taxiway.optimize.repair import Damage, Mendable, repair
from taxiway.optimize.shelf import Siblings, recipes_for
from taxiway.optimize.targets import Target
from taxiway.optimize.trials import Trial, pareto, probably_keeps, quickness, worthwhile
from taxiway.optimize.trying import FINAL_RACE_S, Tester
from taxiway.optimize.workshop.orders import Prepared

ALPHA: Final = 0.05
MOST_PROVEN: Final = 4
"""Candidates that come to a proof; the level is divided by them."""

MOST_MENDED: Final = 1
WORTH_MENDING: Final = 1.2
"""Times the best speed there is; exceptions cost some of it."""


@dataclass(frozen=True, slots=True)
class Search:
    """Everything that is tried for a target.

    Attributes:
        damages: what each class of nodes does when it alone is quantized, by the recipe that was mended.
    """

    tester: Tester
    target: Target
    damages: dict[str, tuple[Damage, ...]] = field(default_factory=dict)

    def candidates(self, prepared: Prepared) -> list[Trial]:
        """Every candidate for one target, each with its fate."""
        trials = [
            trial
            for siblings in recipes_for(self.target.name, prepared.operators)
            if siblings != (Fused(),) or _is_changed(prepared)
            for trial in self._of_siblings(siblings)
        ]
        trials += self._mended(trials)
        hopeful = [one for one in trials if not one.reason and probably_keeps(one, self.tester.promise.max_drop)]
        useful = worthwhile(hopeful, self.tester.size)
        front = pareto(useful) if self.target.here else useful  # without speeds there is no front
        finalists = sorted(front, key=quickness)[:MOST_PROVEN]
        self.tester.tell("proving the promise")
        raced = self.tester.raced_together(finalists, self.target, FINAL_RACE_S)
        proven = {one.path: self._proven(one, len(finalists)) for one in raced}
        return [proven.get(one.path) or self._dropped(one, useful) for one in trials]

    def _of_siblings(self, siblings: Siblings) -> list[Trial]:
        """All of them, of which the one that errs least was studied."""
        if len(siblings) == 1:
            return [self.tester.study(siblings[0], self.target)]
        self.tester.tell(f"trying {siblings[0].name} and its like")
        looks = [self.tester.look(one, self.target) for one in siblings]
        made = [one for one in looks if not one.reason]
        if not made:
            return looks
        best = min(made, key=_error_of)
        reason = f"{best.recipe.name} is as fast and errs less"
        return [
            self.tester.study(one.recipe, self.target) if one is best else one if one.reason else _because(one, reason)
            for one in looks
        ]

    def _proven(self, trial: Trial, finalists: int) -> Trial:
        if not trial.reason:
            trial = self.tester.proven(trial, self.target, ALPHA / finalists)
        if trial.reason:
            return trial
        times = self.tester.baseline().times
        if times is not None:
            trial = self.tester.raced_alone(trial, self.target, times)
        return self.tester.weighed(trial, self.target)

    def _dropped(self, trial: Trial, useful: Sequence[Trial]) -> Trial:
        if trial.reason:
            return trial
        if not probably_keeps(trial, self.tester.promise.max_drop):
            reason = f"{self.tester.promise.metric.rpartition(':')[2]} drops by about {trial.drop:.4f}"
        elif trial not in useful:
            reason = "neither faster than the baseline nor smaller than a faster one"
        else:
            reason = "another candidate is as good in every way"
        return _because(trial, reason)

    def _mended(self, trials: Sequence[Trial]) -> list[Trial]:
        """Mixes of those that would be faster than all that keep it; and of the best static one, in any case.

        What is rounded by ranges of its own run answers differently in different company; a static mix does not.
        """
        max_drop = self.tester.promise.max_drop
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
            self.tester.tell(f"mending {trial.recipe.name}")
            found += self._mend(trial)
        return found

    def _mend(self, trial: Trial) -> list[Trial]:
        recipe = trial.recipe
        assert isinstance(recipe, (Static, Dynamic, Float8))  # noqa: S101 - `_is_mendable` said so
        classes = self._classes_of(recipe)
        matmuls = frozenset(name for one in classes if one.operator == "MatMul" and one.weight for name in one.nodes)
        max_drop = self.tester.promise.max_drop
        repaired = repair(trial, classes, lambda mix: self.tester.look(mix, self.target), max_drop, matmuls)
        self.damages[trial.name] = repaired.damages
        studied = [self.tester.study(mix, self.target) for mix in repaired.recipes]
        return [msgspec.structs.replace(one, repaired_from=trial.name) for one in studied]

    def _classes_of(self, recipe: Mendable) -> tuple[NodeClass, ...]:
        model = onnx.load(self.tester.folder / "prepared.onnx", load_external_data=False)
        return node_classes(model, recipe.operators or EVERYTHING)


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
