"""One real model of each framework, served by its own library: HTTP and gRPC answer what the framework answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import catboost
import joblib
import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from mlflow.models import infer_signature
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from tests.flow.serving import Server, serve
from tests.support import framework_models as models
from tests.support.asking import Arrays, ask_both, assert_close

from taxiway.core.errors import TaxiwayError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(180)]  # training warns of many things

CLASS = """
class Centroids:
    inputs = {"x": ("FP64", [-1, 13])}
    outputs = {"label": ("INT64", [-1]), "distances": ("FP64", [-1, 3])}

    def load(self, directory):
        import numpy
        self.centroids = numpy.load(f"{directory}/centroids.npy")

    def predict(self, x):
        distances = ((x[:, None] - self.centroids) ** 2).sum(axis=2) ** 0.5
        return {"label": distances.argmin(axis=1), "distances": distances}
"""


def ask(server: Server, model: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What both protocols answer, which is the same to the last bit."""
    return ask_both(server.http.removeprefix("http://"), server.grpc, model, inputs)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


BOOSTED = {"xgboost": "xgboost.json", "lightgbm": "model.txt", "catboost": "model.cbm"}
"""Libraries, and what their files are called in a repository."""


class Repository:
    """A folder of models, and the digests of those that have to be trusted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted: list[str] = []

    def version(self, name: str) -> Path:
        path = self.folder / name / "1"
        path.mkdir(parents=True)
        return path

    def booster(self, library: str, data: str) -> None:
        version = self.version(f"{library}_{data}")
        models.boosted(library, data, version).rename(version / BOOSTED[library])

    def estimator(self, name: str, estimator: Any) -> None:
        skops.io.dump(estimator, self.version(name) / "model.skops")

    def mlflow(self, name: str, estimator: Any, given: Any, serialized: str = "skops") -> None:
        path = self.folder / name / "1"
        path.parent.mkdir()
        signature = infer_signature(given, estimator.predict(given))
        mlflow.sklearn.save_model(
            estimator, path, signature=signature, pip_requirements=[], serialization_format=serialized
        )
        self.trusted += [digest(file) for file in path.glob("*.pkl")]

    def served(self) -> AbstractContextManager[Server]:
        return serve(self.folder, models__trust=[f"sha256:{one}" for one in self.trusted])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One model of each framework: every one takes a process and the import of its library."""
    made = Repository(tmp_path_factory.mktemp("models"))
    made.booster("xgboost", "digits")
    made.booster("lightgbm", "breast_cancer")
    made.booster("catboost", "diabetes")
    made.estimator("columns", models.column_pipeline(LogisticRegression(max_iter=1000)))
    joblib.dump(models.forest("diabetes"), made.version("pickled") / "model.joblib")
    made.trusted.append(digest(made.folder / "pickled" / "1" / "model.joblib"))
    frame, _ = models.wine_frame()
    made.mlflow("mlflow_texts", models.column_pipeline(LogisticRegression(max_iter=1000)), frame, "cloudpickle")
    plain = made.version("plain")
    (plain / "predictor.py").write_text(CLASS, encoding="utf-8")
    np.save(plain / "centroids.npy", models.table("wine")[0][::60])
    return made


@pytest.fixture(scope="module")
def server(repository: Repository) -> Iterator[Server]:
    with repository.served() as running:
        yield running


# --- boosters ------------------------------------------------------------------------------------------


def test_xgboost(server: Server, repository: Repository) -> None:
    check_xgboost(server, repository, "digits")


def test_lightgbm(server: Server, repository: Repository) -> None:
    check_lightgbm(server, repository, "breast_cancer")


def test_catboost(server: Server, repository: Repository) -> None:
    check_catboost(server, repository, "diabetes")


CHECKED = [("xgboost", "breast_cancer"), ("xgboost", "diabetes"), ("lightgbm", "digits"), ("lightgbm", "diabetes")]
CHECKED += [("catboost", "breast_cancer"), ("catboost", "digits")]


