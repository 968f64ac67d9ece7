"""What a model answers is what CatBoost's own classifier answers, whatever it was trained to minimise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import framework_models as models

from taxiway.convert import NotConverted, Request, to_onnx
from taxiway.convert.outcome import Reason
from taxiway.runtimes.hosted.guests.catboost import load
from taxiway.runtimes.hosted.tabular import LABEL, MATRIX, PROBABILITIES

ROWS, KINDS = models.table("wine")
BINARY = (KINDS > 0).astype(int)
SEVERAL = np.stack([KINDS > 0, KINDS == 1, KINDS == 0], axis=1).astype(int)


def trained(loss: str, targets: NDArray[Any], path: Path) -> Any:
    model = catboost.CatBoostClassifier(
        iterations=5, depth=3, loss_function=loss, verbose=0, thread_count=1, allow_writing_files=False
    )
    model.fit(ROWS, targets).save_model(str(path))
    return model


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("Logloss", BINARY),
        ("Focal:focal_alpha=0.5;focal_gamma=1", BINARY),
        ("MultiClass", KINDS),
        ("MultiLogloss", SEVERAL),
        ("MultiCrossEntropy", SEVERAL),
    ],
)
def test_a_classifier(loss: str, targets: NDArray[Any], tmp_path: Path) -> None:
    classifier = trained(loss, targets, tmp_path / "model.cbm")
    model = load(tmp_path / "model.cbm")
    answered = model.answer({MATRIX: ROWS}, (LABEL, PROBABILITIES))
    np.testing.assert_array_equal(
        answered[LABEL].reshape(targets.shape), classifier.predict(ROWS).reshape(targets.shape)
    )
    np.testing.assert_allclose(answered[PROBABILITIES], classifier.predict_proba(ROWS), rtol=1e-9)
    assert {one.name: one.shape[1:] for one in model.outputs} == {
        LABEL: targets.shape[1:], PROBABILITIES: answered[PROBABILITIES].shape[1:],
    }  # fmt: skip


def test_one_of_several_labels_is_not_converted(tmp_path: Path) -> None:
    trained("MultiLogloss", SEVERAL, tmp_path / "model.cbm")
    outcome = to_onnx(Request(source=str(tmp_path / "model.cbm"), target=str(tmp_path / "model.onnx")))
    assert isinstance(outcome, NotConverted)
    assert outcome.reason is Reason.UNSUPPORTED
    assert "several labels" in outcome.message
