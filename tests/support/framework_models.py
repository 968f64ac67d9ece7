"""Real models of the frameworks that are converted or hosted, trained on scikit-learn's own data, small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import catboost
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVR

Table = tuple[NDArray[Any], NDArray[Any]]
DATA: Final[dict[str, Callable[..., Any]]] = {
    "digits": load_digits,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "diabetes": load_diabetes,
}


def table(name: str) -> Table:
    """Features and targets."""
    features, targets = DATA[name](return_X_y=True)
    return features, targets


def with_gaps(name: str) -> Table:
    """The same with a tenth of the values missing."""
    features, targets = table(name)
    return np.where(np.random.default_rng(0).random(features.shape) < 0.1, np.nan, features), targets


def wine_frame() -> tuple[pd.DataFrame, NDArray[Any]]:
    """Named columns of different types, with gaps, and labels of text."""
    features, targets = table("wine")
    frame = pd.DataFrame(features[:, :3], columns=["alcohol", "malic", "ash"])
    frame["region"] = np.random.default_rng(0).choice(["north", "south", "east"], len(frame))
    frame.iloc[::9, 1] = np.nan
    return frame, np.array(["barolo", "grignolino", "barbera"])[targets]


def with_categories(classes: int) -> Table:
    """Numbers beside two columns of categories (numbers too), with gaps; targets of `classes`, 0: a number."""
    chance = np.random.default_rng(0)
    features = chance.normal(size=(800, 5))
    features[:, 1] = chance.integers(0, 12, 800)
    features[:, 3] = chance.choice([3.0, 7.0, -2.0, 100.5], 800)
    score = np.where(np.isin(features[:, 1], [1, 4, 5, 9]), 2.0, 0.0)
    score += features[:, 0] * np.where(features[:, 3] == 7.0, 1.0, -1.0) + 0.3 * chance.normal(size=800)
    features[chance.random(800) < 0.1, 1] = np.nan
    features[chance.random(800) < 0.1, 0] = np.nan
    if not classes:
        return features, score
    return features, np.digitize(score, np.quantile(score, np.linspace(0.0, 1.0, classes + 1)[1:-1]))


def histogram(name: str, classifies: bool = True, **wishes: Any) -> Any:
    """Histogram boosting on a table."""
    kind = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    return kind(max_iter=10, random_state=0, **wishes).fit(*table(name))


def histogram_of_categories(classes: int) -> Any:
    """Histogram boosting that splits on categories."""
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(max_iter=10, categorical_features=[1, 3], random_state=0).fit(*with_categories(classes))


def voters(kind: Any, boosted: Any, other: Any, **wishes: Any) -> Any:
    """A vote or a stack of histogram boosting and another."""
    return kind([("boosted", boosted), ("other", other)], **wishes)


HISTOGRAMS: Final[dict[str, Callable[[], Any]]] = {
    "binary": lambda: histogram("breast_cancer"),
    "many classes": lambda: histogram("digits"),
    "classes of text": lambda: HistGradientBoostingClassifier(max_iter=8).fit(
        table("wine")[0], np.array(["barolo", "grignolino", "barbera"])[table("wine")[1]]
    ),
    "that learnt of missing values": lambda: HistGradientBoostingClassifier(max_iter=8).fit(*with_gaps("wine")),
    "absolute error": lambda: histogram("diabetes", classifies=False, loss="absolute_error"),
    "poisson": lambda: histogram("diabetes", classifies=False, loss="poisson"),
    "gamma": lambda: histogram("diabetes", classifies=False, loss="gamma"),
    "quantile": lambda: histogram("diabetes", classifies=False, loss="quantile", quantile=0.3),
    "monotonic": lambda: histogram("diabetes", classifies=False, monotonic_cst=[1, 0, -1, *[0] * 7]),
    "binary with categories": lambda: histogram_of_categories(2),
    "many classes with categories": lambda: histogram_of_categories(4),
    "regression with categories": lambda: histogram_of_categories(0),
    "behind a scaler": lambda: make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=8)).fit(
        *table("breast_cancer")
    ),
    "behind columns and codes": lambda: make_pipeline(
        ColumnTransformer(
            [
                ("numbers", "passthrough", ["alcohol", "malic", "ash"]),
                ("text", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["region"]),
            ]
        ),
        HistGradientBoostingClassifier(max_iter=8, categorical_features=[3]),
    ).fit(*wine_frame()),
    "in a vote": lambda: voters(
        VotingClassifier, HistGradientBoostingClassifier(max_iter=5), LogisticRegression(max_iter=5000), voting="soft"
    ).fit(*table("wine")),
    "in a vote with a forest": lambda: voters(
        VotingClassifier, HistGradientBoostingClassifier(max_iter=5), RandomForestClassifier(5), voting="soft"
    ).fit(*with_gaps("wine")),
    "in a vote on numbers": lambda: voters(VotingRegressor, HistGradientBoostingRegressor(max_iter=5), Ridge()).fit(
        *table("diabetes")
    ),
    "in a stack": lambda: voters(
        StackingClassifier,
        HistGradientBoostingClassifier(max_iter=5),
        LogisticRegression(max_iter=5000),
        final_estimator=LogisticRegression(),
        cv=2,
    ).fit(*table("wine")),
}
"""Histogram boosting wherever it stands: what our own emitter writes."""


def column_pipeline(last: Any) -> Pipeline:
    """A scaler with an imputer for numbers, one-hot codes for text, and an estimator."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = [
        ("numbers", numbers, ["alcohol", "malic", "ash"]),
        ("text", OneHotEncoder(handle_unknown="ignore"), ["region"]),
    ]
    frame, targets = wine_frame()
    return make_pipeline(ColumnTransformer(columns), last).fit(frame, targets)