@pytest.mark.slow
def test_boosters_of_every_kind(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    for library, data in CHECKED:
        made.booster(library, data)
    checks = {"xgboost": check_xgboost, "lightgbm": check_lightgbm, "catboost": check_catboost}
    with made.served() as server:
        for library, data in CHECKED:
            checks[library](server, made, data)


def check_xgboost(server: Server, repository: Repository, data: str) -> None:
    rows = models.with_gaps(data)[0][:64].astype(np.float32)
    booster = xgboost.Booster(model_file=repository.folder / f"xgboost_{data}" / "1" / "xgboost.json")
    as_boosters_answer(ask(server, f"xgboost_{data}", {"X": rows}), booster.predict(xgboost.DMatrix(rows)), data)


def check_lightgbm(server: Server, repository: Repository, data: str) -> None:
    rows = models.with_gaps(data)[0][:64]
    booster = lightgbm.Booster(model_file=repository.folder / f"lightgbm_{data}" / "1" / "model.txt")
    as_boosters_answer(ask(server, f"lightgbm_{data}", {"X": rows}), np.asarray(booster.predict(rows)), data)


def as_boosters_answer(got: Arrays, expected: NDArray[Any], data: str) -> None:
    if data == "diabetes":
        assert_close(got["prediction"], expected.reshape(-1, 1))
    elif data == "digits":
        assert_close(got["probabilities"], expected)
        assert got["label"].ravel().tolist() == expected.argmax(axis=1).tolist()
    else:
        assert_close(got["probabilities"][:, 1], expected)
        assert got["label"].ravel().tolist() == (expected > 0.5).astype(int).tolist()


def check_catboost(server: Server, repository: Repository, data: str) -> None:
    rows = models.with_gaps(data)[0][:64].astype(np.float32)
    kind = catboost.CatBoostRegressor if data == "diabetes" else catboost.CatBoostClassifier
    model = kind().load_model(repository.folder / f"catboost_{data}" / "1" / "model.cbm")
    got = ask(server, f"catboost_{data}", {"X": rows})
    if data == "diabetes":
        assert_close(got["prediction"], model.predict(rows).reshape(-1, 1))
    else:
        assert_close(got["probabilities"], model.predict_proba(rows))
        assert got["label"].ravel().tolist() == model.predict(rows).reshape(-1).tolist()


# --- scikit-learn --------------------------------------------------------------------------------------


def test_a_pickle_that_somebody_vouched_for(server: Server) -> None:
    rows, forest = models.table("diabetes")[0], models.forest("diabetes")
    assert_close(ask(server, "pickled", {"X": rows})["prediction"], forest.predict(rows).reshape(-1, 1))


def test_a_pipeline_of_named_columns(server: Server) -> None:
    frame, _ = models.wine_frame()
    pipeline = models.column_pipeline(LogisticRegression(max_iter=1000))
    got = ask(server, "columns", columns_of(frame))
    assert_close(got["probabilities"], pipeline.predict_proba(frame))
    assert got["label"].ravel().tolist() == pipeline.predict(frame).tolist()


def columns_of(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    return {
        str(name): frame[name].to_numpy(object if name == "region" else np.float64).reshape(-1, 1) for name in frame
    }


@pytest.mark.slow
def test_estimators_of_every_kind(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    rows, patients = models.table("wine")[0], models.table("diabetes")[0]
    forest, clusters = models.forest("wine"), KMeans(3, random_state=0, n_init=1).fit(rows)
    scaler, supports = StandardScaler().fit(rows), models.SKLEARN["scaled support vectors"]()
    machine = LinearSVC(max_iter=10000).fit(*models.table("breast_cancer"))
    named = {"forest": forest, "clusters": clusters, "scaler": scaler, "supports": supports, "machine": machine}
    for name, estimator in named.items():
        made.estimator(name, estimator)
    with made.served() as server:
        got = ask(server, "forest", {"X": rows})
        assert_close(got["probabilities"], forest.predict_proba(rows))
        assert got["label"].ravel().tolist() == forest.predict(rows).tolist()
        assert ask(server, "clusters", {"X": rows})["label"].ravel().tolist() == clusters.predict(rows).tolist()
        assert_close(ask(server, "scaler", {"X": rows})["prediction"], scaler.transform(rows))
        assert_close(ask(server, "supports", {"X": patients})["prediction"], supports.predict(patients).reshape(-1, 1))
        cells = models.table("breast_cancer")[0]
        assert_close(ask(server, "machine", {"X": cells})["scores"][:, 1], machine.decision_function(cells))


# --- MLflow --------------------------------------------------------------------------------------------


def test_mlflow_with_texts_and_gaps(server: Server, repository: Repository) -> None:
    frame, _ = models.wine_frame()
    model = mlflow.pyfunc.load_model(str(repository.folder / "mlflow_texts" / "1"))
    (output,) = ask(server, "mlflow_texts", columns_of(frame)).values()
    assert output.reshape(-1).tolist() == model.predict(frame).tolist()


@pytest.mark.slow
def test_mlflow_with_columns_and_tensors(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    rows, targets = models.table("wine")
    frame = pd.DataFrame(rows[:, :3], columns=["alcohol", "malic", "ash"])
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, targets)
    regressor = LinearRegression().fit(rows, targets)
    made.mlflow("columns", classifier, frame)
    made.mlflow("tensor", regressor, rows)
    with made.served() as server:
        (labels,) = ask(server, "columns", columns_of(frame)).values()
        assert labels.reshape(-1).tolist() == classifier.predict(frame).tolist()
        (predicted,) = ask(server, "tensor", {"input__0": rows}).values()
        assert_close(predicted.reshape(-1), regressor.predict(rows))


# --- a plain class -------------------------------------------------------------------------------------


def test_a_plain_class(server: Server) -> None:
    rows = models.table("wine")[0]
    distances = np.linalg.norm(rows[:, None] - rows[::60], axis=2)
    got = ask(server, "plain", {"x": rows})
    assert_close(got["distances"], distances)
    assert got["label"].ravel().tolist() == distances.argmin(axis=1).tolist()


# --- names of the configuration's ----------------------------------------------------------------------


def test_a_configuration_may_call_the_tensors_otherwise(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    made.booster("xgboost", "digits")
    (tmp_path / "xgboost_digits" / "config.pbtxt").write_text(
        'backend: "xgboost" default_model_filename: "xgboost.json" '
        'input { name: "input__0" data_type: TYPE_FP32 dims: [-1, 64] } '
        'output { name: "output__0" data_type: TYPE_FP32 dims: [-1, 10] }',
        encoding="utf-8",
    )
    rows = models.table("digits")[0][:16].astype(np.float32)
    booster = xgboost.Booster(model_file=tmp_path / "xgboost_digits" / "1" / "xgboost.json")
    with serve(tmp_path) as server:
        assert_close(
            ask(server, "xgboost_digits", {"input__0": rows})["output__0"], booster.predict(xgboost.DMatrix(rows))
        )


# --- what nobody vouched for ---------------------------------------------------------------------------


def test_a_pickle_is_refused_until_it_is_trusted(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    joblib.dump(models.forest("diabetes"), made.version("model") / "model.joblib")
    with pytest.raises(TaxiwayError, match="is a pickle") as refused, made.served():
        pass
    assert f"sha256:{digest(tmp_path / 'model' / '1' / 'model.joblib')}" in refused.value.hint
