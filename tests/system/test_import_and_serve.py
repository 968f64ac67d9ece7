"""One model of each framework as a person takes it in and serves it: the verbs, then HTTP and gRPC, and the framework's
own numbers. All of them are imported into one registry, and served by their references by one server."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import mlflow
import numpy as np
import pytest
import skops.io
import xgboost
from mlflow.models import infer_signature
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.semi_supervised import LabelSpreading
from tests.support import framework_models as models
from tests.support.archives import write_archive
from tests.support.asking import Arrays, ask_both, assert_close
from tests.support.onnx_models import doubler
from tests.support.raw_http import Process, request, serve_process

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]  # training warns of many things

CELLS, PATIENTS, WINES = models.table("breast_cancer"), models.table("diabetes"), models.table("wine")
SOME = slice(None, None, 5)

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
TRITON = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        found = [pb_utils.get_input_tensor_by_name(request, "A").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("B", one + 1)]) for one in found]
"""
TRITON_CONFIG = """
backend: "python" max_batch_size: 8
input { name: "A" data_type: TYPE_FP32 dims: 2 } output { name: "B" data_type: TYPE_FP32 dims: 2 }
"""
HANDLER = """
def handle(data, context):
    return None if data is None else [row["data"].decode().upper() for row in data]
"""


# --- the models, each as its framework saves it --------------------------------------------------------


def pipeline(path: Path) -> Path:
    skops.io.dump(models.SKLEARN["scaled logistic regression"](), path / "pipe.skops")
    return path / "pipe.skops"


def histogram(path: Path) -> Path:
    skops.io.dump(categorical(), path / "histogram.skops")
    return path / "histogram.skops"


def spreading(path: Path) -> Path:
    skops.io.dump(labels_spread(), path / "spreading.skops")
    return path / "spreading.skops"


@functools.cache
def labels_spread() -> Any:
    """A model that no exporter takes."""
    return LabelSpreading(gamma=0.01).fit(*WINES)


@functools.cache
def categorical() -> Any:
    """Histogram boosting with a feature of categories, which takes an emitter of our own."""
    rows, targets = WINES
    first = np.column_stack([np.arange(len(rows)) % 4, rows[:, 1:]])
    return HistGradientBoostingClassifier(max_iter=6, categorical_features=[0]).fit(first, targets)


def pickled(path: Path) -> Path:
    (path / "pickled.pkl").write_bytes(pickle.dumps(models.forest("diabetes")))
    return path / "pickled.pkl"


def booster(library: str) -> Callable[[Path], Path]:
    return lambda path: models.boosted(library, "breast_cancer", path)


def python_class(path: Path) -> Path:
    (path / "anything.py").write_text(CLASS, encoding="utf-8")
    np.save(path / "centroids.npy", WINES[0][::60])
    return path


def triton_repository(path: Path) -> Path:
    (path / "increment" / "1").mkdir(parents=True)
    (path / "increment" / "1" / "model.py").write_text(TRITON, encoding="utf-8")
    (path / "increment" / "config.pbtxt").write_text(TRITON_CONFIG, encoding="utf-8")
    return path


def mlflow_model(path: Path) -> Path:
    rows, targets = PATIENTS
    model = LinearRegression().fit(rows, targets)
    mlflow.sklearn.save_model(
        model,
        path / "logged",
        signature=infer_signature(rows, model.predict(rows)),
        pip_requirements=[],
        serialization_format="skops",
    )
    return path / "logged"


# --- what their frameworks answer ----------------------------------------------------------------------


def as_classified(estimator: Any, rows: Any) -> Arrays:
    return {"label": estimator.predict(rows).reshape(-1, 1), "probabilities": estimator.predict_proba(rows)}


def as_boosted(probabilities: Any) -> Arrays:
    both = np.stack([1 - probabilities, probabilities], axis=1)
    return {"label": both.argmax(axis=1).reshape(-1, 1), "probabilities": both}


def by_xgboost(source: Path, rows: Any) -> Arrays:
    return as_boosted(xgboost.Booster(model_file=source).predict(xgboost.DMatrix(rows)))


def by_lightgbm(source: Path, rows: Any) -> Arrays:
    return as_boosted(np.asarray(lightgbm.Booster(model_file=source).predict(rows)))