def forest(name: str, gaps: bool = False) -> Any:
    """A random forest."""
    kind = RandomForestRegressor if name == "diabetes" else RandomForestClassifier
    return kind(12, max_depth=8, random_state=0).fit(*(with_gaps(name) if gaps else table(name)))


SKLEARN: Final[dict[str, Callable[[], Any]]] = {
    "binary forest": lambda: forest("breast_cancer"),
    "forest of many classes": lambda: forest("digits"),
    "regression forest": lambda: forest("diabetes"),
    "forest that learnt of missing values": lambda: forest("wine", gaps=True),
    "boosted regressor": lambda: GradientBoostingRegressor(n_estimators=10, random_state=0).fit(*table("diabetes")),
    "histogram regressor": lambda: HistGradientBoostingRegressor(max_iter=8).fit(*table("diabetes")),
    "scaled logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(*table("wine")),
    "scaled support vectors": lambda: make_pipeline(StandardScaler(), SVR()).fit(*table("diabetes")),
    "columns and logistic regression": lambda: column_pipeline(LogisticRegression(max_iter=1000)),
}


def boosted(library: str, data: str, path: Path, *, gaps: bool = False) -> Path:
    """A booster of `library` on `data`, saved in the library's own format under `path`; where it lies."""
    trained = {"xgboost": _xgboost, "lightgbm": _lightgbm, "catboost": _catboost}[library]
    return trained(with_gaps(data) if gaps else table(data), path)


def _xgboost(rows: Table, path: Path) -> Path:
    classes = _classes(rows[1])
    objective = {0: {"objective": "reg:squarederror"}, 2: {"objective": "binary:logistic"}}.get(
        classes, {"objective": "multi:softprob", "num_class": classes}
    )
    booster = xgboost.train({**objective, "max_depth": 4, "nthread": 1}, xgboost.DMatrix(*rows), 12)
    booster.save_model(path / "model.json")
    return path / "model.json"


def stopped_early(kind: str, path: Path) -> Any:
    """A regressor of XGBoost's that stopped some trees after its best one, saved as `path`."""
    features, targets = table("diabetes")
    held_out = [(features[300:], targets[300:])]
    estimator = xgboost.XGBRegressor(n_estimators=50, booster=kind, early_stopping_rounds=2, n_jobs=1)
    estimator.fit(features[:300], targets[:300], eval_set=held_out, verbose=False)
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    estimator.save_model(path)
    return estimator


def _lightgbm(rows: Table, path: Path) -> Path:
    classes = _classes(rows[1])
    objective = {0: {"objective": "regression"}, 2: {"objective": "binary"}}.get(
        classes, {"objective": "multiclass", "num_class": classes}
    )
    booster = lightgbm.train({**objective, "num_threads": 1, "verbose": -1}, lightgbm.Dataset(*rows), 12)
    booster.save_model(path / "model.txt")
    return path / "model.txt"


def _catboost(rows: Table, path: Path) -> Path:
    kind = catboost.CatBoostClassifier if _classes(rows[1]) else catboost.CatBoostRegressor
    model = kind(iterations=12, depth=4, verbose=0, thread_count=1, allow_writing_files=False)
    model.fit(*rows).save_model(path / "model.cbm")
    return path / "model.cbm"


def _classes(targets: NDArray[Any]) -> int:
    return len(np.unique(targets)) if targets.dtype.kind == "i" else 0
