"""scikit-learn estimators and pipelines, from .skops, and from pickle or joblib if somebody trusts the file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import onnx
import pandas as pd
import skl2onnx
import skops.io
from numpy.typing import NDArray
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator, is_classifier, is_regressor

from taxiway.convert.foreign import MATRIX, Column, Export, Rows
from taxiway.convert.frameworks import sklearn_trees, sklearn_wrappers
from taxiway.convert.frameworks.sklearn_rows import make_samples, text_columns
from taxiway.convert.mending import give_ties_to_the_first, mend_trees, write_out_imputers
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.core.tensors import Datatype

_OPSETS: Final = {"": 17, "ai.onnx.ml": 3}
_HARMLESS: Final = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",  # their indexes are checked ...
        "sklearn.tree._tree.Tree",  # ... before they are asked anything
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRegressor",
    }
)


@dataclass(frozen=True)
class SklearnModel:
    """A fitted estimator. `columns` are one matrix, or the columns that a ColumnTransformer selects by name."""

    estimator: Any
    columns: tuple[Column, ...]
    outputs: Mapping[str, int | None]
    framework = "scikit-learn"
    converter = "skl2onnx"
    datatypes = (Datatype.FP32, Datatype.FP64)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Also those of a wrapped booster."""
        return ("scikit-learn", "skl2onnx", *sklearn_wrappers.libraries(self._last))

    @cached_property
    def _last(self) -> Any:  # noqa: ANN401 - any estimator
        return self.estimator.steps[-1][1] if hasattr(self.estimator, "steps") else self.estimator

    def answer(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """As the estimator predicts, on a matrix or on a frame of named columns."""
        given = self._given(rows)
        predicted = np.asarray(self.estimator.predict(given))
        if "prediction" in self.outputs:
            return {"prediction": predicted.reshape(len(predicted), -1)}
        if "probabilities" in self.outputs:
            return {"label": predicted, "probabilities": np.asarray(self.estimator.predict_proba(given))}
        scores = np.asarray(self.estimator.decision_function(given))
        return {"label": predicted, "scores": np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores}

    def _given(self, rows: Rows) -> Any:  # noqa: ANN401 - an array or a frame
        if MATRIX in rows and len(self.columns) == 1:
            return rows[MATRIX]
        return pd.DataFrame({name: values.reshape(-1) for name, values in rows.items()})

    def samples(self, datatype: Datatype, chance: np.random.Generator) -> Samples:
        """Rows at the splits of its trees, or where its data lay."""
        return make_samples(self, self.estimator, datatype, chance)

    def export(self, datatype: Datatype) -> Export:
        """By skl2onnx, which forgets where trees send missing values: that is mended."""
        sklearn_wrappers.register(self._last)
        numbers = FloatTensorType if datatype is Datatype.FP32 else DoubleTensorType
        types = [
            (column.name, StringTensorType([None, 1]) if column.is_text else numbers([None, column.width]))
            for column in self.columns
        ]
        model = skl2onnx.to_onnx(
            self.estimator, initial_types=types, options=self._options(), target_opset=dict(_OPSETS)
        )
        return Export(model, self._mend(model, datatype))

    def _mend(self, model: onnx.ModelProto, datatype: Datatype) -> tuple[str, ...]:
        trees = sklearn_trees.trees_of(self._last)
        mended = mend_trees(model, trees, sklearn_trees.compares(self._last), datatype)
        if sklearn_trees.native_trees(self._last) and "probabilities" in self.outputs:
            mended += give_ties_to_the_first(model)
        if datatype is Datatype.FP64:
            mended += write_out_imputers(model)
        return mended

    def _options(self) -> dict[int, dict[str, Any]] | None:
        if "prediction" in self.outputs:
            return None
        options: dict[str, Any] = {"zipmap": False}
        if "scores" in self.outputs:
            options["raw_scores"] = True
        return {id(self.estimator): options}


def load(path: Path, trusted_digest: str | None) -> SklearnModel:
    """Read an estimator; the bytes whose digest is checked are the bytes that are read.

    Raises:
        Refused: nobody trusts a file that has to be, it is not one, or not one of an estimator that can be served.
    """
    content = path.read_bytes()
    is_trusted = trusted_digest is not None and hashlib.sha256(content).hexdigest() == trusted_digest.lower()
    read = _read_skops if path.suffix.lower() == ".skops" else _read_pickle
    estimator = read(content, path.name, is_trusted)
    if not isinstance(estimator, BaseEstimator):
        raise Refused(Reason.UNSUPPORTED, f"{path.name} holds a {type(estimator).__name__}, not an estimator")
    sklearn_trees.check(estimator)
    return SklearnModel(estimator, _columns(estimator), _outputs(estimator))


def _read_skops(content: bytes, name: str, is_trusted: bool) -> Any:  # noqa: ANN401 - any object
    try:
        unknown = skops.io.get_untrusted_types(data=content)
    except Exception as problem:
        raise Refused(Reason.UNREADABLE, f"skops cannot read {name}: {problem}") from problem
    foreign = sorted(set(unknown) - _HARMLESS)
    if foreign and not is_trusted:
        what = f"{name} builds {', '.join(foreign)}, which nobody trusts"
        raise Refused(Reason.UNTRUSTED, what, _how_to_trust(content))
    try:
        return skops.io.loads(content, trusted=unknown)
    except Exception as problem:
        raise Refused(Reason.UNREADABLE, f"skops cannot read {name}: {problem}") from problem


def _read_pickle(content: bytes, name: str, is_trusted: bool) -> Any:  # noqa: ANN401 - any object
    if not is_trusted:
        raise Refused(Reason.UNTRUSTED, f"{name} is a pickle, which runs code when it is read", _how_to_trust(content))
    try:
        return joblib.load(io.BytesIO(content))
    except Exception as problem:
        raise Refused(Reason.UNREADABLE, f"{name} cannot be unpickled: {problem!r}") from problem


def _how_to_trust(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return f"if you know who wrote it, trust its SHA-256 {digest}; or save the model with skops.io.dump"


def _columns(estimator: Any) -> tuple[Column, ...]:  # noqa: ANN401 - any estimator
    text = text_columns(estimator)
    if text is None:
        return (Column(MATRIX, int(estimator.n_features_in_)),)
    return tuple(Column(str(name), is_text=name in text) for name in estimator.feature_names_in_)


def _outputs(estimator: Any) -> Mapping[str, int | None]:  # noqa: ANN401 - any estimator
    if is_classifier(estimator):
        classes = getattr(estimator, "classes_", None)
        if not isinstance(classes, np.ndarray):
            raise Refused(Reason.UNSUPPORTED, f"{type(estimator).__name__} predicts several labels at once")
        if hasattr(estimator, "predict_proba"):
            return {"label": None, "probabilities": len(classes)}
        return {"label": None, "scores": len(classes)}
    if is_regressor(estimator):
        return {"prediction": sklearn_trees.targets(estimator)}
    raise Refused(
        Reason.UNSUPPORTED,
        f"{type(estimator).__name__} is neither a classifier nor a regressor",
        "the native library serves it",
    )
