"""Known mistakes of the exporters of trees, put right before the export is judged.

skl2onnx forgets where a tree sends missing values, onnxmltools rounds LightGBM's float64 thresholds to the nearest
float32, and neither compares as the framework does behind a float64 step. Each is put right where the export's nodes
are those of the model's trees, one by one; where they are not, the export stays as it is, and the comparison judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from taxiway.convert.graph import ML_DOMAIN, attributes, tree_nodes
from taxiway.convert.trees import LEAF, Tree
from taxiway.core.tensors import Datatype

TIE = 1e-6
"""Two probabilities that differ by less are equal: float32 sums of equal shares do."""


def mend_trees(model: onnx.ModelProto, trees: Sequence[Tree], compares: Datatype, inputs: Datatype) -> tuple[str, ...]:
    """Have the export's trees decide as `trees` do, which compare values as `compares`; what was mended, in words."""
    nodes = tree_nodes(model)
    return _mend_node(model, nodes[0], trees, compares, inputs) if len(nodes) == 1 and trees else ()


def mend_members(
    model: onnx.ModelProto, members: Sequence[tuple[Sequence[Tree], Datatype]], inputs: Datatype
) -> tuple[str, ...]:
    """The same for each member of a vote or a stack, whose ensembles are told by their nodes."""
    done: tuple[str, ...] = ()
    for trees, compares in members:
        of_member = [node for node in tree_nodes(model) if trees and _are_nodes_of(node, trees)]
        if len(of_member) == 1:
            done += _mend_node(model, of_member[0], trees, compares, inputs)
    return done


def _mend_node(
    model: onnx.ModelProto, node: onnx.NodeProto, trees: Sequence[Tree], compares: Datatype, inputs: Datatype
) -> tuple[str, ...]:
    if not _are_nodes_of(node, trees):
        if inputs is Datatype.FP64 and compares is Datatype.FP32 and _modes(node) == {b"BRANCH_LT"}:
            return (_cast_to_float32(model.graph, node),)  # XGBoost's thresholds are float32 in any order
        return ()
    thresholds = np.concatenate([tree.threshold for tree in trees])
    done = [_set_missing(node, trees)]
    if inputs is Datatype.FP64 and compares is Datatype.FP64:
        _widen(model, node, thresholds)
        done.append("thresholds kept in float64")
        return tuple(filter(None, done))
    done.append(_set_thresholds(node, floor_to_float32(thresholds)))
    if inputs is Datatype.FP64:
        done.append(_cast_to_float32(model.graph, node))
    return tuple(filter(None, done))


def give_ties_to_the_first(model: onnx.ModelProto) -> tuple[str, ...]:
    """Have the label be the first of those with even odds; ONNX Runtime's follows sums of rounded shares."""
    nodes = tree_nodes(model)
    if len(nodes) != 1 or nodes[0].op_type != "TreeEnsembleClassifier" or len(nodes[0].output) != 2:
        return ()
    label, probabilities = nodes[0].output
    classes = _classes(nodes[0])
    if classes is None or label not in {value.name for value in model.graph.output}:
        return ()
    nodes[0].output[0] = "tie_unused_label"
    constants = {"tie_margin": np.array(TIE, np.float32), "tie_classes": classes}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(values, name) for name, values in constants.items())
    make = onnx.helper.make_node
    model.graph.node.extend(
        [
            make("ReduceMax", [probabilities], ["tie_best"], axes=[1], keepdims=1),
            make("Sub", ["tie_best", "tie_margin"], ["tie_enough"]),
            make("GreaterOrEqual", [probabilities, "tie_enough"], ["tie_among"]),
            make("Cast", ["tie_among"], ["tie_candidates"], to=onnx.TensorProto.INT32),
            make("ArgMax", ["tie_candidates"], ["tie_first"], axis=1, keepdims=0),
            make("Gather", ["tie_classes", "tie_first"], [label]),
        ]
    )
    return ("labels at even odds given to the first class, as scikit-learn does",)


def _classes(node: onnx.NodeProto) -> NDArray[Any] | None:
    has = attributes(node)
    if "classlabels_int64s" in has:
        return np.array(has["classlabels_int64s"].ints, dtype=np.int64)
    if "classlabels_strings" in has:
        return np.array([text.decode() for text in has["classlabels_strings"].strings], dtype=object)
    return None


