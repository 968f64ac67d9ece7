"""How alike two answers to the same request are: of a shadow, and of the version that answered. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from taxiway.core.traffic import Recorded
from taxiway.rollout import comparing_boxes, comparing_texts
from taxiway.rollout.predictions import numbers_of

_DEFAULTS: Final[Mapping[str, Any]] = {"compare": "auto", "tolerance": 1e-3, "top_k": 1}
Tensor = Mapping[str, Any]


def agreement_of(record: Recorded, said: Mapping[str, Any] | None) -> float:
    """0 to 1: the share of what was answered that the shadow answered alike; 0 where it did not answer.

    Args:
        record: a pair.
        said: `config.rollout_plan.ShadowSettings` as it dumps itself; None: its defaults.
    """
    terms = said or _DEFAULTS
    if record.other is None:
        return 0.0
    if list(record.outputs) == list(record.other):
        return 1.0
    if terms["compare"] == "boxes" or (terms["compare"] == "auto" and _names_boxes(record.outputs)):
        found = _boxes(record.outputs, record.other)
        if found is not None:
            return found
    others = {tensor["name"]: tensor for tensor in record.other}
    shares = [_alike(tensor, others.get(tensor["name"]), terms) for tensor in record.outputs]
    return sum(shares) / len(shares) if shares else 1.0


def _alike(one: Tensor, other: Tensor | None, terms: Mapping[str, Any]) -> float:
    if other is None or one["datatype"] != other["datatype"] or list(one["shape"]) != list(other["shape"]):
        return 0.0
    if one["data"] == other["data"]:
        return 1.0
    if one["datatype"] == "BYTES":
        like = comparing_texts.alike if terms["compare"] == "text" else _equal
        return _mean(_texts(one["data"]), _texts(other["data"]), like)
    first, second = _array(one), _array(other)
    if first.dtype.kind != "f":
        return float((first == second).mean())
    first, second = first.astype(np.float64), second.astype(np.float64)  # the squares of FP16 are soon infinite
    match terms["compare"]:
        case "embeddings":
            return _cosine(first, second)
        case "labels":
            return _top(first, second, terms["top_k"])
        case _:
            return float(_close(first, second, terms["tolerance"]).mean())


def _close(first: Any, second: Any, tolerance: float) -> Any:  # noqa: ANN401 - arrays
    """Where numbers differ by no more than that share of the larger of them, or that much below 1."""
    with np.errstate(invalid="ignore"):  # infinities: equal ones are
        near = np.abs(first - second) <= tolerance * np.maximum(np.maximum(np.abs(first), np.abs(second)), 1.0)
    finite = np.isfinite(first) & np.isfinite(second)
    return (near & finite) | _same(first, second)


def _same(first: Any, second: Any) -> Any:  # noqa: ANN401 - arrays
    return (first == second) | (np.isnan(first) & np.isnan(second))


def _array(tensor: Tensor) -> Any:  # noqa: ANN401 - an array of any type
    return numbers_of(tensor["datatype"], tensor["data"]).reshape(tensor["shape"])


def _arrays(tensors: Sequence[Tensor]) -> dict[str, Any]:
    return {tensor["name"]: _array(tensor) for tensor in tensors if tensor["datatype"] != "BYTES"}


def _texts(data: bytes) -> list[bytes]:
    texts, place = [], 0
    while place + 4 <= len(data):
        size = int.from_bytes(data[place : place + 4], "little")
        texts.append(data[place + 4 : place + 4 + size])
        place += 4 + size
    return texts


def _equal(one: bytes, other: bytes) -> float:
    return float(one == other)


def _mean(one: Sequence[Any], other: Sequence[Any], like: Callable[[Any, Any], float]) -> float:
    """Of what belongs together; 0 if there is not as much of both."""
    if len(one) != len(other):
        return 0.0
    return sum(like(a, b) for a, b in zip(one, other, strict=True)) / len(one) if one else 1.0


def _names_boxes(tensors: Sequence[Tensor]) -> bool:
    return any(comparing_boxes.NAME in tensor["name"].lower() for tensor in tensors)


def _boxes(one: Sequence[Tensor], other: Sequence[Tensor]) -> float | None:
    """None: no boxes are found in either."""
    first, second = (comparing_boxes.boxes_in(_arrays(tensors)) for tensors in (one, other))
    return None if first is None or second is None else _mean(first, second, comparing_boxes.alike)


def _cosine(one: Any, other: Any) -> float:  # noqa: ANN401 - arrays
    """The mean cosine of rows, below 0 taken for 0; a row of what is no number is like itself only."""
    first, second = np.atleast_2d(one), np.atleast_2d(other)
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
        cosines = np.divide((first * second).sum(-1), norms, out=np.zeros_like(norms), where=norms > 0)
    cosines = np.where(_same(first, second).all(-1), 1.0, np.nan_to_num(cosines, nan=0.0))
    return float(np.clip(cosines, 0, 1).mean())


def _top(one: Any, other: Any, k: int) -> float:  # noqa: ANN401 - arrays
    """The share of the k best of each row that both have."""
    first, second = np.atleast_2d(one), np.atleast_2d(other)
    k = min(k, first.shape[-1])
    best = [np.argsort(-rows, axis=-1, kind="stable")[..., :k].reshape(-1, k) for rows in (first, second)]
    shared = [len(set(a) & set(b)) / k for a, b in zip(*best, strict=True)]
    return float(np.mean(shared))
