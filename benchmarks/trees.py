"""Trees and pipelines: what one row costs in the framework and in the ONNX that it was converted to.

    python -m benchmarks.trees [--rounds 7] [--only "random forest,XGBoost"]

Each model learns digits (ten classes) and breast cancer (two), is saved and converted as a user would, and is asked
rows that it has not learnt from: the labels have to be equal. Then both answer one row at a time in this process, on
one thread, taking turns; a figure is the median over the rounds of process CPU time for one row, and the ratio is taken
within each round.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import catboost
import lightgbm
import numpy as np
import skops.io
import xgboost
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from taxiway.convert import Converted, Request, to_onnx
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime

BAR: Final = 20.0
SLICE_S: Final = 0.05
"""CPU time that each side gets in a round."""

Predict = Callable[[NDArray[Any]], Any]


@dataclass(frozen=True)
class Case:
    """A fitted model: how it is saved, how it predicts labels, and whether that is what a user calls."""

    name: str
    estimator: Any
    saved: Callable[[Any, Path], Path]
    predict: Predict
    is_bar: bool = True


def _skops(estimator: Any, folder: Path) -> Path:  # noqa: ANN401 - any estimator
    skops.io.dump(estimator, folder / "model.skops")
    return folder / "model.skops"


def _xgboost(estimator: Any, folder: Path) -> Path:  # noqa: ANN401
    estimator.save_model(folder / "model.json")
    return folder / "model.json"


def _lightgbm(estimator: Any, folder: Path) -> Path:  # noqa: ANN401
    estimator.booster_.save_model(folder / "model.txt")
    return folder / "model.txt"


def _catboost(estimator: Any, folder: Path) -> Path:  # noqa: ANN401
    estimator.save_model(folder / "model.cbm")
    return folder / "model.cbm"


DATA: Final = {"digits": load_digits, "breast cancer": load_breast_cancer}
"""Ten classes, for which 30 rounds of boosting are 300 trees; and two, for which they are 30."""


def cases(rows: NDArray[Any], labels: NDArray[Any]) -> Iterator[Case]:
    """Every kind of model, learnt on these rows."""
    for name, estimator in {
        "random forest": RandomForestClassifier(30, random_state=0),
        "gradient boosting": GradientBoostingClassifier(n_estimators=30, random_state=0),
        "histogram boosting": HistGradientBoostingClassifier(max_iter=30, random_state=0),
        "scaler + logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    }.items():
        estimator.fit(rows, labels)
        yield Case(name, estimator, _skops, estimator.predict)
    boosted = xgboost.XGBClassifier(n_estimators=30, n_jobs=1).fit(rows, labels)
    yield Case("XGBoost", boosted, _xgboost, boosted.predict)
    booster = boosted.get_booster()
    yield Case("XGBoost, inplace_predict", boosted, _xgboost, lambda row: _best(booster.inplace_predict(row)), False)
    light = lightgbm.LGBMClassifier(n_estimators=30, n_jobs=1, verbose=-1).fit(rows, labels)
    yield Case("LightGBM", light, _lightgbm, light.predict)
    native = light.booster_
    yield Case("LightGBM, Booster.predict", light, _lightgbm, lambda row: _best(native.predict(row)), False)
    cat = catboost.CatBoostClassifier(iterations=100, depth=6, verbose=0, thread_count=1, allow_writing_files=False)
    cat.fit(rows, labels)
    yield Case("CatBoost", cat, _catboost, lambda row: cat.predict(row).ravel())


def _best(scores: Any) -> NDArray[Any]:  # noqa: ANN401 - of two classes, those of the second alone
    best: NDArray[Any] = scores.argmax(1) if scores.ndim > 1 else scores > 0.5
    return best


@dataclass(frozen=True)
class Figure:
    """What was measured of one case; times in microseconds of CPU."""

    data: str
    case: Case
    labels_wrong: int
    rows: int
    framework_us: float
    onnx_us: float
    ratio: float
    converter: str

    @property
    def holds(self) -> bool:
        """Whether the bar does."""
        return not self.labels_wrong and (self.ratio >= BAR or not self.case.is_bar)


def measure(data: str, case: Case, rows: NDArray[Any], rounds: int) -> Figure:
    """Convert, compare the labels of `rows` (n x features, float32), and time both on single rows."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "converted.onnx")
        outcome = to_onnx(Request(source=str(case.saved(case.estimator, Path(folder))), target=str(target)))
        if not isinstance(outcome, Converted):
            raise SystemExit(f"{case.name}: {outcome.message}")
        session = OnnxRuntime().load(target, OnnxOptions(intra_op_threads=1))
    given = rows.astype(session.inputs[0].datatype.numpy_dtype)

    def converted(row: NDArray[Any]) -> Any:  # noqa: ANN401
        return session.run({"X": row}, ("label",))[0]

    wrong = int(np.count_nonzero(converted(given) != case.predict(rows)))
    wrong += sum(int(converted(given[i : i + 1])[0] != case.predict(rows[i : i + 1])[0]) for i in range(50))
    pairs = [(_cpu_us(case.predict, rows), _cpu_us(converted, given)) for _ in range(rounds)]
    theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return Figure(
        data, case, wrong, len(rows), theirs, ours, ratio, f"{outcome.converter}, {outcome.inputs[0].datatype}"
    )


def _cpu_us(predict: Predict, rows: NDArray[Any]) -> float:
    """CPU microseconds of this process for one row, over as many as fit in the slice."""
    singles = [rows[i : i + 1] for i in range(len(rows))]
    predict(singles[0])
    parts = itertools.cycle([singles[at : at + 25] for at in range(0, len(singles), 25)])
    asked, started = 0, time.process_time()
    while time.process_time() - started < SLICE_S:
        part = next(parts)
        for row in part:
            predict(row)
        asked += len(part)
    return (time.process_time() - started) / asked * 1e6


def table(figures: Sequence[Figure]) -> str:
    """As Markdown."""
    lines = [
        "| one row at a time | labels wrong | framework, us | ONNX, us | ratio | inputs |",
        "|---|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {one.data}: {one.case.name} | {one.labels_wrong} of {one.rows} "
        f"| {one.framework_us:,.0f} | {one.onnx_us:.1f} | {one.ratio:.0f} | {one.converter} |"
        for one in figures
    ]
    return "\n".join(lines)


def _measured(data: str, wanted: set[str], rounds: int) -> Iterator[Figure]:
    features, labels = DATA[data](return_X_y=True)
    known, asked, known_labels, _ = train_test_split(features, labels, test_size=1 / 3, random_state=0)
    for case in cases(known, known_labels):
        if not wanted or case.name in wanted:
            yield measure(data, case, asked.astype(np.float32), rounds)


def main() -> None:
    """Measure, print the table, and end with 1 if a bar is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="names, separated by commas")
    said = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = set(filter(None, said.only.split(",")))
    figures = [figure for data in DATA for figure in _measured(data, wanted, said.rounds)]
    print(table(figures))
    broken = [f"{one.case.name} ({one.data})" for one in figures if not one.holds]
    verdict = f"broken by {', '.join(broken)}" if broken else "kept"
    print(f"\nbar (labels equal, at least {BAR:g} times less CPU): {verdict}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
