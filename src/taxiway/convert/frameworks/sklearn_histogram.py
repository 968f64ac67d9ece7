"""Histogram gradient boosting as ONNX: an emitter of our own, for skl2onnx writes none that ONNX Runtime reads.

Every tree becomes a tree of ai.onnx.ml's third edition, node for node, with its float64 thresholds (or, for float32
inputs, the largest float32 that is not above each) and the way that missing values go. A split on categories becomes a
chain of equalities on the values as they are given, so that no encoder stands before the trees: a value that was never
seen goes where missing ones go, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import skl2onnx
from numpy.typing import NDArray
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, guess_tensor_type
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from taxiway.convert.graph import ML_DOMAIN
from taxiway.convert.mending import floor_to_float32
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.trees import LEAF, Tree

_LINKS: Final = {"IdentityLink": None, "LogLink": "Exp"}
_EDITION: Final = 3
_STANDARD: Final = 13


@dataclass(frozen=True, slots=True)
class Grown:
    """One tree, and what each of its leaves adds to `target` (0 at a split)."""

    tree: Tree
    leaves: NDArray[np.float64]
    target: int


def is_histogram(estimator: Any) -> bool:  # noqa: ANN401 - any estimator
    """Whether it is one of histogram gradient boosting."""
    return hasattr(estimator, "_predictors") and hasattr(estimator, "_baseline_prediction")


def grown_in(estimator: Any) -> list[Grown]:  # noqa: ANN401 - a fitted histogram estimator
    """Its trees, over the features as they are given.

    Raises:
        Refused: its categories are texts, which inputs of numbers do not carry.
    """
    places, categories = _features(estimator)
    return [
        _expanded(predictor, target, places, categories)
        for iteration in estimator._predictors
        for target, predictor in enumerate(iteration)
    ]


def _features(estimator: Any) -> tuple[NDArray[np.intp], dict[int, NDArray[np.float64]]]:  # noqa: ANN401
    """Which given column each feature of the trees is, and the categories of those that have some."""
    is_categorical = estimator.is_categorical_
    if is_categorical is None:
        return np.arange(estimator.n_features_in_), {}
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    known = {}
    for feature, values in enumerate(encoder.categories_):  # the trees see these columns first
        if values.dtype.kind not in "fiub":
            raise Refused(
                Reason.UNSUPPORTED,
                f"{type(estimator).__name__} splits on categories of text, which inputs of numbers do not carry",
                "put an OrdinalEncoder in a ColumnTransformer before it, or let the native library serve it",
            )
        known[feature] = values.astype(np.float64)
    places = np.concatenate([np.flatnonzero(is_categorical), np.flatnonzero(~np.asarray(is_categorical))])
    return places.astype(np.intp), known


def _expanded(
    predictor: Any,  # noqa: ANN401 - sklearn's TreePredictor
    target: int,
    places: NDArray[np.intp],
    categories: dict[int, NDArray[np.float64]],
) -> Grown:
    """The tree with each split on categories said as a chain of equalities, whose links stand after the nodes."""
    nodes = predictor.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    feature = np.where(is_leaf, LEAF, places[np.where(is_leaf, 0, nodes["feature_idx"]).astype(np.intp)])
    grown = _Growing(
        feature=feature.tolist(),
        threshold=np.where(is_leaf, 0.0, nodes["num_threshold"]).tolist(),
        left=nodes["left"].astype(np.intp).tolist(),
        right=nodes["right"].astype(np.intp).tolist(),
        missing_left=nodes["missing_go_to_left"].astype(bool).tolist(),
        equals=[False] * len(nodes),
    )
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~is_leaf).tolist():
        known = categories[int(nodes["feature_idx"][node])]
        goes_left = _members(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]], len(known))
        grown.chain(node, known, goes_left)
    leaves = np.zeros(len(grown.feature))
    leaves[: len(nodes)] = np.where(is_leaf, nodes["value"], 0.0)
    return Grown(grown.tree(), leaves, target)


def _members(bitset: NDArray[np.uint32], count: int) -> NDArray[np.bool_]:
    """Which codes, of the first `count`, are in a bitset of eight words."""
    codes = np.arange(count)
    in_set: NDArray[np.bool_] = (bitset[codes // 32] >> (codes % 32).astype(np.uint32)) & 1 == 1
    return in_set


@dataclass(slots=True)
class _Growing:
    """A tree's columns while chains are added."""

    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    missing_left: list[bool]
    equals: list[bool]

    def chain(self, node: int, known: NDArray[np.float64], goes_left: NDArray[np.bool_]) -> None:
        """Say a split on categories as equalities with those that do not go where the missing and unknown go."""
        left, right = self.left[node], self.right[node]
        taken, rest = (right, left) if self.missing_left[node] else (left, right)
        is_named = ~goes_left if self.missing_left[node] else goes_left
        named = known[is_named & ~np.isnan(known)].tolist()
        if not named:  # whatever is given goes one way: a split that never is
            named = [np.nan]
        links = [node, *range(len(self.feature), len(self.feature) + len(named) - 1)]
        more = len(links) - 1
        self.feature += [self.feature[node]] * more
        self.threshold += [0.0] * more
        self.left += [taken] * more
        self.right += [rest] * more
        self.missing_left += [False] * more
        self.equals += [True] * more
        for at, (link, value) in enumerate(zip(links, named, strict=True)):
            self.threshold[link], self.left[link] = value, taken
            self.right[link] = links[at + 1] if at + 1 < len(links) else rest
        self.missing_left[node], self.equals[node] = False, True

    def tree(self) -> Tree:
        """As arrays."""
        return Tree(
            np.array(self.feature, dtype=np.intp),
            np.array(self.threshold),
            np.array(self.left, dtype=np.intp),
            np.array(self.right, dtype=np.intp),
            np.array(self.missing_left, dtype=np.bool_),
            np.array(self.equals, dtype=np.bool_),
        )


