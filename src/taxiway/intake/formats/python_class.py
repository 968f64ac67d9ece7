"""A Python file with a class that has `predict`, and `load` where it loads something. It is parsed, never run."""

from __future__ import annotations

import ast
import warnings
from typing import Final

from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.formats.files import kind_of, placed
from taxiway.intake.nouns import Format, Staged, StagedFile, Understanding
from taxiway.intake.scan.content import Kind

_METHOD: Final = "predict"
_MAX_BYTES: Final = 1 << 20


def _recognise(staged: Staged) -> bool:
    return _found(staged) is not None


def _found(staged: Staged) -> tuple[StagedFile, str] | None:
    """The one class that has the methods, and its file: the source itself, or a file at the top of a directory."""
    found = [(file, name) for file in _candidates(staged) for name in class_names(file)]
    return found[0] if len(found) == 1 else None


def _candidates(staged: Staged) -> list[StagedFile]:
    if staged.single is not None:
        return [staged.files[staged.single]]
    if any(staged.files.get(mark) for mark in ("config.json", "MLmodel", "config.pbtxt")):
        return []
    return [file for path, file in staged.files.items() if "/" not in path and path.endswith(".py")]


def class_names(file: StagedFile) -> list[str]:
    """Classes at the top of a Python file that have `predict`."""
    if file.size > _MAX_BYTES or kind_of(file) is not Kind.TEXT or b"class" not in file.head(_MAX_BYTES):
        return []
    try:
        tree = _parsed(file)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and _METHOD in _methods(node)]


def _parsed(file: StagedFile) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in foreign code
        return ast.parse(file.head(_MAX_BYTES))


def _methods(node: ast.ClassDef) -> set[str]:
    return {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    found = _found(staged)
    assert found is not None, "recognised before"  # noqa: S101 - a broken promise of ours
    file, name = found
    others = {f"@/{path}": path for path in sorted(staged.files) if path != file.path}
    return (
        Understanding(
            format="python-class",
            framework="python",
            backend="class",
            files=placed({"@/predictor.py": file.path}, others),
            inputs=_declared(file, name, "inputs"),
            outputs=_declared(file, name, "outputs"),
            facts={"class": name},
            notes=(f"runs its own Python code: class {name}",),
            tells_later=all(_values(file, name, attribute) for attribute in ("inputs", "outputs")),
        ),
    )


def _values(file: StagedFile, name: str, attribute: str) -> list[ast.expr]:
    """What is assigned to an attribute in the body of the class."""
    body = [
        node
        for item in _parsed(file).body
        if isinstance(item, ast.ClassDef) and item.name == name
        for node in item.body
    ]
    return [
        node.value
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and node.value is not None
        and any(
            isinstance(target, ast.Name) and target.id == attribute
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        )
    ]


def _declared(file: StagedFile, name: str, attribute: str) -> tuple[TensorSpec, ...]:
    """What the class says of its tensors in an attribute that is written out: `{"x": ("FP32", [-1, 4])}`."""
    values = _values(file, name, attribute)
    try:
        said = ast.literal_eval(values[0]) if values else {}
        specs = [
            TensorSpec(str(tensor), datatype, tuple(int(size) for size in shape))
            for tensor, (kind, shape) in said.items()
            if (datatype := Datatype.by_name(kind)) is not None
        ]
    except (ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        return ()  # made while it runs: known once it is loaded
    return tuple(specs) if len(specs) == len(said) else ()


PYTHON_CLASS = Format("python-class", "a Python class with predict", _recognise, _understand)
