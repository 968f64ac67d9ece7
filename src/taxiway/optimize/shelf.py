"""Which recipes are tried for a target, given what a graph is made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from taxiway.optimize.calibrate.ranges import Method
from taxiway.optimize.recipes import CORE, DYNAMIC, Dynamic, Float8, Fused, Half, Recipe, Static, WeightOnly

_TRANSFORMER = ("Softmax", "MatMul", "LayerNormalization")

Siblings = tuple[Recipe, ...]
"""Recipes that make models of the same operators, equally fast: only the one that errs least is worth its time."""


def recipes_for(target: str, operators: Mapping[str, int]) -> tuple[Siblings, ...]:
    """Recipes in the order they are tried.

    Args:
        target: `cpu`, `openvino`, `cuda` or `tensorrt`.
        operators: how many nodes of each operator the prepared graph has.
    """
    quantizable = any(operators.get(one) for one in CORE)
    fused: tuple[Siblings, ...] = ((Fused(),),)
    if target in ("cpu", "openvino"):
        static = _static() if quantizable else ()
        return (*fused, *_dynamic(operators), *static, *_rest(operators)) if target == "cpu" else (*fused, *static)
    if all(operators.get(one) for one in _TRANSFORMER):
        fused = (*fused, (Fused(transformer=True),), (Half(transformer=True),))
    half: Siblings = (Half(),)
    if target == "cuda" or not quantizable:
        return (*fused, half)
    symmetric = Static(activations="int8", ranges=Method.MSE, embeddings=False)
    return (*fused, half, (Float8(),), (symmetric, msgspec.structs.replace(symmetric, ranges=Method.MINMAX)))


def _dynamic(operators: Mapping[str, int]) -> tuple[Siblings, ...]:
    return ((Dynamic(),),) if any(operators.get(one) for one in DYNAMIC) else ()


def _static() -> tuple[Siblings, ...]:
    core = (Static(ranges=Method.MSE), Static(), Static(ranges=Method.MSE, per_channel=False))
    everything = (Static(operators=(), ranges=Method.MSE), Static(operators=()))
    return (core, everything)


def _rest(operators: Mapping[str, int]) -> tuple[Siblings, ...]:
    weights: tuple[Siblings, ...] = ((WeightOnly(bits=8),),) if operators.get("MatMul") else ()
    return (*weights, (Half(),))
