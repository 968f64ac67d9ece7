"""The frameworks: one module each, imported only in the process of a model that is its.

In: a `Source`.
Out: a `Guest`, most of them an `ArrayModel` in an `ArrayGuest`.
Never: another framework's module.
Read: plain.py, the smallest.
"""

from __future__ import annotations

import importlib

from taxiway.core.errors import Unsupported
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


def open_guest(backend: str, source: Source, lines: Lines) -> Guest:
    """Load a model.

    Raises:
        Unsupported: nothing here runs this backend's models.
        TaxiwayError: it cannot be loaded.
    """
    module = _MODULES.get(backend)
    if module is None:
        raise Unsupported(f"backend {backend!r} has no runtime yet", hint=f"there are {', '.join(sorted(_MODULES))}")
    guest: Guest = importlib.import_module(f"taxiway.runtimes.hosted.guests.{module}").open_model(source, lines)
    return guest
