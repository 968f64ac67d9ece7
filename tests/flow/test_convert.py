"""Real models of every framework that is converted: the artifact answers as the framework does, or there is none."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, Normalizer, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from tests.support import framework_models as models

from taxiway.convert import Converted, NotConverted, Reason, Request
from taxiway.convert.attempts import convert, prove
from taxiway.convert.frameworks import load
from taxiway.convert.outcome import Outcome
from taxiway.core.tensors import Datatype
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the child: frameworks and exporters warn of each other's ages


def converted(source: Path, **wishes: Any) -> Outcome:
    """Convert within this process: an import of every framework costs seconds, and the child is tried by itself."""
    return convert(Request(source=str(source), target=str(source.with_suffix(".onnx")), **wishes), lambda _: None)


def success(source: Path, **wishes: Any) -> Converted:
    outcome = converted(source, **wishes)
    assert isinstance(outcome, Converted), outcome.message
    return outcome


def failure(source: Path, **wishes: Any) -> NotConverted:
    outcome = converted(source, **wishes)
    assert isinstance(outcome, NotConverted)
    return outcome


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved(estimator: Any, folder: Path) -> Path:
    skops.io.dump(estimator, folder / "model.skops")
    return folder / "model.skops"


def session(outcome: Converted) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(outcome.target)


# --- each framework ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.SKLEARN)
def test_an_estimator_or_pipeline_of_scikit_learn(name: str, tmp_path: Path) -> None:
    outcome = success(saved(models.SKLEARN[name](), tmp_path))
    assert outcome.parity.holds
    assert outcome.parity.batches[0] == 1
    assert [tensor.name for tensor in outcome.outputs] in (["label", "probabilities"], ["prediction"])


@pytest.mark.parametrize("name", models.HISTOGRAMS)
def test_histogram_boosting(name: str, tmp_path: Path) -> None:
    outcome = success(saved(models.HISTOGRAMS[name](), tmp_path))
    assert outcome.parity.holds
    wanted = min(outcome.parity.splits_in_all, 800)
    rounded = 1 if name == "behind a scaler" else 0  # a row that was scaled back and forth may pass an edge
    assert wanted - rounded <= outcome.parity.splits <= wanted
    assert outcome.parity.splits > 0


def test_categories_go_where_the_framework_sends_them(tmp_path: Path) -> None:
    """Every category known, unknown ones of every kind, and none."""
    estimator = models.histogram_of_categories(4)
    rows = np.repeat(models.with_categories(4)[0][:40], 8, axis=0).astype(np.float32)
    rows[:, 1] = np.tile([0.0, 4.0, 11.0, 12.0, -1.0, 4.5, 300.0, np.nan], 40)
    rows[:, 3] = np.random.default_rng(1).choice([3.0, 7.0, -2.0, 100.5, 8.0, np.nan], len(rows))
    labels, chances = session(success(saved(estimator, tmp_path))).run(["label", "probabilities"], {"X": rows})
    assert labels.tolist() == estimator.predict(rows).tolist()
    np.testing.assert_allclose(chances, estimator.predict_proba(rows), rtol=1e-5, atol=1e-7)


def test_categories_of_text_are_refused_with_what_to_do(tmp_path: Path) -> None:
    frame, targets = models.wine_frame()
    frame["region"] = frame["region"].astype("category")
    estimator = HistGradientBoostingClassifier(max_iter=4, categorical_features=["region"]).fit(frame, targets)
    outcome = failure(saved(estimator, tmp_path))
    assert outcome.reason is Reason.UNSUPPORTED
    assert "categories of text" in outcome.message
    assert "OrdinalEncoder" in outcome.hint


@pytest.mark.parametrize("data", ["breast_cancer", "digits", "diabetes"])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_a_booster(library: str, data: str, tmp_path: Path) -> None:
    outcome = success(models.boosted(library, data, tmp_path))
    assert outcome.parity.splits == min(outcome.parity.splits_in_all, 800)
    assert outcome.parity.origins["missing at a split"] >= outcome.parity.splits
    assert [(t.name, t.datatype, t.shape[0]) for t in outcome.inputs] == [("X", "FP32", -1)]
    assert outcome.versions[library if library != "xgboost" else "xgboost-cpu"]


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_a_booster_that_learnt_of_missing_values(library: str, tmp_path: Path) -> None:
    assert success(models.boosted(library, "diabetes", tmp_path, gaps=True)).parity.holds


def test_trees_after_the_best_one_of_an_estimator_that_stopped_early_are_left_out(tmp_path: Path) -> None:
    estimator = models.stopped_early("gbtree", tmp_path / "model.ubj")
    rows = models.table("diabetes")[0].astype(np.float32)
    (predicted,) = session(success(tmp_path / "model.ubj")).run(["prediction"], {"X": rows})
    np.testing.assert_allclose(predicted.ravel(), estimator.predict(rows), rtol=1e-5)


def test_the_artifact_is_what_its_report_says(tmp_path: Path) -> None:
    estimator = models.forest("wine")
    outcome = success(saved(estimator, tmp_path))
    rows, _ = models.table("wine")
    labels, probabilities = session(outcome).run(["label", "probabilities"], {"X": rows.astype(np.float32)})
    assert labels.tolist() == estimator.predict(rows).tolist()
    np.testing.assert_allclose(probabilities, estimator.predict_proba(rows), rtol=1e-5, atol=1e-7)
    assert outcome.digest == digest(Path(outcome.target))
    assert outcome.opsets == {
        entry.domain or "ai.onnx": entry.version for entry in onnx.load(outcome.target).opset_import
    }
    assert outcome.inputs == (type(outcome.inputs[0])("X", "FP32", (-1, 13)),)
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome


def test_columns_of_different_types_are_inputs_of_their_own(tmp_path: Path) -> None:
    outcome = success(saved(models.SKLEARN["columns and logistic regression"](), tmp_path))
    assert {tensor.name: tensor.datatype for tensor in outcome.inputs} == {
        "alcohol": "FP32", "malic": "FP32", "ash": "FP32", "region": "BYTES",
    }  # fmt: skip
    assert outcome.outputs[0].datatype == "BYTES"
    assert set(outcome.parity.origins) == {"plausible", "with missing values"}


# --- where float32 is not enough -----------------------------------------------------------------------


def test_trees_behind_a_scaler_get_float64_inputs(tmp_path: Path) -> None:
    """A scaled value that float32 rounds otherwise goes the other way at a split: the rows find it."""
    pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(12, random_state=0)).fit(*models.table("diabetes"))
    outcome = success(saved(pipeline, tmp_path))
    assert [tensor.datatype for tensor in outcome.inputs] == ["FP64"]
    assert [(attempt.datatype, attempt.parity is not None) for attempt in outcome.attempts] == [("FP32", True)]


def test_named_columns_into_trees_get_float64_inputs(tmp_path: Path) -> None:
    outcome = success(saved(models.column_pipeline(RandomForestClassifier(8, random_state=0)), tmp_path))
    assert {tensor.datatype for tensor in outcome.inputs} == {"FP64", "BYTES"}
    assert 0.98 * outcome.parity.splits_in_all < outcome.parity.splits <= outcome.parity.splits_in_all


@pytest.mark.parametrize("step", [Normalizer(), Binarizer(threshold=2.0)])
def test_splits_behind_a_step_without_a_way_back_count_as_far_as_rows_divide_them(step: Any, tmp_path: Path) -> None:
    """Its columns are made up, so that most rows come somewhere else than they were made for."""
    forest = RandomForestClassifier(8, random_state=0)
    pipeline = make_pipeline(ColumnTransformer([("step", step, list(range(13)))]), forest).fit(*models.table("wine"))
    samples = load(saved(pipeline, tmp_path), None).samples(Datatype.FP64, np.random.default_rng(0))
    forward = pipeline[:-1].transform(samples.rows["X"]).astype(np.float32)
    paths = [tree.decision_path(forward).toarray().astype(bool) for tree in forest]
    both = sum(
        int(path[:, tree.tree_.children_left[node]].any() and path[:, tree.tree_.children_right[node]].any())
        for tree, path in zip(forest, paths, strict=True)
        for node in np.flatnonzero(tree.tree_.children_left >= 0)
    )
    assert samples.splits == both < samples.splits_in_all


def test_thresholds_that_only_float64_tells_apart(tmp_path: Path) -> None:
    rows = 1.0 + np.arange(400.0).reshape(-1, 1) * 1e-11
    booster = lightgbm.train(
        {"objective": "regression", "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5},
        lightgbm.Dataset(rows, np.arange(400.0) % 37),
        5,
    )
    booster.save_model(tmp_path / "model.txt")
    outcome = success(tmp_path / "model.txt")
    assert [tensor.datatype for tensor in outcome.inputs] == ["FP64"]
    assert outcome.attempts[0].parity is not None
    assert outcome.attempts[0].parity.worst is not None


def test_where_no_inputs_keep_the_parity_there_is_no_artifact(tmp_path: Path) -> None:
    """Leaves beyond what float32 outputs hold: a tree ensemble of ONNX has no others."""
    rows = np.arange(64.0).reshape(-1, 1)
    tree = DecisionTreeRegressor(random_state=0).fit(rows, np.where(rows[:, 0] % 2, 1e300, -1e300))
    outcome = failure(saved(tree, tmp_path))
    assert outcome.reason is Reason.PARITY_FAILED
    assert outcome.attempts[0].parity is not None
    worst = outcome.attempts[0].parity.worst
    assert worst is not None
    assert (worst.output, worst.expected, worst.got) in (("prediction", 1e300, "inf"), ("prediction", -1e300, "-inf"))


# --- rows of the user's --------------------------------------------------------------------------------


def test_rows_of_the_users_are_the_ones_compared(tmp_path: Path) -> None:
    rows, _ = models.table("wine")
    np.save(tmp_path / "rows.npy", rows[:50])
    outcome = success(saved(models.forest("wine"), tmp_path), samples=str(tmp_path / "rows.npy"))
    assert outcome.parity.origins == {"given": 50}
    assert outcome.parity.batches == (1, 7, 50)


def test_rows_that_the_framework_refuses_are_bad_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.full((2, 10), np.nan))
    outcome = failure(saved(models.SKLEARN["boosted regressor"](), tmp_path), samples=str(tmp_path / "rows.npy"))
    assert outcome.reason is Reason.BAD_SAMPLES
    assert "NaN" in outcome.message


# --- exports that are wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["threshold", "leaf", "missing", "swapped"])
def test_a_tampered_artifact_is_found_out(harm: str, tmp_path: Path) -> None:
    source = saved(models.forest("breast_cancer"), tmp_path)
    artifact = onnx.load(success(source).target)
    attributes = {entry.name: entry for node in artifact.graph.node for entry in node.attribute}
    if harm == "threshold":
        attributes["nodes_values"].floats[:] = [value * (1.0 + 1e-6) for value in attributes["nodes_values"].floats]
    elif harm == "leaf":
        attributes["class_weights"].floats[5] += 1e-3
    elif harm == "missing":
        attributes["nodes_missing_value_tracks_true"].ints[0] ^= 1
    else:
        true, false = attributes["nodes_truenodeids"].ints, attributes["nodes_falsenodeids"].ints
        true[0], false[0] = false[0], true[0]
    onnx.save(artifact, tmp_path / "tampered.onnx")
    model = load(source, None)
    samples = model.samples(Datatype.FP32, np.random.default_rng(0))
    loaded = OnnxRuntime().load(tmp_path / "tampered.onnx", OnnxOptions())
    parity = prove(model, loaded, Datatype.FP32, samples)
    assert not parity.holds
    assert parity.worst is not None


# --- what may not be read, or not be converted ---------------------------------------------------------


class Harmful:
    """Says on the disk that it was unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_not_read_until_it_is_trusted(tmp_path: Path) -> None:
    source, mark = tmp_path / "model.pkl", tmp_path / "ran"
    source.write_bytes(pickle.dumps(Harmful(mark)))
    for trusted in (None, "0" * 64):
        outcome = failure(source, trusted_digest=trusted)
        assert outcome.reason is Reason.UNTRUSTED
        assert digest(source) in outcome.hint
    assert not mark.exists()
    assert failure(source, trusted_digest=digest(source)).reason is Reason.UNSUPPORTED
    assert mark.exists()


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_a_trusted_pickle_is_converted(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    joblib.dump(models.forest("wine"), source)
    assert success(source, trusted_digest=digest(source)).parity.holds


def test_a_type_that_nobody_trusts_is_not_built(tmp_path: Path) -> None:
    skops.io.dump(Harmful(tmp_path / "ran"), tmp_path / "model.skops")
    outcome = failure(tmp_path / "model.skops")
    assert outcome.reason is Reason.UNTRUSTED
    assert "Harmful" in outcome.message


def test_a_tree_whose_branch_leads_nowhere_is_not_asked(tmp_path: Path) -> None:
    forest = models.forest("wine")
    state = forest.estimators_[0].tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"]["left_child"][0] = 100_000
    forest.estimators_[0].tree_.__setstate__(state)
    outcome = failure(saved(forest, tmp_path))
    assert outcome.reason is Reason.UNREADABLE
    assert "leads nowhere" in outcome.message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.skops", Reason.UNREADABLE),
        ("model.json", Reason.UNREADABLE),
        ("model.ubj", Reason.UNREADABLE),
        ("model.txt", Reason.UNREADABLE),
        ("model.cbm", Reason.UNREADABLE),
        ("model.h5", Reason.UNSUPPORTED),
    ],
)
def test_a_file_that_is_not_what_its_name_says(name: str, reason: Reason, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    assert failure(tmp_path / name).reason is reason


@pytest.mark.parametrize("kind", ["dart", "gblinear"])
def test_a_kind_of_booster_that_the_exporter_does_not_know_is_named(kind: str, tmp_path: Path) -> None:
    models.stopped_early(kind, tmp_path / "model.ubj")
    outcome = failure(tmp_path / "model.ubj")
    assert outcome.reason is Reason.UNSUPPORTED
    assert kind in outcome.message


def test_an_estimator_without_answers_is_not_converted(tmp_path: Path) -> None:
    scaler = StandardScaler().fit(models.table("wine")[0])
    outcome = failure(saved(scaler, tmp_path))
    assert outcome.reason is Reason.UNSUPPORTED
    assert "StandardScaler is neither a classifier nor a regressor" in outcome.message
