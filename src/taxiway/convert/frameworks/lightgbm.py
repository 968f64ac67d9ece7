"""LightGBM boosters, from .txt.

LightGBM compares float64 values; onnxmltools writes its thresholds as the nearest float32, which moves some to the
other side of values that float32 inputs can have. So thresholds are mended: the largest float32 that is not above.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from onnxmltools.convert import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from taxiway.convert.foreign import Export, Rows, answers, samples_of_trees, widths
from taxiway.convert.mending import mend_trees
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.convert.trees import LEAF, Tree
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guests import lightgbm as hosted
from taxiway.runtimes.hosted.tabular import MATRIX, Column

_ZERO = float(np.float32(1e-35))


@dataclass(frozen=True)
class LightGBMModel:
    """A booster and its trees."""

    table: hosted.Booster
    trees: list[Tree]
    framework = "lightgbm"
    converter = "onnxmltools"
    libraries = ("lightgbm", "onnxmltools")
    datatypes = (Datatype.FP32, Datatype.FP64)

    @property
    def columns(self) -> Sequence[Column]:
        """One matrix."""
        return self.table.columns

    @property
    def outputs(self) -> Mapping[str, int | None]:
        """A label with probabilities, or a prediction."""
        return widths(self.table)

    def answer(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """As it is hosted."""
        return answers(self.table, rows)

    def samples(self, datatype: Datatype, chance: np.random.Generator) -> Samples:
        """Rows at the splits."""
        return samples_of_trees(self, self.trees, self.columns[0].width, datatype, chance)

    def export(self, datatype: Datatype) -> Export:
        """By onnxmltools, its thresholds mended."""
        types = [(MATRIX, FloatTensorType([None, self.columns[0].width]))]
        model = convert_lightgbm(self.table.booster, initial_types=types, zipmap=False)
        mended = mend_trees(model, self.trees, Datatype.FP64, datatype)
        if datatype is Datatype.FP64 and not mended:
            raise Refused(Reason.EXPORT_FAILED, "onnxmltools knows no float64 inputs, and its export cannot be widened")
        return Export(model, mended)


def load(path: Path, trusted: Collection[str]) -> LightGBMModel:  # noqa: ARG001 - the format cannot hold code
    """Read a booster.

    Raises:
        InvalidModel: as if it were to be hosted.
        Refused: it decides in a way that is not a threshold on a number.
    """
    table = hosted.load(path)
    return LightGBMModel(table, trees_of(table.booster))


def trees_of(booster: lightgbm.Booster) -> list[Tree]:
    """The booster's trees."""
    return _trees(booster.dump_model())


def _trees(saved: Mapping[str, Any]) -> list[Tree]:
    return [_tree(tree["tree_structure"]) for tree in saved["tree_info"]]


def _tree(root: Mapping[str, Any]) -> Tree:
    """A saved tree, its nodes numbered as onnxmltools does: both children of a node before theirs."""
    nodes = dict(_numbered(root))
    count = len(nodes)
    feature, left, right = (np.full(count, LEAF, dtype=np.intp) for _ in range(3))
    threshold = np.zeros(count)
    for number, (node, children) in nodes.items():
        if not children:
            continue
        if node["decision_type"] != "<=":
            raise Refused(Reason.UNSUPPORTED, "the model splits on categories, which inputs of numbers do not carry")
        feature[number], threshold[number] = node["split_feature"], _beyond_zero(node["threshold"])
        left[number], right[number] = children
    return Tree(feature, threshold, left, right)


def _beyond_zero(threshold: float) -> float:
    """LightGBM reads values of up to 1e-35 as zero, so none of them is below a threshold of -1e-35."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf))) if threshold == -_ZERO else threshold


def _numbered(root: Mapping[str, Any]) -> Iterator[tuple[int, tuple[Mapping[str, Any], tuple[int, ...]]]]:
    waiting = [(0, root)]
    used = 1
    while waiting:
        number, node = waiting.pop()
        if "left_child" not in node:
            yield number, (node, ())
            continue
        yield number, (node, (used, used + 1))
        waiting += [(used + 1, node["right_child"]), (used, node["left_child"])]
        used += 2
