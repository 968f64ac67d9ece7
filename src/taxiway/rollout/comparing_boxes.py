"""How alike two answers of detectors are: which of the boxes that one found the other found too. Pure.

Boxes match if they are of the same class and overlap by half (intersection over union, as the benchmarks of detection
count a hit); the answer is the share of all boxes of both that have a match, which is the F1 score of either against
the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[Any]
MIN_SCORE: Final = 0.3
"""Boxes of which a detector is less sure than this are not looked at."""
MIN_OVERLAP: Final = 0.5
MAX_BOXES: Final = 300
"""Of one image; of more, those with the best scores."""
_CORNERS_SCORE_CLASS: Final = 6
NAME: Final = "box"
"""In the name of a tensor of boxes."""
_CENTERS: Final = ("pred_boxes", "cxcywh", "xywh")
"""In the names of tensors whose boxes are center and size, as DETR's; others are two corners."""


class Boxes:
    """The boxes of one image: corners, shape (n, 4), and classes, shape (n,)."""

    def __init__(self, corners: Array, scores: Array, classes: Array) -> None:
        sure = np.flatnonzero(np.nan_to_num(scores, nan=-1.0) >= MIN_SCORE)
        best = sure[np.argsort(-scores[sure], kind="stable")[:MAX_BOXES]]
        self.corners = corners[best].astype(np.float64)
        self.classes = classes[best]


def boxes_in(tensors: Mapping[str, Array]) -> list[Boxes] | None:
    """The boxes of each image; None: these tensors are laid out otherwise.

    Known are one tensor (..., n, 6) of corners, score and class; and a tensor (..., n, 4) of boxes beside scores
    (..., n) and classes (..., n), or beside scores of each class (..., n, classes), probabilities or logits. Logits
    beside centers are as DETR's: the last class is that there is nothing.
    """
    for tensor in tensors.values():
        if tensor.dtype.kind == "f" and tensor.ndim >= 2 and tensor.shape[-1] == _CORNERS_SCORE_CLASS:
            return [Boxes(one[:, :4], one[:, 4], one[:, 5]) for one in _by_image(tensor, 2)]
    place = _place_of_boxes(tensors)
    if place is None:
        return None
    boxes, centers = tensors[place], any(word in place.lower() for word in _CENTERS)
    others = [one for name, one in tensors.items() if name != place]
    scored = _scores_and_classes(others, boxes.shape[:-1], nothing_last=centers)
    if scored is None:
        return None
    corners = _corners(boxes) if centers else boxes
    images = zip(_by_image(corners, 2), _by_image(scored[0], 1), _by_image(scored[1], 1), strict=True)
    return [Boxes(*image) for image in images]


def _place_of_boxes(tensors: Mapping[str, Array]) -> str | None:
    """Of several that could be it, as where there are four classes, the one that is called so."""
    could = [name for name, one in tensors.items() if one.dtype.kind == "f" and one.ndim >= 2 and one.shape[-1] == 4]
    return next((name for name in could if NAME in name.lower()), could[0] if could else None)


def _by_image(tensor: Array, own: int) -> Array:
    """All that comes before the last `own` dimensions counts images."""
    images = int(np.prod(tensor.shape[:-own]))
    return tensor.reshape(images, *tensor.shape[-own:])


def _scores_and_classes(
    tensors: list[Array], shape: tuple[int, ...], *, nothing_last: bool
) -> tuple[Array, Array] | None:
    for one in tensors:
        if one.dtype.kind == "f" and one.ndim >= 2 and one.shape[:-1] == shape and one.shape[-1]:
            likely = _probabilities(one, nothing_last=nothing_last)
            return likely.max(axis=-1), likely.argmax(axis=-1)
    scores = [one for one in tensors if one.dtype.kind == "f" and one.shape == shape]
    classes = [one for one in tensors if one.dtype.kind in "iu" and one.shape == shape]
    return (scores[0], classes[0] if classes else np.zeros(shape, np.int64)) if scores else None


def _probabilities(scores: Array, *, nothing_last: bool) -> Array:
    if scores.size == 0 or (scores.min() >= 0 and scores.max() <= 1):
        return scores
    with np.errstate(invalid="ignore"):  # of what is no number no box is sure
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    return shares[..., :-1] if nothing_last and shares.shape[-1] > 1 else shares


def _corners(boxes: Array) -> Array:
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([center - half, center + half], axis=-1)


def alike(one: Boxes, other: Boxes) -> float:
    """The share of all boxes of both that have a match, 0 to 1; 1 if there are none."""
    total = len(one.classes) + len(other.classes)
    if not total:
        return 1.0
    overlap = _overlaps(one.corners, other.corners)
    hits = np.where((overlap >= MIN_OVERLAP) & (one.classes[:, None] == other.classes[None, :]), 1.0 + overlap, 0.0)
    rows, columns = linear_sum_assignment(-hits)
    return float(2 * (hits[rows, columns] > 0).sum() / total)


def _overlaps(one: Array, other: Array) -> Array:
    """Intersection over union of each pair, shape (n, m); boxes without an area overlap with nothing but their like."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    with np.errstate(invalid="ignore", over="ignore"):  # boxes that have no end overlap with nothing
        shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
        areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=-1) for boxes in (one, other)]
        union = areas[0][:, None] + areas[1][None, :] - shared
        overlap: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    same = (one[:, None, :] == other[None, :, :]).all(axis=-1)
    return np.where(same, 1.0, np.nan_to_num(overlap))
