"""What can run a model, by the name that a configuration's `backend` gives it, and the files each is known by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taxiway.config.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Backend:
    """One framework.

    Attributes:
        platform: Triton's older name for the same; empty if there is none.
        filenames: what a version's directory holds that is for it, the usual one first; a directory's name counts too.
        hosted: whether its models run in processes of their own, beside the data plane's.
    """

    name: str
    filenames: tuple[str, ...]
    platform: str = ""
    hosted: bool = True


ONNX = Backend("onnxruntime", ("model.onnx",), "onnxruntime_onnx", hosted=False)
PYTHON = Backend("python", ("model.py",))
BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        ONNX,
        Backend("mlflow", ("MLmodel",)),  # before those whose files lie beside an MLmodel
        PYTHON,
        Backend("class", ("predictor.py",)),
        Backend("pytorch", ("model.pt", "model.pt2", "module.py"), "pytorch_libtorch"),
        Backend("sklearn", ("model.skops", "model.joblib", "model.pkl")),
        Backend("xgboost", ("model.ubj", "xgboost.json", "model.xgb")),
        Backend("lightgbm", ("model.txt",)),
        Backend("catboost", ("model.cbm",)),
        Backend("torchserve", ("MAR-INF", "model.mar")),
        Backend("transformers", ("config.json",)),
    )
}
"""In the order in which a version's files are asked whose they are."""
ENSEMBLE = "ensemble"
"""The platform of a graph of models, which has no file."""


def backend_of(config: ModelConfig) -> Backend | None:
    """What a configuration names, by its backend or its platform; None if it is none of ours, or names none."""
    if config.backend:
        return BACKENDS.get(config.backend)
    return next((one for one in BACKENDS.values() if one.platform and one.platform == config.platform), None)


def is_ensemble(config: ModelConfig) -> bool:
    """Whether it is a graph of models."""
    return config.HasField("ensemble_scheduling") or ENSEMBLE in (config.platform, config.backend)


def recognise(version: Path) -> tuple[Backend, str] | None:
    """The backend whose file lies in a version's directory, and that file's name; None if there is none."""
    for backend in BACKENDS.values():
        for filename in backend.filenames:
            if (version / filename).exists():
                return backend, filename
    return None


_PYTHON_CLASS = b"class TritonPythonModel"
_FILES = {
    ".skops": "sklearn",
    ".ubj": "xgboost",
    ".cbm": "catboost",
    ".pt": "pytorch",
    ".pt2": "pytorch",
    ".mar": "torchserve",
}
"""Suffixes that belong to one framework alone."""
FILE_SUFFIXES = (".onnx", ".py", *_FILES)
"""Of files that can be served by themselves."""


def backend_of_file(path: Path) -> Backend | None:
    """The backend of a file that is a model by itself, by its suffix; of Python code, by the class that is in it."""
    if path.suffix == ".onnx":
        return ONNX
    if path.suffix == ".py":
        return PYTHON if _PYTHON_CLASS in path.read_bytes() else BACKENDS["class"]
    return BACKENDS.get(_FILES.get(path.suffix, ""))
