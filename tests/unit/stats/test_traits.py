"""Texts, pictures and vectors told by a few numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from taxiway.stats.traits import (
    DIRECTIONS,
    is_picture,
    picture_numbers,
    projections,
    script_of,
    text_numbers,
)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("The quick brown fox", "latin"),
        ("Съешь ещё этих мягких французских булок", "cyrillic"),
        ("天地玄黄宇宙洪荒", "cjk"),
        ("いろはにほへと", "hiragana"),
        ("안녕하세요 세계", "hangul"),
        ("مرحبا بالعالم", "arabic"),
        ("12345 !?", "none"),
        ("", "none"),
    ],
)
def test_a_script_is_told_by_its_letters(text: str, script: str) -> None:
    assert script_of(text.encode()) == script


def test_texts_are_told_by_length_and_letters() -> None:
    told = text_numbers([b"two words", b"1234", b"", b"\xff\xfe"])
    assert told["characters"].tolist() == [9, 4, 0, 2]
    assert told["words"].tolist() == [2, 1, 0, 1]
    assert told["digits"].tolist() == [0, 1, 0, 0]
    assert told["broken"].tolist() == [0, 0, 0, 1]


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_are_a_text(texts: list[bytes]) -> None:
    assert all(np.isfinite(one).all() for one in text_numbers(texts).values())
    assert all(isinstance(script_of(text), str) for text in texts)


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((28, 28), True),
        ((3, 224, 224), True),
        ((64, 64, 3), True),
        ((384,), False),
        ((2, 512), False),
        ((7, 9, 11), False),
    ],
)
def test_what_a_picture_is(shape: tuple[int, ...], picture: bool) -> None:
    assert is_picture(shape) is picture


def test_light_and_sharpness_of_real_pictures() -> None:
    digits = load_digits().images[:200]
    usual, light = picture_numbers(digits), picture_numbers(digits + 3)
    np.testing.assert_allclose(light["brightness"], usual["brightness"] + 3)
    np.testing.assert_allclose(light["contrast"], usual["contrast"])
    blurred = (digits + np.roll(digits, 1, axis=1) + np.roll(digits, 1, axis=2)) / 3
    assert (picture_numbers(blurred)["sharpness"] < usual["sharpness"]).all()
    channels = picture_numbers(np.repeat(digits[:, None], 3, axis=1))
    np.testing.assert_allclose(channels["brightness"], usual["brightness"])
    assert (usual["height"][0], usual["width"][0]) == (8, 8)


def test_directions_are_the_same_for_ever_and_keep_lengths() -> None:
    vectors = np.random.default_rng(1).normal(size=(500, 384))
    told = projections(vectors)
    assert len(told) == 1 + DIRECTIONS
    assert told["direction0"][0] == pytest.approx(projections(vectors[:1])["direction0"][0])
    along = np.stack([told[f"direction{at}"] for at in range(DIRECTIONS)])
    assert (along**2).mean() == pytest.approx((vectors**2).mean(), rel=0.1)