# --- as ONNX ------------------------------------------------------------------------------------------


def register() -> None:
    """Teach skl2onnx both estimators, wherever in a pipeline, a vote or a stack they stand."""
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]}
    for kind, shapes, more in (
        (HistGradientBoostingClassifier, calculate_linear_classifier_output_shapes, options),
        (HistGradientBoostingRegressor, calculate_linear_regressor_output_shapes, {}),
    ):
        skl2onnx.update_registered_converter(kind, f"Taxiway{kind.__name__}", shapes, _emit, options=more)


def _emit(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401 - skl2onnx's own
    """The estimator's nodes, as skl2onnx has its converters write them."""
    estimator = operator.raw_operator
    graph = _Writer(scope, container)
    given = graph.numbers(operator.inputs[0])
    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    raw = graph.node("TreeEnsembleRegressor", [given], domain=ML_DOMAIN, **_attributes(estimator, is_double=is_double))
    if hasattr(estimator, "classes_"):
        _emit_classes(graph, estimator, raw, operator)
        return
    link = _LINKS[type(estimator._loss.link).__name__]
    graph.cast(graph.node(link, [raw]) if link else raw, operator.outputs[0])


def _emit_classes(graph: _Writer, estimator: Any, raw: str, operator: Any) -> None:  # noqa: ANN401
    label, probabilities = operator.outputs
    if estimator.n_trees_per_iteration_ == 1:
        yes = graph.node("Sigmoid", [raw])
        no = graph.node("Sub", [graph.constant(np.ones(1, np.float32)), yes])
        scores = graph.node("Concat", [no, yes], axis=1)
        above = graph.node("Greater", [raw, graph.constant(np.zeros(1, np.float32))])
        winner = graph.node("Squeeze", [graph.node("Cast", [above], to=onnx.TensorProto.INT64), graph.constant([1])])
    else:
        scores = graph.node("Softmax", [raw], axis=1)
        winner = graph.node("ArgMax", [raw], axis=1, keepdims=0)
    graph.cast(scores, probabilities)
    classes = estimator.classes_
    kept = classes.astype(np.int64) if classes.dtype.kind in "iub" else classes.astype(str)
    graph.node("Gather", [graph.constant(kept), winner], outputs=[label.full_name])


@dataclass(frozen=True, slots=True)
class _Writer:
    """Nodes under names that nobody else has."""

    scope: Any
    container: Any

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        outputs: list[str] | None = None,
        domain: str = "",
        **said: Any,  # noqa: ANN401 - an attribute of any type
    ) -> str:
        made = outputs or [self.scope.get_unique_variable_name(f"histogram_{kind.lower()}")]
        self.container.add_node(
            kind,
            list(inputs),
            made,
            op_domain=domain,
            op_version=_EDITION if domain else _STANDARD,
            name=self.scope.get_unique_operator_name(kind),
            **said,
        )
        return made[0]

    def constant(self, values: Any) -> str:  # noqa: ANN401 - a list or an array
        array = np.asarray(values)
        name: str = self.scope.get_unique_variable_name("histogram_constant")
        kinds = {"f": onnx.TensorProto.FLOAT, "i": onnx.TensorProto.INT64, "U": onnx.TensorProto.STRING}
        content = [text.encode() for text in array.tolist()] if array.dtype.kind == "U" else array.tolist()
        self.container.add_initializer(name, kinds[array.dtype.kind], list(array.shape), content)
        return name

    def numbers(self, variable: Any) -> str:  # noqa: ANN401 - skl2onnx's
        """The input as floating-point numbers."""
        if isinstance(variable.type, (FloatTensorType, DoubleTensorType)):
            return str(variable.full_name)
        return self.node("Cast", [variable.full_name], to=onnx.TensorProto.FLOAT)

    def cast(self, name: str, output: Any) -> None:  # noqa: ANN401 - skl2onnx's
        """As the output that was declared."""
        is_double = isinstance(guess_tensor_type(output.type), DoubleTensorType)
        kind = onnx.TensorProto.DOUBLE if is_double else onnx.TensorProto.FLOAT
        self.node("Cast", [name], outputs=[output.full_name], to=kind)


