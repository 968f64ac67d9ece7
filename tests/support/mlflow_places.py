"""Real MLflow registries to test with: its own client on an SQLite file, artifacts in a directory beside it."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

EXPERIMENT = "fraud-detection"


@contextmanager
def quiet() -> Iterator[Any]:
    """mlflow, whose warnings are its developers' business, telling nobody of its use."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings(action="ignore"):
        yield importlib.import_module("mlflow")


@cache
def _empty_database() -> Path:
    """MLflow takes seconds to make its tables: made once, copied for each test."""
    path = Path(tempfile.mkdtemp(prefix="taxiway-mlflow-")) / "mlflow.db"
    with quiet() as mlflow:
        mlflow.MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    return path


@dataclass(frozen=True)
class MlflowPlace:
    """One MLflow, and quick ways to fill it."""

    folder: Path

    @classmethod
    def new(cls, folder: Path) -> MlflowPlace:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(_empty_database(), folder / "mlflow.db")
        place = cls(folder)
        with place.client() as client:
            client.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
        return place

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Its client; also as the global one, which parts of mlflow take whatever they were given."""
        with quiet() as mlflow:
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.uri)
            yield mlflow.MlflowClient(self.uri, self.uri)

    def log(self, files: Path, name: str = "fraud", **metrics: float) -> str:
        """A run that logs a directory, and a version of a registered model made of it; returns its number."""
        with self.client() as client:
            run = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id)
            for key, value in metrics.items():
                client.log_metric(run.info.run_id, key, value)
            client.log_param(run.info.run_id, "depth", 3)
            client.log_artifacts(run.info.run_id, str(files), "model")
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            made = client.create_model_version(name, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
        return str(made.version)

    def log_adder(self, amount: float, name: str = "fraud", **metrics: float) -> str:
        """As `log`, of a tiny ONNX model: each amount is other bytes."""
        with tempfile.TemporaryDirectory() as folder:
            return self.log(adder(Path(folder), amount).parent, name, **metrics)

    def point(self, alias: str, version: str | None, name: str = "fraud") -> None:
        """Move an alias there, as somebody else would."""
        with self.client() as client:
            if version is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, version)

    def aliases(self, name: str = "fraud") -> dict[str, str]:
        with self.client() as client:
            return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}

    def tags(self, version: str, name: str = "fraud") -> dict[str, str]:
        with self.client() as client:
            return dict(client.get_model_version(name, version).tags)


def adder(folder: Path, amount: float) -> Path:
    """y = x + amount."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in "xy")
    weights = numpy_helper.from_array(np.float32(amount), "amount")
    graph = helper.make_graph([helper.make_node("Add", ["x", "amount"], ["y"])], "adder", [x], [y], [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    return folder / "model.onnx"
