"""scikit-learn: an estimator or pipeline in skops' format, or in a pickle that somebody vouched for."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_classifier, is_regressor

from taxiway.core.errors import InvalidModel, Unsupported, UntrustedPickle
from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.built_types import HARMLESS, unknown_types
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.tabular import LABEL, MATRIX, PREDICTION, PROBABILITIES, RAW, SCORES, Column, open_table
from taxiway.runtimes.hosted.tensors import datatype_of

_NO_BRANCH = -1


@dataclass(frozen=True)
class Estimator:
    """A fitted estimator that takes one matrix, or the columns that a ColumnTransformer selects by name."""

    estimator: Any
    columns: Sequence[Column]
    outputs: Sequence[Declared]
    raw: Declared

    def answer(self, rows: Arrays, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
        """As the estimator predicts."""
        given = self.given(rows)
        answers: dict[str, NDArray[Any]] = {}
        if not {RAW, LABEL, PREDICTION}.isdisjoint(wanted):
            predicted = _predicted(self.estimator, given)
            answers |= {RAW: predicted, LABEL: predicted, PREDICTION: predicted.reshape(len(predicted), -1)}
        if PROBABILITIES in wanted:
            answers[PROBABILITIES] = np.asarray(self.estimator.predict_proba(given))
        if SCORES in wanted:
            scores = np.asarray(self.estimator.decision_function(given))
            answers[SCORES] = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
        return answers

    def given(self, rows: Arrays) -> Any:  # noqa: ANN401 - an array or a frame
        """The rows in the form that the estimator was fitted on."""
        if self.columns[0].name == MATRIX:
            return rows[MATRIX]
        import pandas as pd  # noqa: PLC0415 - only who selects columns by name has to have it

        return pd.DataFrame({name: values.reshape(-1) for name, values in rows.items()})


def load(path: Path, trusted: Collection[str]) -> Estimator:
    """Read an estimator; the bytes whose digest is checked are the bytes that are read.

    Raises:
        UntrustedPickle: reading it could run code, and nobody vouched for it.
        InvalidModel: it is not what its name says, or was tampered with.
        Unsupported: it holds no estimator.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    read = _read_skops if path.suffix.lower() == ".skops" else _read_pickle
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions that differ: the log of a server is no place for each load's
        estimator = read(content, path, digest in trusted, f"sha256:{digest}")
    if not isinstance(estimator, BaseEstimator):
        raise Unsupported(f"{path} holds a {type(estimator).__name__}, not an estimator")
    check_trees(estimator)
    return describe(estimator)


def _read_skops(content: bytes, path: Path, is_trusted: bool, digest: str) -> Any:  # noqa: ANN401
    try:
        foreign = unknown_types(content)
    except Exception as problem:
        raise InvalidModel(f"skops cannot read {path}: {problem}", hint="save it anew: skops.io.dump") from problem
    if foreign and not is_trusted:
        raise UntrustedPickle(f"{path} builds {', '.join(foreign)}, which nobody trusts", hint=_how_to_trust(digest))
    try:
        return skops.io.loads(content, trusted=[*foreign, *HARMLESS])
    except Exception as problem:
        raise InvalidModel(f"skops cannot read {path}: {problem}", hint="save it anew: skops.io.dump") from problem


def _read_pickle(content: bytes, path: Path, is_trusted: bool, digest: str) -> Any:  # noqa: ANN401
    if not is_trusted:
        raise UntrustedPickle(f"{path} is a pickle, which runs code when it is read", hint=_how_to_trust(digest))
    import joblib  # noqa: PLC0415 - a model in skops' format does without

    try:
        return joblib.load(io.BytesIO(content))
    except Exception as problem:
        raise InvalidModel(f"{path} cannot be unpickled: {problem!r}") from problem


def _how_to_trust(digest: str) -> str:
    return f"save it with skops.io.dump; or, if you trust whoever made it: --models.trust '[\"{digest}\"]'"


# --- what it takes and answers -------------------------------------------------------------------------


def describe(estimator: Any) -> Estimator:  # noqa: ANN401 - any estimator
    """What goes in and comes out, as far as a fitted estimator tells."""
    columns = _columns(estimator)
    if is_classifier(estimator) and isinstance(getattr(estimator, "classes_", None), np.ndarray):
        classes = estimator.classes_
        label = Declared(LABEL, datatype_of(classes).wire_name, (-1,))
        more = PROBABILITIES if hasattr(estimator, "predict_proba") else SCORES
        outputs: Sequence[Declared] = (label, Declared(more, "FP64", (-1, len(classes))))
        return Estimator(estimator, columns, outputs, label._replace(name=RAW))
    one = _one_answer(estimator, columns)
    shape = (-1, *one.shape[1:])
    raw = Declared(RAW, datatype_of(one).wire_name, shape)
    if is_regressor(estimator) or not hasattr(estimator, "predict"):
        return Estimator(estimator, columns, (Declared(PREDICTION, raw.datatype, (-1, one.size)),), raw)
    return Estimator(estimator, columns, (raw._replace(name=LABEL),), raw)


