"""MiniLM-L6-v2 as an ONNX graph, written from its weights, with a numpy twin that proves the graph right.

The package that carries the weights ships no ONNX file, and a framework of two gigabytes is a steep price
for six layers of BERT. The operators follow the shape of PyTorch's own export, which ONNX Runtime knows how
to fuse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]

LAYERS = 6
HEADS = 12
HIDDEN = 384
HEAD = HIDDEN // HEADS
EPSILON = 1e-12
MASKED = -10000.0
PARITY = 1e-4


@dataclass
class Graph:
    """Nodes and constants in the making; every method adds to them and returns the name of its result."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Keep an initializer, once per name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def scalar(self, name: str, value: float) -> str:
        """Keep a float constant."""
        return self.constant(name, np.array(value, dtype=np.float32))

    def ints(self, *values: int) -> str:
        """Keep a vector of integers, as shapes and axes need it."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Append one node."""
        name = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"node_{name}", **attributes))
        return name


@dataclass
class Writer:
    """Writes the sentence encoder into a graph, one method per part of the network."""

    weights: Weights
    graph: Graph = field(default_factory=Graph)

    def linear(self, value: str, key: str) -> str:
        """Write x @ W.T + b."""
        weight = self.graph.constant(f"{key}.weight", self.weights[f"{key}.weight"].T)
        bias = self.graph.constant(f"{key}.bias", self.weights[f"{key}.bias"])
        return self.graph.add("Add", self.graph.add("MatMul", value, weight), bias)

    def norm(self, value: str, key: str) -> str:
        """Write a layer normalisation."""
        weight = self.graph.constant(f"{key}.weight", self.weights[f"{key}.weight"])
        bias = self.graph.constant(f"{key}.bias", self.weights[f"{key}.bias"])
        return self.graph.add("LayerNormalization", value, weight, bias, axis=-1, epsilon=EPSILON)

    def embeddings(self) -> str:
        """Sum word, position and token-type vectors; every token is of type 0, joined to the positions."""
        graph = self.graph
        words = graph.constant("words", self.weights["embeddings.word_embeddings.weight"])
        typed = (
            self.weights["embeddings.position_embeddings.weight"]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        length = graph.add("Gather", graph.add("Shape", "input_ids"), graph.ints(1))
        positions = graph.add("Slice", graph.constant("positions", typed), graph.ints(0), length, graph.ints(0))
        return self.norm(
            graph.add("Add", graph.add("Gather", words, "input_ids"), positions),
            "embeddings.LayerNorm",
        )

    def heads(self, value: str, order: tuple[int, ...]) -> str:
        """Split the hidden axis into heads and bring them before the tokens."""
        split = self.graph.add("Reshape", value, self.graph.ints(0, 0, HEADS, HEAD))
        return self.graph.add("Transpose", split, perm=order)

    def attention(self, value: str, mask: str, key: str) -> str:
        """Write self-attention up to, not including, its output projection."""
        graph = self.graph
        query = self.heads(self.linear(value, f"{key}.query"), (0, 2, 1, 3))
        keys = self.heads(self.linear(value, f"{key}.key"), (0, 2, 3, 1))
        values = self.heads(self.linear(value, f"{key}.value"), (0, 2, 1, 3))
        scores = graph.add("Div", graph.add("MatMul", query, keys), graph.scalar("root_head", math.sqrt(HEAD)))
        weights = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", weights, values), perm=(0, 2, 1, 3))
        return graph.add("Reshape", mixed, graph.ints(0, 0, HIDDEN))

    def gelu(self, value: str) -> str:
        """Write the exact GELU, x/2 (1 + erf(x/sqrt 2))."""
        graph = self.graph
        erf = graph.add("Erf", graph.add("Div", value, graph.scalar("root_two", math.sqrt(2.0))))
        product = graph.add("Mul", value, graph.add("Add", erf, graph.scalar("one", 1.0)))
        return graph.add("Mul", product, graph.scalar("half", 0.5))

    def layer(self, value: str, mask: str, key: str) -> str:
        """Write one transformer layer."""
        mixed = self.linear(self.attention(value, mask, f"{key}.attention.self"), f"{key}.attention.output.dense")
        value = self.norm(self.graph.add("Add", mixed, value), f"{key}.attention.output.LayerNorm")
        wide = self.gelu(self.linear(value, f"{key}.intermediate.dense"))
        narrow = self.linear(wide, f"{key}.output.dense")
        return self.norm(self.graph.add("Add", narrow, value), f"{key}.output.LayerNorm")

    def additive_mask(self) -> str:
        """Turn the 0/1 mask into what is added to the scores: 0 where seen, far below zero where not."""
        graph = self.graph
        broad = graph.add("Unsqueeze", "attention_mask", graph.ints(1, 2))
        seen = graph.add("Cast", broad, to=TensorProto.FLOAT)
        return graph.add(
            "Mul",
            graph.add("Sub", graph.scalar("one", 1.0), seen),
            graph.scalar("masked", MASKED),
        )

    def pool(self, value: str) -> None:
        """Average the seen tokens and scale the mean to length one: the model's last two stages."""
        graph = self.graph
        seen = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
        seen = graph.add("Unsqueeze", seen, graph.ints(2))
        total = graph.add("ReduceSum", graph.add("Mul", value, seen), graph.ints(1), keepdims=0)
        count = graph.add("ReduceSum", seen, graph.ints(1), keepdims=0)
        mean = graph.add("Div", total, graph.add("Max", count, graph.scalar("tiny", 1e-9)))
        length = graph.add("ReduceL2", mean, axes=[1], keepdims=1)
        graph.add(
            "Div",
            mean,
            graph.add("Max", length, graph.scalar("tiny", 1e-9)),
            output="sentence_embedding",
        )

    def write(self) -> Graph:
        """Write the whole encoder."""
        value, mask = self.embeddings(), self.additive_mask()
        for index in range(LAYERS):
            value = self.layer(value, mask, f"encoder.layer.{index}")
        self.pool(value)
        return self.graph


def encoder(weights: Weights) -> onnx.ModelProto:
    """Return MiniLM-L6-v2 with mean pooling and normalisation as an ONNX model."""
    graph = Writer(weights).write()
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "T"]) for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["N", HIDDEN])]
    proto = helper.make_graph(graph.nodes, "minilm", inputs, outputs, list(graph.constants.values()))
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def reference(weights: Weights, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Compute the same embedding in numpy: slow, plain, and sharing no code with the graph."""

    def linear(x: NDArray[np.float32], key: str) -> NDArray[np.float32]:
        return np.asarray(x @ weights[f"{key}.weight"].T + weights[f"{key}.bias"], dtype=np.float32)

    def norm(x: NDArray[np.float32], key: str) -> NDArray[np.float32]:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        return np.asarray(scaled * weights[f"{key}.weight"] + weights[f"{key}.bias"], dtype=np.float32)

    def split(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x.reshape(*x.shape[:2], HEADS, HEAD).transpose(0, 2, 1, 3)

    erf = np.vectorize(math.erf, otypes=[np.float32])
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for index in range(LAYERS):
        key = f"encoder.layer.{index}"
        q, k, v = (split(linear(x, f"{key}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(HEAD) + (1 - mask[:, None, None, :]) * MASKED
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(
            linear(mixed.astype(np.float32), f"{key}.attention.output.dense") + x,
            f"{key}.attention.output.LayerNorm",
        )
        wide = linear(x, f"{key}.intermediate.dense")
        wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        x = norm(linear(wide, f"{key}.output.dense") + x, f"{key}.output.LayerNorm")
    mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), dtype=np.float32)
