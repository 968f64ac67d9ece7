"""Tidy what an exporter wrote: the names, types and operators that a client and a server can rely on.

Nothing here is believed either: the result is loaded and compared like any export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

ML_DOMAIN = "ai.onnx.ml"
NAME = "model"
TREE_OPERATORS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")


def tidy(model: onnx.ModelProto, outputs: Mapping[str, int | None]) -> onnx.ModelProto:
    """The same graph with dense outputs, in this order: by name how many columns, None for a vector."""
    _drop_zipmaps(model.graph)
    _name_outputs(model.graph, list(outputs))
    _declare_outputs(model.graph, outputs)
    del model.graph.value_info[:]  # some exporters guess `[1]` for labels; ONNX Runtime infers what it needs
    _import_opsets_once(model)
    model.graph.name = NAME  # some exporters make one up, and the same model would get another digest each time
    return model


def opsets(model: onnx.ModelProto) -> dict[str, int]:
    """Operator sets by domain; the standard one is `ai.onnx`."""
    return {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}


def tree_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The operators that hold ensembles."""
    return [node for node in model.graph.node if node.op_type in TREE_OPERATORS]


def attributes(node: onnx.NodeProto) -> Mapping[str, onnx.AttributeProto]:
    """A node's attributes by name; changing one changes the node."""
    return {attribute.name: attribute for attribute in node.attribute}


def _drop_zipmaps(graph: onnx.GraphProto) -> None:
    """A ZipMap makes a list of dictionaries of a tensor; the tensor is what is served."""
    dense = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ZipMap"}
    kept = [node for node in graph.node if node.op_type != "ZipMap"]
    del graph.node[:]
    graph.node.extend(kept)
    for value in graph.output:
        if value.name in dense:
            value.CopyFrom(onnx.helper.make_tensor_value_info(dense[value.name], onnx.TensorProto.FLOAT, None))


def _name_outputs(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    renamed = {value.name: wanted for value, wanted in zip(graph.output, outputs, strict=True)}
    taken = {name: f"inner_{name}" for name in _inner_names(graph) if name in outputs and name not in renamed}
    renamed |= taken
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = renamed[value.name]


def _inner_names(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.output}


def _declare_outputs(graph: onnx.GraphProto, outputs: Mapping[str, int | None]) -> None:
    """A tree ensemble's numbers are float32 whatever its input is; some exporters declare float64, or shapes of one."""
    of_trees = {node.output[-1] for node in graph.node if node.op_type in TREE_OPERATORS}
    of_trees |= {node.output[0] for node in graph.node if node.op_type == "Identity" and node.input[0] in of_trees}
    for value in graph.output:
        kind = onnx.TensorProto.FLOAT if value.name in of_trees else value.type.tensor_type.elem_type
        columns = outputs[value.name]
        shape = ["N"] if columns is None else ["N", columns]
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))


def _import_opsets_once(model: onnx.ModelProto) -> None:
    newest: dict[str, int] = {}
    for entry in model.opset_import:
        newest[entry.domain] = max(entry.version, newest.get(entry.domain, 0))
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in newest.items())
