"""scikit-learn in skops' format: a zip archive whose schema tells classes and attributes without building any."""

from __future__ import annotations

import ast
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.formats.files import the_one, zip_names
from taxiway.intake.formats.trees import classes_out, numbers_out, rows_in
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Format, Staged, Understanding
from taxiway.intake.read.documents import read_json
from taxiway.intake.scan.skops import SCHEMA

_KINDS = {"i": Datatype.INT64, "u": Datatype.INT64, "f": Datatype.FP64, "b": Datatype.BOOL, "U": Datatype.BYTES}
"""NumPy's kind of a class label -> what it travels as."""
_BY_NAME = "ColumnTransformer"
"""It may take each feature by its name: which, is known once it is loaded."""
_SCORERS = ("Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier", "SVC", "LinearSVC", "NuSVC")
"""Classifiers that have no probabilities, or only where they were told to."""


def _recognise(staged: Staged) -> bool:
    return SCHEMA in zip_names(staged)


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    with zipfile.ZipFile(file.at) as archive:
        schema = read_json(archive.read(SCHEMA), f"{file.path}!{SCHEMA}", DEFAULT_LIMITS)
        features = _number(_attribute(schema, "n_features_in_"))
        classes = _classes(_attribute(schema, "classes_"), archive)
    steps = _steps(schema)
    first, last = (steps[0], steps[-1]) if steps else 2 * (str(schema.get("__class__")),)
    takes_rows = bool(features) and first != _BY_NAME
    return (
        Understanding(
            format="skops",
            framework="sklearn",
            backend="sklearn",
            files={"@/model.skops": file.path},
            inputs=rows_in(features, Datatype.FP64) if takes_rows else (),
            outputs=_outputs(last, classes),
            facts={
                "estimator": f"{schema.get('__module__')}.{schema.get('__class__')}",
                "steps": steps,
                "features": features,
                "skops_version": schema.get("_skops_version", ""),
            },
        ),
    )


def _outputs(last: str, classes: tuple[Datatype, int] | None) -> tuple[TensorSpec, ...]:
    """A classifier answers with a label, a regressor with a number; of anything else nobody knows."""
    if classes is not None:
        label, count = classes
        return () if last in _SCORERS else classes_out(count, Datatype.FP64, label)
    return numbers_out(1, Datatype.FP64) if last.endswith(("Regressor", "Regression")) else ()


def _attributes(node: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The attributes of an object's node."""
    content = node.get("content") if isinstance(node, dict) else None
    inner = content.get("content") if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else {}


def _walk(node: Any, depth: int = 0) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    """Attributes of an estimator, then of those of its steps: the first has what the input looks like."""
    attributes = _attributes(node)
    yield attributes
    if depth < 4:
        for step in _step_nodes(node):
            yield from _walk(step, depth + 1)


def _step_nodes(node: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """The estimators of a Pipeline."""
    steps = _attributes(node).get("steps")
    listed = steps.get("content") if isinstance(steps, dict) else None
    pairs = [step.get("content") for step in listed if isinstance(step, dict)] if isinstance(listed, list) else []
    return [pair[1] for pair in pairs if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], dict)]


def _steps(schema: Any) -> list[str]:  # noqa: ANN401 - JSON
    return [str(step.get("__class__")) for step in _step_nodes(schema)]


def _attribute(schema: Any, name: str) -> Any:  # noqa: ANN401 - JSON
    found = (attributes[name] for attributes in _walk(schema) if name in attributes)
    return next(found, None)


def _number(node: Any) -> int:  # noqa: ANN401 - JSON
    try:
        return int(json.loads(node["content"]))
    except (TypeError, KeyError, ValueError):
        return 0


def _classes(node: Any, archive: zipfile.ZipFile) -> tuple[Datatype, int] | None:  # noqa: ANN401 - JSON
    """What class labels are and how many, by the header of the array that holds them."""
    name = node.get("file") if isinstance(node, dict) else None
    if not isinstance(name, str) or name not in archive.NameToInfo:
        return None
    head = archive.open(name).read(1024)
    try:
        header = ast.literal_eval(io.BytesIO(head[10:]).readline().decode("latin-1"))
        (count,) = header["shape"]
        kind = _KINDS.get(str(header["descr"])[1])
        return None if kind is None else (kind, int(count))
    except (ValueError, SyntaxError, KeyError, TypeError, IndexError):
        return None


SKOPS = Format("skops", "scikit-learn (skops)", _recognise, _understand)
