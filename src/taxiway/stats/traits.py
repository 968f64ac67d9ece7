"""What can be counted of texts, pictures and long vectors: a few numbers of each, in which a change of them shows.

A text is told by its length and what it is written with; a picture by its light, contrast and sharpness; a vector by
its length and by what it is along a few random directions, which keep distances between distributions (W. Johnson,
J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984). Directions are drawn with a fixed
seed, so that they are the same today and in a year, here and on another machine.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DIRECTIONS: Final = 12
_SEED: Final = 20261127
_MOST_ELEMENTS: Final = 16_384
_LOOKED_AT: Final = 400
"""Characters by which a script is guessed."""
_SCRIPTS: Final = frozenset(
    {
        "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "THAI", "HANGUL",
        "HIRAGANA", "KATAKANA", "CJK", "ARMENIAN", "GEORGIAN", "ETHIOPIC",
    }
)  # fmt: skip
NO_SCRIPT: Final = "none"


def text_numbers(texts: Sequence[bytes]) -> dict[str, Floats]:
    """Of each text in UTF-8: characters, words, and shares of digits, of what is no letter, and of broken bytes [N]."""
    told = np.zeros((len(texts), 5))
    for at, content in enumerate(texts):
        text = content.decode("utf-8", "replace")
        size = max(len(text), 1)
        letters = sum(map(str.isalpha, text))
        digits = sum(map(str.isdigit, text))
        told[at] = (len(text), len(text.split()), digits / size, 1 - letters / size, text.count("\ufffd") / size)
    names = ("characters", "words", "digits", "no_letters", "broken")
    return {name: told[:, at] for at, name in enumerate(names)}


def script_of(content: bytes) -> str:
    """What most letters of a text are of, as `latin`: the nearest to its language that letters alone can tell."""
    text = content[: 4 * _LOOKED_AT].decode("utf-8", "ignore")[:_LOOKED_AT]
    found = Counter(script for one in text if one.isalpha() and (script := _script(one)))
    return found.most_common(1)[0][0] if found else NO_SCRIPT


@cache
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "").split(" ", 1)[0]
    return first.lower() if first in _SCRIPTS else "other"


def is_picture(shape: Sequence[int]) -> bool:
    """Whether rows of this shape (without their number) are pictures: [H, W], [C, H, W] or [H, W, C]."""
    if len(shape) == 2:
        return min(shape) >= 8
    return len(shape) == 3 and min(_sides(shape)) >= 8 and (shape[0] in (1, 3, 4) or shape[-1] in (1, 3, 4))


def picture_numbers(pictures: NDArray[Any]) -> dict[str, Floats]:
    """Of each picture [N, ...]: mean light, its deviation, how much neighbours differ, height and width [N]."""
    grey = _grey(pictures.astype(np.float64))
    height, width = grey.shape[1:]
    down = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2))
    across = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    return {
        "brightness": grey.mean(axis=(1, 2)),
        "contrast": grey.std(axis=(1, 2)),
        "sharpness": (down + across) / 2,
        "height": np.full(len(grey), float(height)),
        "width": np.full(len(grey), float(width)),
    }


def projections(vectors: NDArray[Any]) -> dict[str, Floats]:
    """Of each vector [N, D]: its length, and what it is along each of a few random directions [N].

    Of very long ones the first 16,384 elements count.
    """
    flat = vectors.reshape(len(vectors), -1)[:, :_MOST_ELEMENTS].astype(np.float64)
    along = flat @ _directions(flat.shape[1])
    told: dict[str, Floats] = {"length": np.sqrt((flat**2).sum(axis=1))}
    return told | {f"direction{at}": along[:, at] for at in range(DIRECTIONS)}


@cache
def _directions(size: int) -> Floats:
    return np.random.default_rng(_SEED).normal(0, size**-0.5, (size, DIRECTIONS))


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    return (shape[1], shape[2]) if shape[0] in (1, 3, 4) else (shape[0], shape[1])


def _grey(pictures: Floats) -> Floats:
    if pictures.ndim == 3:
        return pictures
    channels = 1 if pictures.shape[1] in (1, 3, 4) else 3
    grey: Floats = pictures.mean(axis=channels)
    return grey
