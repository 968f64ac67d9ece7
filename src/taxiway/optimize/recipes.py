"""Recipes: small declared objects that say how a candidate is made. Plain data: stored, and sent to processes."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from taxiway.optimize.calibrate.ranges import Method

CORE: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose integer kernels pay, and which forgive it; the tails of a network do not."""

EVERYTHING: Final = (
    *CORE, "Add", "ArgMax", "AveragePool", "BatchNormalization", "Clip", "Concat", "EmbedLayerNormalization",
    "Flatten", "Gather", "GatherElements", "GlobalAveragePool", "InstanceNormalization", "LayerNormalization",
    "LeakyRelu", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split",
    "Squeeze", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
"""Operators with integer kernels; those that only move data ride along with their neighbours."""

DYNAMIC: Final = ("Attention", "EmbedLayerNormalization", "Gather", "LSTM", "MatMul")
"""Operators that ONNX Runtime's dynamic quantization has kernels for, the dear one of Conv left out."""


class Plain(msgspec.Struct, frozen=True, tag="plain"):
    """The model as it is."""

    @property
    def name(self) -> str:
        """A word for it."""
        return "baseline"


class Fused(msgspec.Struct, frozen=True, tag="fused"):
    """ONNX Runtime's own graph optimizations, done once and saved, with the fusions of transformers where they fit."""

    transformer: bool = False

    @property
    def name(self) -> str:
        """A word for it."""
        return "fused.transformer" if self.transformer else "fused"


class Half(msgspec.Struct, frozen=True, tag="half"):
    """Half the bits: weights and activations as float16, inputs and outputs as they were.

    Attributes:
        transformer: the fusions of transformers come first, as in Fused.
    """

    transformer: bool = False

    @property
    def name(self) -> str:
        """A word for it."""
        return "fp16.fused" if self.transformer else "fp16"


class Dynamic(msgspec.Struct, frozen=True, tag="dynamic"):
    """INT8 weights per channel; activations measured and rounded at every run.

    Attributes:
        keep: nodes that stay in floating point.
    """

    operators: tuple[str, ...] = DYNAMIC
    keep: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A word for it."""
        kept = [f"mix{len(self.keep)}"] if self.keep else []
        only = [] if self.operators == DYNAMIC else [one.lower() for one in self.operators]
        return ".".join(["int8.dynamic", *only, *kept])


class Static(msgspec.Struct, frozen=True, tag="static"):
    """INT8 weights; activations rounded to ranges that calibration found: QDQ.

    Attributes:
        operators: quantized; empty: every one that ONNX Runtime knows to.
        activations: `uint8` where kernels take it (CPU), `int8` symmetric for TensorRT, `uint16` for A16W8.
        per_channel: a scale for each output channel of a weight.
        keep: nodes that stay in floating point.
        measured: nodes whose activations are rounded at run time instead, as in Dynamic.
        embeddings: tables that are looked up become INT8 too.
    """

    operators: tuple[str, ...] = CORE
    activations: Literal["uint8", "int8", "uint16"] = "uint8"
    ranges: Method = Method.MINMAX
    per_channel: bool = True
    keep: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    embeddings: bool = True

    @property
    def name(self) -> str:
        """A word for it."""
        words = ["a16w8" if self.activations == "uint16" else "int8.static"]
        words += ["s8s8"] * (self.activations == "int8")
        words += ["all"] * (not self.operators)
        words += [self.ranges.value] * (self.ranges is not Method.MINMAX)
        words += ["tensor"] * (not self.per_channel)
        words += [f"mix{len(self.keep)}"] * bool(self.keep)
        words += [f"hybrid{len(self.measured)}"] * bool(self.measured)
        return ".".join(words)


class Float8(msgspec.Struct, frozen=True, tag="float8"):
    """FP8 E4M3 QDQ: a tensor's largest magnitude stands at 448; weights with a scale for each output channel.

    Micikevicius et al. 2022, arXiv 2209.05433, section 3. Runs fast on GPUs that have it; others simulate it exactly.

    Attributes:
        keep: nodes that stay in floating point.
    """

    operators: tuple[str, ...] = CORE
    keep: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A word for it."""
        return "fp8" + f".mix{len(self.keep)}" * bool(self.keep)


class WeightOnly(msgspec.Struct, frozen=True, tag="weight-only"):
    """Weights of matrix products in blocks of 4 or 8 bits; activations stay in floating point."""

    bits: Literal[4, 8] = 8
    block: int = 32

    @property
    def name(self) -> str:
        """A word for it."""
        return f"int{self.bits}.weights"


Recipe = Plain | Fused | Half | Dynamic | Static | Float8 | WeightOnly


def needs_calibration(recipe: Recipe) -> bool:
    """Whether it asks what values the tensors take."""
    return isinstance(recipe, (Static, Float8))