def _attributes(estimator: Any, *, is_double: bool) -> dict[str, Any]:  # noqa: ANN401
    """Of the ensemble's operator: all trees one after the other."""
    every = grown_in(estimator)
    said: dict[str, list[Any]] = {}
    for number, grown in enumerate(every):
        for name, values in _columns(number, grown):
            said.setdefault(name, []).extend(values)
    thresholds = np.array(said.pop("nodes_values"))
    numbers = {
        "nodes_values": thresholds if is_double else floor_to_float32(thresholds),
        "target_weights": np.array(said.pop("target_weights")),
        "base_values": np.ravel(estimator._baseline_prediction).astype(np.float64),
    }
    return {**said, **_as_numbers(numbers, is_double=is_double), "n_targets": int(estimator.n_trees_per_iteration_)}


def _as_numbers(numbers: dict[str, NDArray[Any]], *, is_double: bool) -> dict[str, Any]:
    if not is_double:
        return {name: values.astype(np.float32).tolist() for name, values in numbers.items()}
    return {
        f"{name}_as_tensor": onnx.numpy_helper.from_array(values.astype(np.float64), name)
        for name, values in numbers.items()
    }


def _columns(number: int, grown: Grown) -> Iterator[tuple[str, list[Any]]]:
    """The operator's lists, as far as one tree fills them."""
    tree = grown.tree
    is_leaf = tree.feature == LEAF
    equals = np.zeros(len(is_leaf), dtype=bool) if tree.equals is None else tree.equals
    modes = np.where(is_leaf, "LEAF", np.where(equals, "BRANCH_EQ", "BRANCH_LEQ"))
    missing_left = np.zeros(len(is_leaf), dtype=bool) if tree.missing_left is None else tree.missing_left
    leaves = np.flatnonzero(is_leaf)
    yield "nodes_treeids", [number] * len(is_leaf)
    yield "nodes_nodeids", list(range(len(is_leaf)))
    yield "nodes_featureids", np.where(is_leaf, 0, tree.feature).tolist()
    yield "nodes_modes", modes.tolist()
    yield "nodes_values", np.where(is_leaf, 0.0, tree.threshold).tolist()
    yield "nodes_truenodeids", np.where(is_leaf, 0, tree.left).tolist()
    yield "nodes_falsenodeids", np.where(is_leaf, 0, tree.right).tolist()
    yield "nodes_missing_value_tracks_true", (missing_left & ~is_leaf).astype(int).tolist()
    yield "target_treeids", [number] * len(leaves)
    yield "target_nodeids", leaves.tolist()
    yield "target_ids", [grown.target] * len(leaves)
    yield "target_weights", grown.leaves[leaves].tolist()
