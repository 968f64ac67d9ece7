"""What reading a file would run or build: told before anything of it is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HARMLESS: Final = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "functools.partial",  # what it calls is a type of its own, asked for by its name
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",  # their indexes are checked ...
        "sklearn.tree._tree.Tree",  # ... before they are asked anything
        "sklearn.utils._bunch.Bunch",  # a dict: the members of a vote by name
        "sklearn.utils.validation.check_array",  # histogram boosting with categories looks at its numbers with it
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRegressor",
    }
)
"""Types that skops does not build unasked, and that do nothing while they are built. Imports go by them too."""
_PICKLES: Final = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")
_PROTOCOLS: Final = tuple(b"\x80" + bytes([version]) for version in range(2, 6))


def unknown_types(content: bytes) -> list[str]:
    """The types in a skops file that are not known to be harmless.

    Raises:
        Exception: whatever skops raises for a file that is not its own.
    """
    import skops.io  # noqa: PLC0415 - only who has such a file has to have it

    return sorted(set(skops.io.get_untrusted_types(data=content)) - HARMLESS)


def dangerous_files(directory: Path) -> Iterator[tuple[Path, str]]:
    """Files anywhere in a directory that could run code when they are read as data, each with the reason."""
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        if path.suffix.lower() == ".skops":
            types = unknown_types(path.read_bytes())
            if types:
                yield path, f"builds {', '.join(types)}"
        elif _is_pickle(path):
            yield path, "is a pickle"


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLES:
        return True
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] in _PROTOCOLS:
        return True
    return head == b"PK\x03\x04" and _holds_pickle(path)


def _holds_pickle(path: Path) -> bool:
    """Whether a zip archive is one of torch's, which are pickles with their tensors beside them."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            return any(name.lower().endswith(_PICKLES) for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
