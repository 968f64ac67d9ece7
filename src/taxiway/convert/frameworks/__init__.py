"""The frameworks whose models can be converted, one module each, imported when a model of theirs comes.

In: a model file, and the digest of one that may be unpickled.
Out: the model as a `Foreign`: it answers, exports itself, and says where it decides.
Never: judging an export; importing a framework before a model of it comes.
Read: xgboost.py, the plainest.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

from taxiway.convert.foreign import Foreign
from taxiway.convert.outcome import Reason, Refused
from taxiway.core.errors import TaxiwayError, Unsupported, UntrustedPickle

BY_SUFFIX: Final = {
    ".skops": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".joblib": "sklearn",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".txt": "lightgbm",
    ".cbm": "catboost",
}

_REASONS: Final = ((UntrustedPickle, Reason.UNTRUSTED), (Unsupported, Reason.UNSUPPORTED))


def load(path: Path, trusted_digest: str | None) -> Foreign:
    """The model at `path`, in the framework that the ending of its name says.

    Raises:
        Refused: unknown ending, missing library, or a file that the framework does not read or nobody trusts.
    """
    framework = BY_SUFFIX.get(path.suffix.lower())
    if framework is None:
        raise Refused(
            Reason.UNSUPPORTED,
            f"no converter takes a file that ends in {path.suffix!r}",
            f"those that can be converted end in {', '.join(BY_SUFFIX)}",
        )
    try:
        module = importlib.import_module(f"taxiway.convert.frameworks.{framework}")
    except ImportError as problem:
        raise Refused(
            Reason.LIBRARY_MISSING,
            f"{path.name} needs {problem.name}, which is not installed",
            f"pip install 'taxiway[onnx,{framework}]'",
        ) from problem
    trusted = () if trusted_digest is None else (trusted_digest.lower().removeprefix("sha256:"),)
    try:
        foreign: Foreign = module.load(path, trusted)
    except TaxiwayError as problem:
        reasons = [reason for kind, reason in _REASONS if isinstance(problem, kind)]
        raise Refused(reasons[0] if reasons else Reason.UNREADABLE, problem.message, problem.hint) from problem
    return foreign
