"""What handlers borrow from TorchServe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class PredictionException(Exception):
    """Raised by a handler that wants a status and a message of its own to be the answer."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


def list_classes_from_module(module: ModuleType, parent_class: type | None = None) -> list[type]:
    """The classes that a module defines itself."""
    found = [one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == module.__name__]
    return found if parent_class is None else [one for one in found if issubclass(one, parent_class)]


def load_label_mapping(mapping_file_path: str) -> dict[str, str] | None:
    """The names of classes by their number, from `index_to_name.json`; None if there is no such file.

    Raises:
        ValueError: it does not map numbers to names.
    """
    path = Path(mapping_file_path)
    if not path.is_file():
        return None
    mapping = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise ValueError(f"{path.name} must be an object of names by class")  # noqa: TRY004 - as TorchServe
    names = mapping.get("object_type_names")
    if isinstance(names, list):
        return {str(number): name for number, name in enumerate(names)}
    labels = {key: value[-1] if isinstance(value, list) and value else value for key, value in mapping.items()}
    if not all(isinstance(label, str) for label in labels.values()):
        raise ValueError(f"the names in {path.name} must be strings, or lists of strings")
    return labels


def map_class_to_label(
    probs: Sequence[Sequence[float]],
    mapping: Mapping[str, str] | None = None,
    lbl_classes: Sequence[Sequence[Any]] | None = None,
) -> list[dict[str, float]]:
    """By row: probabilities by the names of their classes."""
    classes = lbl_classes or [range(len(row)) for row in probs]
    return [
        {(mapping[str(one)] if mapping else str(one)): probability for one, probability in zip(names, row, strict=True)}
        for names, row in zip(classes, probs, strict=True)
    ]
