"""The frameworks: one module each, imported only in the process of a model that is its.

In: a `Source`.
Out: a `Guest`, most of them an `ArrayModel` in an `ArrayGuest`.
Never: another framework's module.
Read: plain.py, the smallest.
"""

from __future__ import annotations

import importlib
import sys

from taxiway.core.errors import ExtraMissing, Unsupported
from taxiway.runtimes.hosted.guest import Guest, Source
from taxiway.runtimes.hosted.lines import Lines

_MODULES = {
    "python": "triton",
    "class": "plain",
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "mlflow": "mlflow",
    "pytorch": "pytorch",
    "torchserve": "torchserve",
    "transformers": "transformers",
}
"""Backends (config/backends.py) and the modules whose `open_model(source, lines)` loads their models."""
_PACKAGES = {"sklearn": "scikit-learn skops", "pytorch": "torch", "transformers": "torch transformers"}
"""What to install for a backend, where that is not called as it is."""


def open_guest(backend: str, source: Source, lines: Lines) -> Guest:
    """Load a model.

    Raises:
        Unsupported: nothing here runs this backend's models.
        ExtraMissing: its framework is not installed.
        TaxiwayError: it cannot be loaded.
    """
    module = _MODULES.get(backend)
    if module is None:
        raise Unsupported(f"backend {backend!r} has no runtime yet", hint=f"there are {', '.join(sorted(_MODULES))}")
    try:
        framework = importlib.import_module(f"taxiway.runtimes.hosted.guests.{module}")
    except ModuleNotFoundError as missing:
        raise ExtraMissing(
            f"backend {backend!r} needs {missing.name}, which {sys.executable} does not have",
            hint=f"{sys.executable} -m pip install {_PACKAGES.get(backend, backend)}; "
            "or name a Python that has it: --execution.python PATH",
        ) from missing
    guest: Guest = framework.open_model(source, lines)
    return guest
