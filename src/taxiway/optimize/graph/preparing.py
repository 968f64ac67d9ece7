"""The model in the form that every recipe starts from: a late opset, simplified, named nodes, inferred shapes.

Exporters and rewriters are not believed: each step is kept only if the model still loads and answers as before.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import version_converter

from taxiway.optimize.graph.folding import fold_constants_into_convolutions

OPSET: Final = 17
"""What is raised to: per-channel QDQ needs 13, LayerNormalization 17; ONNX Runtime runs nothing faster for more."""

OPSET_OF_FLOAT8: Final = 19

Change = Callable[[onnx.ModelProto, Path], onnx.ModelProto | None]
"""Rewrites a model; may use the path. None: there was nothing to do."""

Agrees = Callable[[Path], str]
"""Whether the model at a path answers as the original: empty, or how it does not."""


NOTHING: Final = "nothing to do"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done to a graph. `problem`: why it was undone; empty: it was kept."""

    name: str
    problem: str = ""


def prepare(source: Path, target: Path, agrees: Agrees) -> list[Step]:
    """Write the prepared model to `target`.

    Args:
        source: the original, which is only read.
        target: where the prepared one goes; its folder takes what lies in between.
        agrees: judges a model.
    """
    model = load(source)
    steps = []
    for name, change in _CHANGES:
        changed, step = _tried(name, change, model, target, agrees)
        steps.append(step)
        model = changed
    named(model)
    declared_as(model, load(source))
    onnx.save(model, target)
    return steps


def declared_as(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Declare inputs and outputs as the original does: whoever serves it has its configuration."""
    for mine, theirs in ((model.graph.input, original.graph.input), (model.graph.output, original.graph.output)):
        declared = {one.name: one for one in theirs}
        for one in mine:
            if one.name in declared:
                one.CopyFrom(declared[one.name])


def load(path: Path) -> onnx.ModelProto:
    """A model with its external data, which stand inside from here on."""
    model: onnx.ModelProto = onnx.load(path)
    return model


def external_files(path: Path) -> list[str]:
    """Names of the files beside a model that hold its weights."""
    model = onnx.load(path, load_external_data=False)
    entries = (entry for tensor in _tensors(model.graph) for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def model_bytes(path: Path) -> int:
    """Of a model with its weights, wherever they lie."""
    return sum(file.stat().st_size for file in (path, *(path.parent / name for name in external_files(path))))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph and of the graphs within it."""
    yield from graph.initializer
    for attribute in (one for node in graph.node for one in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def _tried(
    name: str,
    change: Callable[[onnx.ModelProto, Path], onnx.ModelProto | None],
    model: onnx.ModelProto,
    target: Path,
    agrees: Agrees,
) -> tuple[onnx.ModelProto, Step]:
    trial = target.with_name(f"{target.stem}.trial.onnx")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    changed: onnx.ModelProto | None = None
    try:
        changed = change(copy, trial)
        if changed is None:
            return model, Step(name, NOTHING)
        onnx.save(changed, trial)
        problem = agrees(trial)
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    finally:
        trial.unlink(missing_ok=True)
    if problem or changed is None:
        return model, Step(name, problem)
    return changed, Step(name, NOTHING if _is_like(changed, model) else "")


def _is_like(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    """Whether both have the same operators and constants, as far as counting tells."""
    return _counted(one) == _counted(other)


def _counted(model: onnx.ModelProto) -> tuple[Counter[str], int, int]:
    graph = model.graph
    return Counter(node.op_type for node in graph.node), len(graph.initializer), opset_of(model)


def opset_of(model: onnx.ModelProto) -> int:
    """Of the standard operators."""
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def raise_opset(model: onnx.ModelProto, to: int) -> onnx.ModelProto | None:
    """The model at a later opset; None: it is there already."""
    if not 0 < opset_of(model) < to:
        return None
    raised: onnx.ModelProto = version_converter.convert_version(model, to)
    return raised


def _raise_opset(model: onnx.ModelProto, _folder: Path) -> onnx.ModelProto | None:
    return raise_opset(model, OPSET)


def _simplify(model: onnx.ModelProto, _trial: Path) -> onnx.ModelProto | None:
    if importlib.util.find_spec("onnxslim") is None:
        return None
    onnxslim = importlib.import_module("onnxslim")  # of the extra, without types, and slow to import

    slim: onnx.ModelProto = onnxslim.slim(model)
    return slim


def _optimize(model: onnx.ModelProto, trial: Path) -> onnx.ModelProto:
    """ONNX Runtime's basic optimizations, with shapes inferred; its symbolic inference fails on many exports."""
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415 - slow to import

    source = trial.with_name("unfolded.onnx")
    onnx.save(model, source)
    try:
        quant_pre_process(source, trial, skip_symbolic_shape=True)
        return load(trial)
    finally:
        source.unlink(missing_ok=True)


def _infer_shapes(model: onnx.ModelProto, _trial: Path) -> onnx.ModelProto:
    """Quantizers want the datatype of every tensor."""
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
    return inferred


def _fold_into_convolutions(model: onnx.ModelProto, _trial: Path) -> onnx.ModelProto | None:
    return fold_constants_into_convolutions(model)


_CHANGES: Final = (
    ("opset", _raise_opset),
    ("onnxslim", _simplify),
    ("basic optimizations", _optimize),
    ("constants into convolutions", _fold_into_convolutions),
    ("shapes", _infer_shapes),
)


def named(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, by which recipes know it."""
    taken: set[str] = set()
    for at, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{at}"
        while name in taken:
            name = f"{name}_{at}"
        node.name = name
        taken.add(name)


def without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the recorded shapes of its inner tensors.

    ONNX Runtime infers what it needs when it loads. What is written down beyond that makes it fuse Add and
    LayerNormalization on CPUs into an operator that takes three times as long as the two.
    """
    del model.graph.value_info[:]
    return model


logging.getLogger("onnxslim").setLevel(logging.ERROR)