def _one_answer(estimator: Any, columns: Sequence[Column]) -> NDArray[Any]:  # noqa: ANN401
    """What it says to a row of zeros: nothing else tells the shape of what it answers."""
    known = text_columns(estimator) or {}
    row = {
        one.name: np.array([[known[one.name]]], dtype=object) if one.is_text else np.zeros((1, one.width))
        for one in columns
    }
    blank = Declared(RAW, "FP64", (-1,))
    return Estimator(estimator, columns, (), blank).answer(row, (RAW,))[RAW]


def _predicted(estimator: Any, given: Any) -> NDArray[Any]:  # noqa: ANN401
    found = estimator.predict(given) if hasattr(estimator, "predict") else estimator.transform(given)
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found)


def _columns(estimator: Any) -> Sequence[Column]:  # noqa: ANN401
    texts = text_columns(estimator)
    if texts is None:
        return (Column(MATRIX, "FP64", int(estimator.n_features_in_)),)
    return [Column(str(name), "BYTES" if name in texts else "FP64") for name in estimator.feature_names_in_]


def text_columns(estimator: Any) -> dict[str, str] | None:  # noqa: ANN401
    """The named columns that hold text, each with one it knows; None if the estimator takes one matrix of numbers."""
    first = steps_of(estimator)[0]
    if not hasattr(estimator, "feature_names_in_") or not hasattr(first, "transformers_"):
        return None
    selected = [(transformer, names) for _, transformer, names in first.transformers_]
    if not any(isinstance(name, str) for _, names in selected for name in names):
        return None
    return {
        str(name): str(known[0])
        for transformer, names in selected
        for place, name in enumerate(names)
        if (known := categories_of(transformer, place)) is not None
    }


def steps_of(estimator: Any) -> list[Any]:  # noqa: ANN401
    """The steps of a pipeline that do something; an estimator by itself is its only one."""
    if not hasattr(estimator, "steps"):
        return [estimator]
    return [step for _, step in estimator.steps if step not in (None, "passthrough")]


def categories_of(transformer: Any, place: int) -> NDArray[Any] | None:  # noqa: ANN401
    """The texts that an encoder or imputer knows of its `place`th column; None if that holds numbers."""
    for step in steps_of(transformer):
        if hasattr(step, "categories_"):
            categories = np.asarray(step.categories_[place])
            return categories if categories.dtype.kind in "OUST" else None
        statistics = np.asarray(getattr(step, "statistics_", []))
        if statistics.dtype.kind in "OU" and isinstance(statistics[place], str) and len(steps_of(transformer)) == 1:
            return statistics[place : place + 1]
    return None


# --- trees, which native code follows without looking --------------------------------------------------


def check_trees(estimator: Any) -> None:  # noqa: ANN401
    """Refuse trees whose indexes point outside.

    Raises:
        InvalidModel: one was tampered with.
    """
    for tree in trees_within(estimator):
        sides = (tree.children_left, tree.children_right)
        _check_indexes(tree.children_left != _NO_BRANCH, sides, tree.feature, tree.n_features)
    for grown in _nested(estimator, _is_histogram_tree, {}):
        nodes = grown.nodes
        sides = (nodes["left"], nodes["right"])
        _check_indexes(nodes["is_leaf"] == 0, sides, nodes["feature_idx"], int(estimator.n_features_in_))
        categorical = nodes["is_categorical"] != 0
        if (nodes["bitset_idx"][categorical] >= len(grown.raw_left_cat_bitsets)).any():
            raise InvalidModel("a decision tree in the file asks for categories that it does not hold")


def trees_within(estimator: Any) -> Iterator[Any]:  # noqa: ANN401
    """Every `sklearn.tree._tree.Tree` anywhere in an estimator."""
    return _nested(estimator, _is_tree, {})


def _check_indexes(
    inner: NDArray[np.bool_], sides: tuple[NDArray[Any], NDArray[Any]], features: NDArray[Any], width: int
) -> None:
    parents = np.flatnonzero(inner)
    for side in sides:
        children = side[inner].astype(np.int64)
        if ((children <= parents) | (children >= len(inner))).any():
            raise InvalidModel("a decision tree in the file has a branch that leads nowhere")
    if ((features[inner] < 0) | (features[inner] >= width)).any():
        raise InvalidModel("a decision tree in the file asks for a feature that no row has")


def _is_tree(found: Any) -> bool:  # noqa: ANN401
    return type(found).__name__ == "Tree" and hasattr(found, "children_left")


def _is_histogram_tree(found: Any) -> bool:  # noqa: ANN401
    return type(found).__name__ == "TreePredictor"


def _nested(found: Any, is_wanted: Callable[[Any], bool], seen: dict[int, Any]) -> Iterator[Any]:  # noqa: ANN401
    """Every wanted object in what `found` holds; `seen` keeps what was looked at, so that no identity is used twice."""
    if id(found) in seen:
        return
    seen[id(found)] = found
    if is_wanted(found):
        yield found
    elif isinstance(found, np.ndarray) and found.dtype == object:
        yield from _nested(found.ravel().tolist(), is_wanted, seen)
    elif isinstance(found, (list, tuple, set)):
        for member in found:
            yield from _nested(member, is_wanted, seen)
    elif isinstance(found, dict):
        yield from _nested(list(found.values()), is_wanted, seen)
    elif hasattr(found, "get_params") and hasattr(found, "__dict__"):
        yield from _nested(list(vars(found).values()), is_wanted, seen)


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the estimator in the version's file."""
    return open_table(load(source.file, source.trusted), source, lines)
