"""What a booster answers is what XGBoost's own estimator answers, whatever kind it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xgboost
from tests.support import framework_models as models

from taxiway.runtimes.hosted.guests.xgboost import load
from taxiway.runtimes.hosted.tabular import MATRIX, PREDICTION, PROBABILITIES

ROWS = models.table("diabetes")[0].astype(np.float32)


def predicted(path: Path) -> np.ndarray:
    return load(path).answer({MATRIX: ROWS}, (PREDICTION,))[PREDICTION].ravel()


@pytest.mark.parametrize("kind", ["gbtree", "dart", "gblinear"])
def test_an_estimator_that_stopped_early(kind: str, tmp_path: Path) -> None:
    estimator = models.stopped_early(kind, tmp_path / "model.ubj")
    np.testing.assert_array_equal(predicted(tmp_path / "model.ubj"), estimator.predict(ROWS))


def test_a_booster_that_stopped_early_and_was_saved_as_one_has_all_its_trees(tmp_path: Path) -> None:
    booster = models.stopped_early("gbtree", tmp_path / "estimator.ubj").get_booster()
    assert booster.attr("best_iteration") is not None
    booster.save_model(tmp_path / "model.ubj")
    np.testing.assert_array_equal(predicted(tmp_path / "model.ubj"), booster.predict(xgboost.DMatrix(ROWS)))


def test_a_linear_classifier(tmp_path: Path) -> None:
    features, targets = models.table("wine")
    estimator = xgboost.XGBClassifier(n_estimators=3, booster="gblinear").fit(features, targets)
    estimator.save_model(tmp_path / "model.ubj")
    answered = load(tmp_path / "model.ubj").answer({MATRIX: features}, (PROBABILITIES,))
    np.testing.assert_allclose(answered[PROBABILITIES], estimator.predict_proba(features), rtol=1e-6)
