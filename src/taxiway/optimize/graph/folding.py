"""Arithmetic with constants that exporters leave behind, folded into the convolutions beside it.

ONNX Runtime folds a scale per channel into a convolution before it, not a scalar, nor anything into one after it; and
PaddlePaddle's and older PyTorch's exports spell hard-swish as four operators. A network for phones has such a chain
behind every convolution, and in INT8 the chains take longer than the convolutions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_TIMES: Final = 4
"""Passes: what one fold uncovers, the next takes."""


def fold_constants_into_convolutions(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with fewer operators; None: there was nothing to fold."""
    graph = _Graph(model)
    folded = sum(graph.fold_once() for _ in range(_TIMES))
    if not folded:
        return None
    graph.write()
    return model


@dataclass(slots=True)
class _Graph:
    """Nodes by what they make, and who takes it."""

    model: onnx.ModelProto
    constants: dict[str, NDArray[Any]] = field(init=False)
    nodes: list[onnx.NodeProto] = field(init=False)
    made_by: dict[str, onnx.NodeProto] = field(init=False)
    takers: Counter[str] = field(init=False)
    fresh: int = 0

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.nodes = list(graph.node)
        self._index()

    def _index(self) -> None:
        self.made_by = {name: node for node in self.nodes for name in node.output}
        self.takers = Counter(name for node in self.nodes for name in node.input)
        self.takers.update(one.name for one in self.model.graph.output)

    def fold_once(self) -> int:
        """One pass over all nodes; how many folds it made."""
        folded = 0
        for node in list(self.nodes):
            if self._hard_swish(node) or self._into_the_one_before(node) or self._into_the_one_after(node):
                folded += 1
                self._index()
        return folded

    def write(self) -> None:
        """Put nodes and constants back."""
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input} | {one.name for one in graph.output}
        del graph.initializer[:]
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in used
        )
        del graph.value_info[:]

    # --- hard swish -------------------------------------------------------------------------------------

    def _hard_swish(self, last: onnx.NodeProto) -> bool:
        """X * clip(x + 3, 0, 6) / 6 is x * HardSigmoid(x) with alpha 1/6, beta 1/2."""
        product = self._only(last.input[0]) if last.op_type == "Div" and self._is(last.input[1], 6.0) else None
        if product is None or product.op_type != "Mul":
            return False
        for value, other in (tuple(product.input), tuple(reversed(product.input))):
            clip = self._only(other)
            moved = self._only(clip.input[0]) if clip is not None and self._clips(clip) else None
            if clip is None or moved is None or moved.op_type != "Add":
                continue
            if value in moved.input and any(self._is(name, 3.0) for name in moved.input):
                gate = self._name("hard_sigmoid")
                made = helper.make_node("HardSigmoid", [value], [gate], alpha=1.0 / 6.0, beta=0.5, name=gate)
                times = helper.make_node("Mul", [value, gate], list(last.output), name=f"{gate}_times")
                self._replace([moved, clip, product, last], [made, times])
                return True
        return False

    def _clips(self, node: onnx.NodeProto) -> bool:
        return (
            node.op_type == "Clip"
            and len(node.input) == 3
            and self._is(node.input[1], 0.0)
            and self._is(node.input[2], 6.0)
        )

    # --- into convolutions ------------------------------------------------------------------------------

    def _into_the_one_before(self, node: onnx.NodeProto) -> bool:
        """Conv, then times or plus a constant."""
        value, constant = self._with_constant(node)
        conv = self._only(value) if value else None
        if conv is None or constant is None or conv.op_type != "Conv" or conv.input[1] not in self.constants:
            return False
        weight = self.constants[conv.input[1]]
        by_channel = _by_channel(constant, weight.shape[0], weight.ndim)
        if by_channel is None:
            return False
        bias = self._bias(conv, weight.shape[0])
        if bias is None:
            return False
        if node.op_type == "Mul":
            weight = weight * by_channel.reshape(-1, *[1] * (weight.ndim - 1))
            bias = bias * by_channel
        else:
            bias = bias + by_channel
        self._replace([conv, node], [self._conv(conv, conv.input[0], node.output[0], weight, bias)])
        return True

    def _into_the_one_after(self, conv: onnx.NodeProto) -> bool:
        """Times or plus a number, then Conv: a sum only where no padding stands beside the picture."""
        if conv.op_type != "Conv" or conv.input[1] not in self.constants:
            return False
        before = self._only(conv.input[0])
        value, constant = self._with_constant(before) if before is not None else ("", None)
        if before is None or constant is None or constant.size != 1:
            return False
        number = float(constant.reshape(-1)[0])
        weight = self.constants[conv.input[1]]
        bias = self._bias(conv, weight.shape[0])
        if bias is None:
            return False
        if before.op_type == "Mul":
            weight = weight * np.asarray(number, dtype=weight.dtype)
        elif _is_unpadded(conv):
            bias = bias + number * weight.reshape(len(weight), -1).sum(axis=1)
        else:
            return self._swapped(before, value, number)
        self._replace([before, conv], [self._conv(conv, value, conv.output[0], weight, bias)])
        return True

    def _swapped(self, plus: onnx.NodeProto, value: str, number: float) -> bool:
        """S x + b is s (x + b / s): the product comes to stand where the convolution can take it."""
        times = self._only(value)
        inner, constant = self._with_constant(times) if times is not None and times.op_type == "Mul" else ("", None)
        if times is None or constant is None or constant.size != 1 or abs(float(constant.reshape(-1)[0])) < 1e-3:
            return False
        shift = self._constant(np.asarray([number / float(constant.reshape(-1)[0])], dtype=constant.dtype))
        scale = next(name for name in times.input if name in self.constants)
        between = self._name("shifted")
        self._replace(
            [times, plus],
            [
                helper.make_node("Add", [inner, shift], [between], name=between),
                helper.make_node("Mul", [between, scale], list(plus.output), name=f"{between}_scaled"),
            ],
        )
        return True

    # --- small things -----------------------------------------------------------------------------------

    def _conv(
        self, like: onnx.NodeProto, value: str, output: str, weight: NDArray[Any], bias: NDArray[Any]
    ) -> onnx.NodeProto:
        names = [self._constant(array.astype(weight.dtype)) for array in (weight, bias)]
        made = helper.make_node("Conv", [value, *names], [output], name=like.name)
        made.attribute.extend(like.attribute)
        return made

    def _bias(self, conv: onnx.NodeProto, channels: int) -> NDArray[Any] | None:
        """Zeros where it has none; None where it is no constant."""
        if len(conv.input) < 3 or not conv.input[2]:
            return np.zeros(channels, dtype=self.constants[conv.input[1]].dtype)
        return self.constants.get(conv.input[2])

    def _with_constant(self, node: onnx.NodeProto) -> tuple[str, NDArray[Any] | None]:
        """The other factor or summand, and the constant; floats only."""
        if node.op_type not in ("Mul", "Add"):
            return "", None
        for value, other in (tuple(node.input), tuple(reversed(node.input))):
            constant = self.constants.get(other)
            if constant is not None and value not in self.constants and constant.dtype == np.float32:
                return value, constant
        return "", None

    def _only(self, name: str) -> onnx.NodeProto | None:
        """Who makes it, if only one node takes it."""
        return self.made_by.get(name) if self.takers[name] == 1 else None

    def _is(self, name: str, number: float) -> bool:
        constant = self.constants.get(name)
        return constant is not None and constant.size == 1 and float(constant.reshape(-1)[0]) == number

    def _constant(self, value: NDArray[Any]) -> str:
        name = self._name("folded")
        self.constants[name] = value
        return name

    def _name(self, word: str) -> str:
        self.fresh += 1
        return f"{word}_{self.fresh}"

    def _replace(self, old: list[onnx.NodeProto], new: list[onnx.NodeProto]) -> None:
        """In the place of the last, where all that it needs was made."""
        gone = {id(node) for node in old}
        at = max(at for at, node in enumerate(self.nodes) if id(node) in gone)
        before = [node for node in self.nodes[: at + 1] if id(node) not in gone]
        self.nodes = [*before, *new, *self.nodes[at + 1 :]]


def _by_channel(constant: NDArray[Any], channels: int, rank: int) -> NDArray[Any] | None:
    """A number for each output channel, if the constant is one number, or [1, channels, 1, 1] or the like."""
    if constant.size == 1:
        return np.full(channels, constant.reshape(-1)[0], dtype=constant.dtype)
    shape = (1,) * (rank - constant.ndim) + constant.shape
    return constant.reshape(-1) if len(shape) == rank and shape[1] == channels == constant.size else None


def _is_unpadded(conv: onnx.NodeProto) -> bool:
    attributes = {one.name: one for one in conv.attribute}
    pads = list(attributes["pads"].ints) if "pads" in attributes else []
    auto = attributes["auto_pad"].s.decode() if "auto_pad" in attributes else "NOTSET"
    return not any(pads) and auto in ("", "NOTSET", "VALID")
