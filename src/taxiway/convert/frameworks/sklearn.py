"""scikit-learn estimators and pipelines, from .skops, and from pickle or joblib if somebody trusts the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import skl2onnx
from numpy.typing import NDArray
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.base import is_classifier, is_regressor

from taxiway.convert.foreign import Export, Rows, answers, widths
from taxiway.convert.frameworks import sklearn_histogram, sklearn_trees, sklearn_wrappers
from taxiway.convert.frameworks.sklearn_rows import make_samples
from taxiway.convert.mending import give_ties_to_the_first, mend_members, mend_trees, write_out_imputers
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guests import sklearn as hosted
from taxiway.runtimes.hosted.tabular import Column

_OPSETS: Final = {"": 17, "ai.onnx.ml": 3}


@dataclass(frozen=True)
class SklearnModel:
    """A fitted estimator. Its columns are one matrix, or those that a ColumnTransformer selects by name."""

    table: hosted.Estimator
    framework = "scikit-learn"
    converter = "skl2onnx"
    datatypes = (Datatype.FP32, Datatype.FP64)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Also those of a wrapped booster."""
        return ("scikit-learn", "skl2onnx", *sklearn_wrappers.libraries(self._last))

    @cached_property
    def _last(self) -> Any:  # noqa: ANN401 - any estimator
        return hosted.steps_of(self.table.estimator)[-1]

    @property
    def columns(self) -> Sequence[Column]:
        """One matrix, or named columns."""
        return self.table.columns

    @property
    def outputs(self) -> Mapping[str, int | None]:
        """A label with probabilities or scores, or a prediction."""
        return widths(self.table)

    def answer(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """As it is hosted."""
        return answers(self.table, rows)

    def samples(self, datatype: Datatype, chance: np.random.Generator) -> Samples:
        """Rows at the splits of its trees, or where its data lay."""
        return make_samples(self, self.table, datatype, chance)

    def export(self, datatype: Datatype) -> Export:
        """By skl2onnx, which forgets where trees send missing values: that is mended. Histogram boosting is ours."""
        sklearn_wrappers.register(self._last)
        sklearn_histogram.register()
        if hasattr(self._last, "flatten_transform"):  # says what `transform` returns, which nobody asks here
            self._last.flatten_transform = False
        numbers = FloatTensorType if datatype is Datatype.FP32 else DoubleTensorType
        types = [
            (column.name, StringTensorType([None, 1]) if column.is_text else numbers([None, column.width]))
            for column in self.columns
        ]
        model = skl2onnx.to_onnx(
            self.table.estimator, initial_types=types, options=self._options(), target_opset=dict(_OPSETS)
        )
        return Export(model, self._mend(model, datatype))

    def _mend(self, model: onnx.ModelProto, datatype: Datatype) -> tuple[str, ...]:
        trees = sklearn_trees.trees_of(self._last)
        mended = mend_trees(model, trees, sklearn_trees.compares(self._last), datatype)
        if not trees:
            members = sklearn_trees.members_of(self._last)
            told = [(sklearn_trees.trees_of(member), sklearn_trees.compares(member)) for member in members]
            mended += mend_members(model, told, datatype)
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
        return {id(self.table.estimator): options}


def load(path: Path, trusted: Collection[str]) -> SklearnModel:
    """Read an estimator.

    Raises:
        UntrustedPickle, InvalidModel, Unsupported: as if it were to be hosted.
        Refused: it is nothing that an artifact could be compared with.
    """
    table = hosted.load(path, trusted)
    kind = type(table.estimator).__name__
    if not (is_classifier(table.estimator) or is_regressor(table.estimator)):
        what = f"{kind} is neither a classifier nor a regressor"
        raise Refused(Reason.UNSUPPORTED, what, "the native library serves it")
    if widths(table).get("label") is not None:
        raise Refused(Reason.UNSUPPORTED, f"{kind} predicts several labels at once", "the native library serves it")
    model = SklearnModel(table)
    sklearn_trees.trees_of(model._last)  # refuses what is no threshold on a number
    return model
