"""The trees inside scikit-learn's estimators."""

from __future__ import annotations

from typing import Any

import numpy as np

from taxiway.convert.frameworks import sklearn_histogram, sklearn_wrappers
from taxiway.convert.trees import LEAF, Tree
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guests import sklearn as hosted


def members_of(estimator: Any) -> list[Any]:  # noqa: ANN401 - any estimator
    """The fitted estimators that it asks; a forest among them counts as one, though it can be looked through."""
    members = getattr(estimator, "estimators_", [])
    return list(members.ravel()) if isinstance(members, np.ndarray) else list(members)


def native_trees(estimator: Any) -> list[Any]:  # noqa: ANN401 - any estimator
    """The `sklearn.tree._tree.Tree`s of a tree or a forest, in order; none of anything else."""
    if hasattr(estimator, "tree_"):
        return [estimator.tree_]
    members = members_of(estimator)
    if (
        members
        and all(hasattr(member, "tree_") for member in members)
        and not hasattr(estimator, "estimators_features_")
    ):
        return [member.tree_ for member in members]
    return []


def trees_of(estimator: Any) -> list[Tree]:  # noqa: ANN401 - any estimator
    """Its trees in the form that rows are made from, in the order in which they are exported."""
    if sklearn_histogram.is_histogram(estimator):
        return [grown.tree for grown in sklearn_histogram.grown_in(estimator)]
    return [_tree(tree) for tree in native_trees(estimator)] or sklearn_wrappers.trees_of(estimator)


def every_tree(estimator: Any, width: int) -> list[Tree]:  # noqa: ANN401 - any estimator
    """The trees of an estimator that holds others (a vote, a stack, a calibration), which see all its features."""
    boosted = [one for one in members_of(estimator) if sklearn_histogram.is_histogram(one)]
    histograms = [tree for one in boosted if one.n_features_in_ == width for tree in trees_of(one)]
    return [_tree(tree) for tree in hosted.trees_within(estimator) if tree.n_features == width] + histograms


def compares(estimator: Any) -> Datatype:  # noqa: ANN401 - any estimator
    """As what the trees compare values: scikit-learn's and XGBoost's cast them to float32 first."""
    is_histogram = sklearn_histogram.is_histogram(estimator)
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
