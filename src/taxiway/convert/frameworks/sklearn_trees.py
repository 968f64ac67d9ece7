"""The trees inside scikit-learn's estimators."""

from __future__ import annotations

from typing import Any

import numpy as np

from taxiway.convert.frameworks import sklearn_wrappers
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.trees import LEAF, Tree
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guests import sklearn as hosted


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
    return [_tree(tree) for tree in hosted.trees_within(estimator) if tree.n_features == width]


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
    if nodes["is_categorical"].any():
        raise Refused(Reason.UNSUPPORTED, "the model splits on categories, which inputs of numbers do not carry")
    is_leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=np.where(is_leaf, LEAF, nodes["feature_idx"].astype(np.intp)),
        threshold=np.where(is_leaf, 0.0, nodes["num_threshold"]),
        left=nodes["left"].astype(np.intp),
        right=nodes["right"].astype(np.intp),
        missing_left=nodes["missing_go_to_left"].astype(bool),
    )