def write_out_imputers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Say an Imputer of float64 in plain operators: ONNX Runtime has one of float32 only."""
    imputers = [node for node in model.graph.node if node.op_type == "Imputer"]
    for node in imputers:
        has, name = attributes(node), node.output[0]
        replaced = has["replaced_value_float"].f if "replaced_value_float" in has else float("nan")
        if not np.isnan(replaced) or "imputed_value_floats" not in has:
            return ()
        fill = np.array(has["imputed_value_floats"].floats, dtype=np.float64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(fill, f"{name}_fill"))
        source, at = node.input[0], list(model.graph.node).index(node)
        model.graph.node.remove(node)
        model.graph.node.insert(at, onnx.helper.make_node("Where", [f"{name}_missing", f"{name}_fill", source], [name]))
        model.graph.node.insert(at, onnx.helper.make_node("IsNaN", [source], [f"{name}_missing"]))
    return (f"{len(imputers)} imputers said in operators that take float64",) if imputers else ()


def floor_to_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value: `x <= value` says the same of every float32 x."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
        return np.where(near.astype(np.float64) > values, np.nextafter(near, np.float32(-np.inf)), near)


def _are_nodes_of(node: onnx.NodeProto, trees: Sequence[Tree]) -> bool:
    """Whether the ensemble's nodes are those of these trees, in order; a leaf's feature does not matter."""
    has = attributes(node)
    features = np.concatenate([tree.feature for tree in trees])
    is_split = np.array([mode != b"LEAF" for mode in has["nodes_modes"].strings])
    if "nodes_values" not in has or not np.array_equal(is_split, features != LEAF):
        return False
    if not np.array_equal(np.array(has["nodes_featureids"].ints)[is_split], features[is_split]):
        return False
    modes = _modes(node)
    return modes <= {b"BRANCH_LEQ"} or (modes == {b"BRANCH_LT"} and _are_float32(trees))


def _modes(node: onnx.NodeProto) -> set[bytes]:
    return set(attributes(node)["nodes_modes"].strings) - {b"LEAF"}


def _are_float32(trees: Sequence[Tree]) -> bool:
    """Whether no threshold has to be rounded; down would be the wrong way for `<`."""
    return all(np.array_equal(tree.threshold, tree.threshold.astype(np.float32)) for tree in trees)


def _set_missing(node: onnx.NodeProto, trees: Sequence[Tree]) -> str:
    goes_left = [tree.missing_left for tree in trees if tree.missing_left is not None]
    if len(goes_left) != len(trees):
        return ""
    wanted = np.concatenate(goes_left) & (np.concatenate([tree.feature for tree in trees]) != LEAF)
    tracks = attributes(node)["nodes_missing_value_tracks_true"]
    moved = int(np.count_nonzero(np.array(tracks.ints, dtype=bool) != wanted))
    tracks.ints[:] = wanted.astype(int).tolist()
    return f"{moved} splits told where missing values go" if moved else ""


def _set_thresholds(node: onnx.NodeProto, thresholds: NDArray[np.float32]) -> str:
    values = attributes(node)["nodes_values"]
    moved = int(np.count_nonzero(np.array(values.floats, dtype=np.float32) != thresholds))
    values.floats[:] = thresholds.tolist()
    return f"{moved} thresholds rounded down instead of to the nearest float32" if moved else ""


def _widen(model: onnx.ModelProto, node: onnx.NodeProto, thresholds: NDArray[np.float64]) -> None:
    """Turn the ensemble and the graph's inputs to float64: the third edition of the operator holds such thresholds."""
    has = attributes(node)
    names = ("nodes_hitrates", "class_weights", "target_weights", "base_values")
    doubles = {"nodes_values": thresholds} | {name: np.array(has[name].floats) for name in names if name in has}
    kept = [attribute for attribute in node.attribute if attribute.name not in doubles]
    kept += [
        onnx.helper.make_attribute(f"{name}_as_tensor", onnx.numpy_helper.from_array(values.astype(np.float64)))
        for name, values in doubles.items()
    ]
    del node.attribute[:]
    node.attribute.extend(kept)
    for value in model.graph.input:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for entry in model.opset_import:
        if entry.domain == ML_DOMAIN:
            entry.version = 3


def _cast_to_float32(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    at = list(graph.node).index(node)
    name = f"values_of_{node.output[-1]}"
    cast = onnx.helper.make_node("Cast", [node.input[0]], [name], to=onnx.TensorProto.FLOAT)
    node.input[0] = name
    graph.node.insert(at, cast)
    return "values cast to float32 before the trees, as the framework does"
