"""Classes of nodes that do the same work in every layer: what sensitivity is asked of first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, slots=True)
class NodeClass:
    """Nodes of one operator and one shape of weight, in the order of the graph.

    Attributes:
        weight: elements of one node's weight; 0 where two activations are multiplied.
    """

    name: str
    operator: str
    nodes: tuple[str, ...]
    weight: int


def node_classes(model: onnx.ModelProto, operators: Sequence[str]) -> tuple[NodeClass, ...]:
    """The classes of these operators."""
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    found: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for node in model.graph.node:
        if node.op_type in operators:
            weight = next((shapes[name] for name in node.input[1:] if name in shapes and len(shapes[name]) > 1), ())
            found.setdefault((node.op_type, weight), []).append(node.name)
    return tuple(
        NodeClass(_in_words(operator, shape), operator, tuple(nodes), _elements(shape))
        for (operator, shape), nodes in found.items()
    )


def _in_words(operator: str, shape: tuple[int, ...]) -> str:
    return f"{operator} {'x'.join(map(str, shape))}" if shape else f"{operator} of activations"


def _elements(shape: tuple[int, ...]) -> int:
    made = 1 if shape else 0
    for size in shape:
        made *= size
    return made
