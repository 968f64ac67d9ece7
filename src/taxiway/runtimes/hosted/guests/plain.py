"""A plain Python class with `load` and `predict`, and nothing of any framework.

    class Doubler:
        def load(self, directory): ...
        def predict(self, x): return {"y": x * 2}

`predict` takes the inputs by name, as arrays, and returns the outputs by name. What they are is told by config.pbtxt,
or by attributes `inputs` and `outputs` of the class: {"x": ("FP32", [-1, 4])}.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from taxiway.core.errors import InvalidModel, ModelFailed
from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.code import load_code
from taxiway.runtimes.hosted.declaring import declared_by
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines


class PlainModel:
    """An object with `predict`."""

    def __init__(self, user: Any, source: Source) -> None:  # noqa: ANN401 - the user's own class
        self._user = user
        self.inputs: Sequence[Declared] | None = declared_by(user, "inputs")
        self.outputs: Sequence[Declared] | None = declared_by(user, "outputs")
        self.batches = bool(getattr(user, "batches", True))
        _check_told(self, source)
        if hasattr(user, "load"):
            user.load(str(source.file.parent))
        _check_predict(self, user.predict, source)  # `load` may have replaced it

    def predict(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """What its own `predict` returns."""
        given = self._user.predict(**inputs)
        if isinstance(given, Mapping):
            return {name: np.asarray(value) for name, value in given.items()}
        if len(outputs) == 1:
            return {outputs[0]: np.asarray(given)}
        raise ModelFailed(
            f"predict returned {type(given).__name__} for outputs {list(outputs)}",
            hint="return a dict of arrays by output name",
        )


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the class in the version's file."""
    module = load_code(source.file, f"taxiway_model_{source.name}_{source.version}".replace("-", "_").replace(".", "_"))
    return ArrayGuest(PlainModel(_class_of(module, source)(), source), lines)


def _check_told(model: PlainModel, source: Source) -> None:
    """Refuse a model that nobody could ask anything.

    Raises:
        InvalidModel: neither the class nor the configuration tells its tensors.
    """
    config = json.loads(source.config)
    silent = [
        side
        for side, told in (("inputs", model.inputs), ("outputs", model.outputs))
        if not told and not config.get(side[:-1])
    ]
    if silent:
        raise InvalidModel(
            f"{source.file} tells no {' and no '.join(silent)}",
            hint='give the class attributes: inputs = {"x": ("FP32", [-1, 4])}, outputs likewise; '
            "or write them in config.pbtxt",
        )


def _check_predict(model: PlainModel, predict: Callable[..., Any], source: Source) -> None:
    """Refuse one that would fail every request.

    Raises:
        InvalidModel: what it returns is to be awaited or iterated, or it does not take an input by its name.
    """
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    if any(is_kind(predict) for is_kind in kinds):
        raise InvalidModel(
            f"'predict' in {source.file} is async or a generator",
            hint="make it a function that returns arrays; who wants async or streams writes a Triton model.py",
        )
    names = [one["name"] for one in json.loads(source.config).get("input") or ()]
    for name in names or [one.name for one in model.inputs or ()]:
        try:
            inspect.signature(predict).bind_partial(**{name: None})
        except TypeError:
            raise InvalidModel(
                f"'predict' in {source.file} has no argument called as its input {name!r}",
                hint="name its arguments as the inputs are called, or give it **inputs",
            ) from None
        except ValueError:  # a function that is not of Python tells no signature
            return


def _class_of(module: ModuleType, source: Source) -> type:
    wanted = source.options.get("class")
    found = [
        one
        for name, one in inspect.getmembers(module, inspect.isclass)
        if one.__module__ == module.__name__ and hasattr(one, "predict") and wanted in (None, name)
    ]
    if len(found) != 1:
        names = ", ".join(one.__name__ for one in found) or "none"
        raise InvalidModel(
            f"{source.file} must hold one class with a method 'predict'; it holds {names}",
            hint="name the class: parameters { key: 'class' value { string_value: 'Name' } }",
        )
    return found[0]
