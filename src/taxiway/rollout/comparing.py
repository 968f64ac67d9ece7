"""How alike two answers to the same request are: of a shadow, and of the version that answered. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from taxiway.core.tensors import Datatype
from taxiway.core.traffic import Recorded
from taxiway.rollout import comparing_boxes, comparing_texts

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
    others = {tensor["name"]: tensor for tensor in record.other}
    if terms["compare"] == "boxes":
        found = _boxes(record.outputs, record.other)
        if found is not None:
            return found
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
    match terms["compare"]:
        case "embeddings":
            return _cosine(first, second)
        case "labels":
            return _top(first, second, terms["top_k"])
        case _:
            close = np.isclose(second, first, rtol=terms["tolerance"], atol=terms["tolerance"], equal_nan=True)
            return float(close.mean())


def _array(tensor: Tensor) -> Any:  # noqa: ANN401 - an array of any type
    datatype = Datatype.by_name(tensor["datatype"])
    assert datatype is not None  # noqa: S101 - the data plane names no others
    return np.frombuffer(tensor["data"], datatype.numpy_dtype).reshape(tensor["shape"])


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


def _boxes(one: Sequence[Tensor], other: Sequence[Tensor]) -> float | None:
    """None: no boxes are found in either."""
    arrays = [
        {told["name"]: _array(told) for told in tensors if told["datatype"] != "BYTES"} for tensors in (one, other)
    ]
    first, second = (comparing_boxes.boxes_in(tensors) for tensors in arrays)
    return None if first is None or second is None else _mean(first, second, comparing_boxes.alike)


def _cosine(one: Any, other: Any) -> float:  # noqa: ANN401 - arrays
    """The mean cosine of rows, below 0 taken for 0."""
    first, second = np.atleast_2d(one), np.atleast_2d(other)
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    cosines = np.divide((first * second).sum(-1), norms, out=np.zeros_like(norms), where=norms > 0)
    return float(np.clip(cosines, 0, 1).mean())


def _top(one: Any, other: Any, k: int) -> float:  # noqa: ANN401 - arrays
    """The share of the k best of each row that both have."""
    first, second = np.atleast_2d(one), np.atleast_2d(other)
    k = min(k, first.shape[-1])
    best = [np.argsort(-rows, axis=-1, kind="stable")[..., :k].reshape(-1, k) for rows in (first, second)]
    shared = [len(set(a) & set(b)) / k for a, b in zip(*best, strict=True)]
    return float(np.mean(shared))
