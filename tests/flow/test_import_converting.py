"""What an import makes of models that could become ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from tests.support import foreign_models
from xgboost import XGBClassifier

from taxiway.config.model_config import parse_pbtxt
from taxiway.core.errors import AlreadyRegistered, InvalidArgument
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.converting import CONVERTIBLE, OnnxConverter
from taxiway.intake.report import format_report
from taxiway.intake.walk import Imported, Office, Wanted, import_models
from taxiway.registry.registry import Registry
from taxiway.runtimes.hosted.built_types import unknown_types


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}", str(tmp_path / "blobs")) as opened:
        yield opened


def take(source: Path, registry: Registry | None, samples: Path | None = None, **said: object) -> Imported:
    """Import one model with the converters in place."""
    wanted = Wanted(str(source), **{"actor": "tester", "why": "a test", "name": "model", **said})  # type: ignore[arg-type]
    office = Office(source.parent / "work", converters=dict.fromkeys(CONVERTIBLE, OnnxConverter(samples)))
    (imported,) = import_models(wanted, office, registry)
    return imported


def test_what_is_converted_is_served_as_onnx_and_keeps_its_original(tmp_path: Path, registry: Registry) -> None:
    source = foreign_models.xgboost_file(tmp_path / "anything.ubj")
    digest = f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    version = take(source, registry).version
    assert version is not None
    assert [entry.path for entry in version.manifest.files] == [
        "@/model.onnx", "@/original/anything.ubj", "config.pbtxt",
    ]  # fmt: skip
    assert version.facts["conversion"]["parity"]["labels_wrong"] == 0
    assert (version.framework, version.facts["backend"]) == ("xgboost", "onnxruntime")
    (edge,) = [step.edge for step in registry.why("model:1").lineage if step.edge.parent == digest]
    assert edge.facts["converter"] == "onnxmltools"
    with pytest.raises(AlreadyRegistered):  # the same model makes the same bytes
        take(source, registry)


def test_tensors_that_a_person_names_keep_a_model_as_it_is(tmp_path: Path, registry: Registry) -> None:
    source = foreign_models.xgboost_file(tmp_path / "model.ubj")
    specs = [TensorSpec(name, Datatype.FP32, (-1, width)) for name, width in (("input__0", 4), ("output__0", 3))]
    imported = take(source, registry, inputs=(specs[0],), outputs=(specs[1],))
    assert imported.model.backend == "xgboost"
    assert imported.model.conversion["reason"] == "tensors-named"
    config = parse_pbtxt(imported.config, "config.pbtxt")
    assert (config.max_batch_size, list(config.input[0].dims), list(config.output[0].dims)) == (4096, [4], [3])
    assert "converted  no, its own library serves it: --input" in format_report([imported])


def vote() -> Any:
    return VotingClassifier([("tree", DecisionTreeClassifier()), ("line", LogisticRegression())], voting="soft")


def categories() -> Any:
    return HistGradientBoostingClassifier(max_iter=2, categorical_features=[0])


@pytest.mark.parametrize("make", [vote, categories, lambda: XGBClassifier(n_estimators=2)])
def test_what_a_runtime_builds_unasked_is_imported_unasked(make: Callable[[], Any], tmp_path: Path) -> None:
    rows = np.arange(120, dtype=np.float64).reshape(40, 3) % 7
    skops.io.dump(make().fit(rows, rows[:, 0] > 3), tmp_path / "model.skops")
    assert unknown_types((tmp_path / "model.skops").read_bytes()) == []
    imported = take(tmp_path / "model.skops", None)
    assert imported.model.conversion["type"] == "converted", imported.model.conversion


@pytest.mark.slow
def test_samples_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = foreign_models.xgboost_file(tmp_path / "model.ubj")
    np.save(tmp_path / "rows.npy", np.zeros((2, 7)))
    with pytest.raises(InvalidArgument, match="rows of shape"):
        take(source, None, tmp_path / "rows.npy")
