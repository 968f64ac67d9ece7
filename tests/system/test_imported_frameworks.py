"""A model of each framework as a person has it: imported into a registry, served from it, asked over HTTP and gRPC."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import catboost
import lightgbm
import mlflow
import numpy as np
import pytest
import skops.io
import xgboost
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression
from tests.support import framework_models as models
from tests.system.test_frameworks import ask, close, columns_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache")}


def take_in(home: Path, source: Path, name: str) -> None:
    words = ["import", str(source), "--name", name, "--why", "trial"]
    done = subprocess.run(
        [sys.executable, "-m", "taxiway", *words], env=environment(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def served(home: Path, *names: str) -> Iterator[Any]:
    ports = ["--http.port", "0", "--grpc.port", "0", "--metrics.port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "taxiway", "serve", *(f"{name}:1" for name in names), *ports],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=(log := home / "server.log").open("w"),
        text=True,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        assert all(said), log.read_text()
        http, _, grpc = (line.strip().rpartition(" ")[2] for line in said)
        yield SimpleNamespace(http=http, grpc=grpc)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        process.communicate()


def test_what_is_imported_is_served_and_answers_as_its_framework(tmp_path: Path) -> None:
    files = {library: models.boosted(library, "diabetes", tmp_path) for library in ("xgboost", "lightgbm", "catboost")}
    rows, targets = models.table("diabetes")
    narrow = rows.astype(np.float32)
    frame, _ = models.wine_frame()
    pipeline = models.column_pipeline(LogisticRegression(max_iter=1000))
    files["pipeline"] = tmp_path / "pipeline.skops"
    skops.io.dump(pipeline, files["pipeline"])
    regressor = LinearRegression().fit(rows, targets)
    files["mlflow"] = tmp_path / "logged"
    signature = infer_signature(rows, regressor.predict(rows))
    mlflow.sklearn.save_model(regressor, files["mlflow"], signature=signature, pip_requirements=[])
    for name, source in files.items():
        take_in(tmp_path, source, name)
    with served(tmp_path, *files) as server:
        expected = xgboost.Booster(model_file=files["xgboost"]).predict(xgboost.DMatrix(narrow))
        close(ask(server, "xgboost", {"input__0": narrow})["output__0"], expected)
        booster = lightgbm.Booster(model_file=files["lightgbm"])
        close(ask(server, "lightgbm", {"input__0": rows})["output__0"], booster.predict(rows))
        model = catboost.CatBoost().load_model(files["catboost"])
        close(ask(server, "catboost", {"input__0": narrow})["output__0"], model.predict(narrow))
        labels = ask(server, "pipeline", columns_of(frame))["output__0"]
        assert labels.tolist() == pipeline.predict(frame).tolist()
        (predicted,) = ask(server, "mlflow", {"input__0": rows}).values()
        close(predicted.reshape(-1), regressor.predict(rows))
