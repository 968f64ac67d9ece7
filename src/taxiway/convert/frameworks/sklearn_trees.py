"""The trees inside scikit-learn's estimators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.convert.frameworks import sklearn_wrappers
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.trees import LEAF, Tree
from taxiway.core.tensors import Datatype


def native_trees(estimator: Any) -> list[Any]:  # noqa: ANN401 - any estimator
    """The `sklearn.tree._tree.Tree`s of a tree or a forest, in order; none of anything else."""
    if hasattr(estimator, "tree_"):
        return [estimator.tree_]
    members = list(np.ravel(getattr(estimator, "estimators_", [])))
    if (
        members
        and all(hasattr(member, "tree_") for member in members)
        and not hasattr(estimator, "estimators_features_")
    ):
        return [member.tree_ for member in members]
    return []


def trees_of(estimator: Any) -> list[Tree]:  # noqa: ANN401 - any estimator
    """Its trees in the form that rows are made from, in the order in which they are exported."""
    if hasattr(estimator, "_predictors"):
        return [_histogram_tree(grown) for iteration in estimator._predictors for grown in iteration]
    return [_tree(tree) for tree in native_trees(estimator)] or sklearn_wrappers.trees_of(estimator)


def every_tree(estimator: Any, width: int) -> list[Tree]:  # noqa: ANN401 - any estimator
    """The trees of an estimator that holds others (a vote, a stack, a calibration), which see all its features."""
    return [_tree(tree) for tree in _nested(estimator, _is_tree, {}) if tree.n_features == width]


def compares(estimator: Any) -> Datatype:  # noqa: ANN401 - any estimator
    """As what the trees compare values: scikit-learn's and XGBoost's cast them to float32 first."""
    is_histogram = hasattr(estimator, "_predictors")
    return Datatype.FP64 if is_histogram or sklearn_wrappers.compares_float64(estimator) else Datatype.FP32


def _tree(tree: Any) -> Tree:  # noqa: ANN401 - sklearn.tree._tree.Tree
    is_leaf = tree.children_left < 0
    return Tree(
        feature=np.where(is_leaf, LEAF, tree.feature).astype(np.intp),
        threshold=np.where(is_leaf, 0.0, tree.threshold),
        left=tree.children_left.astype(np.intp),
        right=tree.children_right.astype(np.intp),
        missing_left=tree.missing_go_to_left.astype(bool),
    )


def _histogram_tree(grown: Any) -> Tree:  # noqa: ANN401 - sklearn's TreePredictor
    nodes = grown.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=np.where(is_leaf, LEAF, nodes["feature_idx"].astype(np.intp)),
        threshold=np.where(is_leaf, 0.0, nodes["num_threshold"]),
        left=nodes["left"].astype(np.intp),
        right=nodes["right"].astype(np.intp),
        missing_left=nodes["missing_go_to_left"].astype(bool),
    )


def targets(estimator: Any) -> int:  # noqa: ANN401 - any estimator
    """How many numbers a regressor predicts for a row."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if hasattr(last, "n_outputs_"):
        return int(last.n_outputs_)
    coefficients = np.asarray(getattr(last, "coef_", 0.0)) if sklearn_wrappers.is_native(last) else np.empty(())
    return int(coefficients.shape[0]) if coefficients.ndim == 2 else 1


def check(estimator: Any) -> None:  # noqa: ANN401 - any estimator
    """Refuse trees whose indexes point outside: native code follows them without looking.

    Raises:
        Refused: a tree was tampered with.
    """
    for tree in _nested(estimator, _is_tree, {}):
        _check_indexes(
            tree.children_left != LEAF, (tree.children_left, tree.children_right), tree.feature, tree.n_features
        )
    for grown in _nested(estimator, _is_histogram_tree, {}):
        nodes = grown.nodes
        if nodes["is_categorical"].any():
            raise Refused(Reason.UNSUPPORTED, "the model splits on categories, which inputs of numbers do not carry")
        width = int(estimator.n_features_in_)
        _check_indexes(nodes["is_leaf"] == 0, (nodes["left"], nodes["right"]), nodes["feature_idx"], width)


def _check_indexes(
    inner: NDArray[np.bool_], children: tuple[NDArray[Any], NDArray[Any]], features: NDArray[Any], width: int
) -> None:
    parents = np.flatnonzero(inner)
    for side in children:
        if ((side[inner].astype(np.int64) <= parents) | (side[inner] >= len(inner))).any():
            raise Refused(Reason.UNREADABLE, "a decision tree in the file has a branch that leads nowhere")
    if ((features[inner] < 0) | (features[inner] >= width)).any():
        raise Refused(Reason.UNREADABLE, "a decision tree in the file asks for a feature that no row has")


def _is_tree(found: Any) -> bool:  # noqa: ANN401 - any object
    return type(found).__name__ == "Tree" and hasattr(found, "children_left")


def _is_histogram_tree(found: Any) -> bool:  # noqa: ANN401 - any object
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
