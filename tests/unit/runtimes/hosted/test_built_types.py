"""What would run or build more than numbers is found before it is read."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from taxiway.runtimes.hosted.built_types import dangerous_files


class Foreign(LinearRegression):  # type: ignore[misc]  # scikit-learn is untyped
    """A type that nobody knows."""


def _torch(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


def _skops(path: Path) -> None:
    skops.io.dump(Foreign().fit([[1.0]], [1.0]), path)


MAKERS = {
    "model.pkl": lambda path: path.write_bytes(pickle.dumps({}, protocol=0)),
    "disguised.txt": lambda path: path.write_bytes(pickle.dumps({})),
    "deep/down/model.joblib": lambda path: joblib.dump(np.arange(3), path),
    "data/model.pth": _torch,
    "model.skops": _skops,
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_dangerous_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    MAKERS[name](path)
    ((found, what),) = dangerous_files(tmp_path)
    assert found == path
    assert "Foreign" in what if name.endswith(".skops") else what == "is a pickle"


def test_what_is_harmless_is_not(tmp_path: Path) -> None:
    skops.io.dump(DecisionTreeRegressor().fit([[1.0], [2.0]], [1.0, 2.0]), tmp_path / "model.skops")
    np.save(tmp_path / "rows.npy", np.arange(3))
    (tmp_path / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("readme.txt", "text")
    assert list(dangerous_files(tmp_path)) == []
