"""Pickled Python objects, which the scan lets pass only where their very bytes are trusted.

What is told of them is read from the opcodes: nothing is unpickled here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from taxiway.core.tensors import Datatype
from taxiway.intake.formats.files import kind_of, the_one, zip_names
from taxiway.intake.formats.trees import rows_in
from taxiway.intake.nouns import Format, Staged, StagedFile, Understanding
from taxiway.intake.read.pickles import read_ops, read_stream
from taxiway.intake.scan.archives import unpacker
from taxiway.intake.scan.content import Kind, is_pickle
from taxiway.intake.scan.torch_archives import SAVED, layout_of

_HEAD_BYTES = 64 << 20
_MAX_OPS = 500_000

_FRAMEWORKS = (("torch", "torch", "pytorch"), ("xgboost", "xgboost", "sklearn"), ("lightgbm", "lightgbm", "sklearn"))
"""Prefix of a module, the framework, and the backend that serves its pickled objects; scikit-learn's for all others."""


def _recognise(staged: Staged) -> bool:
    one = staged.one()
    if one is None:
        return False
    kind = kind_of(one)
    if kind is Kind.COMPRESSED:
        return is_pickle(_unpacked(one))
    return kind is Kind.PICKLE or layout_of(zip_names(staged)) is SAVED


def _unpacked(file: StagedFile) -> bytes:
    """The beginning of what is packed in a file; nothing if it cannot be unpacked."""
    with file.at.open("rb") as packed:
        reader = unpacker(packed)
        try:
            return b"" if reader is None else reader.read(_HEAD_BYTES)
        except Exception:  # noqa: BLE001 - whatever is broken is no pickle; the scan will say what it is
            return b""


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    kind = kind_of(file)
    if kind is Kind.ZIP:
        return (_understanding(file, "torch", "pytorch", "model.pt", {}, 0),)
    data = _unpacked(file) if kind is Kind.COMPRESSED else file.head(_HEAD_BYTES)
    names = read_stream(io.BytesIO(data), _MAX_OPS).globals
    framework, backend = next(
        ((framework, backend) for prefix, framework, backend in _FRAMEWORKS if names and names[0].startswith(prefix)),
        ("sklearn", "sklearn"),
    )
    told = dict(_attributes(data))
    facts = {"object": names[0] if names else "", "sklearn_version": str(told.get("_sklearn_version", ""))}
    joblib = any(name.startswith("joblib.") for name in names) or kind is Kind.COMPRESSED
    features = told.get("n_features_in_", 0)
    name = f"model.{'joblib' if joblib else 'pkl'}"
    return (_understanding(file, framework, backend, name, facts, features if isinstance(features, int) else 0),)


def _understanding(
    file: StagedFile, framework: str, backend: str, name: str, facts: dict[str, Any], features: int
) -> Understanding:
    return Understanding(
        format="pickle",
        framework=framework,
        version=str(facts.get("sklearn_version", "")),
        backend=backend,
        files={f"@/{name}": file.path},
        inputs=rows_in(features, Datatype.FP64) if features else (),
        facts=facts,
        notes=("runs code of whoever made it, as soon as it is loaded",),
    )


def _attributes(data: bytes) -> Iterator[tuple[str, Any]]:
    """Scikit-learn's own marks: a name, and the value that is pushed next."""
    wanted = ""
    try:
        for op, argument in read_ops(io.BytesIO(data)):
            if argument in ("n_features_in_", "_sklearn_version"):
                wanted = str(argument)
            elif wanted and op.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
                yield wanted, argument
                wanted = ""
    except (ValueError, IndexError, MemoryError):
        return  # joblib puts arrays between the opcodes; what came before is told


PICKLED = Format("pickle", "a pickled object", _recognise, _understand)