def by_catboost(source: Path, rows: Any) -> Arrays:
    return as_classified(catboost.CatBoostClassifier().load_model(source), rows)


def by_distance(rows: Any) -> Arrays:
    distances = np.linalg.norm(rows[:, None] - WINES[0][::60], axis=2)
    return {"label": distances.argmin(axis=1).reshape(-1, 1), "distances": distances}


@dataclass(frozen=True)
class Walk:
    """One model from its file to its answers.

    Attributes:
        make: writes it into a folder; returns what is imported.
        rows: of its one input.
        answers: of its framework, to the source and the rows.
        backend: what serves it.
        said: further words of the import.
        is_told: whether the import tells its tensors; else they are known once it is loaded.
    """

    make: Callable[[Path], Path]
    rows: Arrays
    answers: Callable[[Path, Any], Arrays]
    backend: str
    said: tuple[str, ...] = ()
    is_told: bool = True


NARROW = {"X": CELLS[0][SOME].astype(np.float32)}
WIDE = {"X": CELLS[0][SOME]}
WALKS: Mapping[str, Walk] = {
    "onnx": Walk(
        lambda path: doubler(path / "double.onnx"),
        {"x": np.array([[1, 2], [3, 4]], np.float32)}, lambda _, rows: {"y": 2 * rows}, "onnxruntime",
    ),
    "pipe": Walk(
        pipeline, {"X": WINES[0][SOME].astype(np.float32)},
        lambda source, rows: as_classified(skops.io.load(source), rows), "onnxruntime",
    ),
    "histogram": Walk(
        histogram, {"X": (WINES[0][SOME] // 4).astype(np.float32)},
        lambda _, rows: as_classified(categorical(), rows), "onnxruntime",
    ),
    "spreading": Walk(
        spreading, {"X": WINES[0][SOME]}, lambda _, rows: as_classified(labels_spread(), rows), "sklearn",
    ),
    "pickled": Walk(
        pickled, {"X": PATIENTS[0][SOME]},
        lambda _, rows: {"prediction": models.forest("diabetes").predict(rows).reshape(-1, 1)},
        "sklearn", ("--native",), is_told=False,
    ),
    "xgboost": Walk(booster("xgboost"), NARROW, by_xgboost, "onnxruntime"),
    "xgboost-native": Walk(booster("xgboost"), NARROW, by_xgboost, "xgboost", ("--native",)),
    "lightgbm": Walk(booster("lightgbm"), NARROW, by_lightgbm, "onnxruntime"),
    "catboost": Walk(booster("catboost"), NARROW, by_catboost, "onnxruntime"),
    "class": Walk(python_class, {"x": WINES[0][SOME]}, lambda _, rows: by_distance(rows), "class"),
    "increment": Walk(
        triton_repository, {"A": np.ones((3, 2), np.float32)}, lambda _, rows: {"B": rows + 1}, "python",
    ),
    "mlflow": Walk(
        mlflow_model, {"input__0": PATIENTS[0][SOME]},
        lambda source, rows: {"output__0": np.asarray(mlflow.pyfunc.load_model(str(source)).predict(rows))}, "mlflow",
    ),
    "archive": Walk(
        lambda path: write_archive(path / "archive.mar", HANDLER),
        {"data": np.array([[b"loud"]], object)}, lambda _, rows: {"output": np.array([["LOUD"]])}, "torchserve",
        is_told=False,
    ),
}  # fmt: skip
SLOW_WALKS: Mapping[str, Walk] = {
    "lightgbm-native": Walk(booster("lightgbm"), WIDE, by_lightgbm, "lightgbm", ("--native",)),
    "catboost-native": Walk(booster("catboost"), NARROW, by_catboost, "catboost", ("--native",)),
}


TRUSTED = ("histogram", "pickled")
"""One builds a partial function, the other is a pickle."""

# --- the walk ------------------------------------------------------------------------------------------


def taxiway(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "taxiway", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry of this module's own."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@dataclass(frozen=True)
class Shelf:
    """What was imported: by name, the source and what `--output json` told."""

    sources: Mapping[str, Path]
    told: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def shelf(home: Path) -> Shelf:
    return take_all(WALKS, home)


def take_all(walks: Mapping[str, Walk], folder: Path) -> Shelf:
    sources = {}
    for name, walk in walks.items():
        (folder / name).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sources[name] = walk.make(folder / name)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # as several people who import at once
        told = pool.map(lambda name: take(name, walks[name], sources[name]), walks)
        return Shelf(sources, dict(zip(walks, told, strict=True)))


def take(name: str, walk: Walk, source: Path) -> Mapping[str, Any]:
    trust = ["--trust", f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"] if name in TRUSTED else []
    named = [] if name == "increment" else ["--name", name]
    words = [*named, *walk.said, *trust, "--alias", "stable", "--why", "to be tried", "--output", "json"]
    (told,) = json.loads(taxiway("import", str(source), *words).stdout)
    return dict(told)


@pytest.fixture(scope="module")
def server(shelf: Shelf) -> Iterator[Process]:
    with serve_process([f"{name}@stable" for name in shelf.told]) as running:
        yield running


@pytest.mark.parametrize("name", WALKS)
def test_what_is_imported_answers_as_its_framework_does(name: str, shelf: Shelf, server: Process) -> None:
    check(name, WALKS[name], shelf, server)


@pytest.mark.slow
def test_so_do_other_libraries_of_trees(home: Path) -> None:
    shelf = take_all(SLOW_WALKS, home)
    with serve_process([f"{name}@stable" for name in SLOW_WALKS]) as server:
        for name, walk in SLOW_WALKS.items():
            check(name, walk, shelf, server)


def check(name: str, walk: Walk, shelf: Shelf, server: Process) -> None:
    told = shelf.told[name]
    assert told["backend"] == walk.backend
    (rows,) = walk.rows.values()
    expected = walk.answers(shelf.sources[name], rows)
    got = ask_both(f"{server.address[0]}:{server.address[1]}", server.grpc, name, walk.rows)
    for output, values in expected.items():
        if values.dtype.kind in "iU":
            assert got[output].tolist() == values.tolist()
        else:
            # a probability that float32 forms as 1 - p has lost its last digits (docs/convert.md, "How it is proven")
            assert_close(got[output].reshape(values.shape), values, scale=0.1 if "conversion" in told else 0.0)


@pytest.mark.parametrize("name", [name for name, walk in WALKS.items() if walk.is_told])
def test_what_the_import_told_of_the_tensors_is_what_is_served(name: str, shelf: Shelf, server: Process) -> None:
    told = shelf.told[name]["signature"]
    served = json.loads(server.ask(request("GET", f"/v2/models/{name}")).body)
    for side in ("inputs", "outputs"):
        known = {one["name"]: (one["datatype"], one["shape"][:2]) for one in served[side]}
        assert {one["name"]: (one["datatype"], (*one["shape"], 1)[:2]) for one in told[side]} == {
            name: (datatype, tuple(shape)) for name, (datatype, shape) in known.items()
        }


@pytest.mark.parametrize("name", ["spreading", "xgboost-native", "class"])
def test_requests_of_any_number_of_rows_are_merged_in_model_processes(name: str, shelf: Shelf, server: Process) -> None:
    config = json.loads(server.ask(request("GET", f"/v2/models/{name}/config")).body)
    assert config["max_batch_size"] > 1
    assert "dynamic_batching" in config


def test_a_conversion_is_told_and_its_original_is_kept(shelf: Shelf) -> None:
    told = shelf.told["xgboost"]
    assert told["conversion"]["type"] == "converted"
    assert {file["path"] for file in told["files"]} == {"@/model.onnx", "@/original/model.json", "config.pbtxt"}
    why = taxiway("why", "xgboost@stable").stdout
    assert f"xgboost:1 made from {told['origin']['digest']}  (" in why
    assert "converter onnxmltools" in why
    assert "conversion.parity.rows" in taxiway("show", "xgboost").stdout


def test_what_is_not_converted_says_why(shelf: Shelf) -> None:
    told = shelf.told["spreading"]["conversion"]
    assert told["type"] == "not-converted"
    assert told["message"]
    assert {file["path"] for file in shelf.told["spreading"]["files"]} == {"@/model.skops", "config.pbtxt"}
