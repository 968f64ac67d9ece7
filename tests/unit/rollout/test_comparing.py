"""How alike two answers are: the same ones are, different ones are not, and it does not matter which is asked first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.tensors import Datatype
from taxiway.core.traffic import Recorded
from taxiway.rollout import comparing_texts
from taxiway.rollout.comparing import agreement_of
from taxiway.rollout.comparing_boxes import MAX_BOXES

Arrays = Mapping[str, Any]


def _tensors(arrays: Arrays) -> tuple[dict[str, Any], ...]:
    told = []
    for name, values in arrays.items():
        if isinstance(values, list):
            data = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in values)
            told.append({"name": name, "datatype": "BYTES", "shape": [len(values)], "data": data})
            continue
        datatype = next(one for one in Datatype if one is not Datatype.BYTES and one.numpy_dtype == values.dtype)
        told.append({"name": name, "datatype": datatype.name, "shape": list(values.shape), "data": values.tobytes()})
    return tuple(told)


def agreement(one: Arrays, other: Arrays | None, compare: str = "auto", **more: Any) -> float:
    said = {"compare": compare, "tolerance": 1e-3, "top_k": 1, **more}
    others = None if other is None else _tensors(other)
    record = Recorded("control", 1, "", "", 0, 1.0, outputs=_tensors(one), other_arm="candidate", other=others)
    return agreement_of(record, said)


def f32(*values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


# --- numbers, labels, embeddings -------------------------------------------------------------------------------


def test_numbers_agree_within_the_tolerance() -> None:
    one = {"y": f32(1.0, 100.0, 0.0, np.nan)}
    assert agreement(one, {"y": f32(1.0005, 100.05, 0.0005, np.nan)}) == 1.0
    assert agreement(one, {"y": f32(1.1, 100.05, 0.0, np.nan)}) == 0.75
    assert agreement(one, {"y": f32(1.0, 100.0, 0.0, 5.0)}) == 0.75
    assert agreement(one, {"y": f32(1.1, 100.05, 0.0, np.nan)}, tolerance=0.2) == 1.0


def test_what_is_missing_or_of_another_kind_does_not_agree() -> None:
    one = {"y": f32(1.0, 2.0), "z": f32(1.0)}
    assert agreement(one, None) == 0.0
    assert agreement(one, {"y": f32(1.0, 2.0)}) == 0.5
    assert agreement(one, {"y": f32(1.0, 2.0), "z": np.asarray([1.0])}) == 0.5
    assert agreement(one, {"y": f32(1.0), "z": f32(1.0)}) == 0.5


def test_whole_numbers_agree_if_they_are_equal() -> None:
    assert agreement({"label": np.asarray([1, 2, 3, 4])}, {"label": np.asarray([1, 2, 3, 5])}) == 0.75


def test_labels_are_the_best_of_each_row() -> None:
    one = {"p": f32([0.1, 0.6, 0.3], [0.8, 0.1, 0.1])}
    other = {"p": f32([0.3, 0.4, 0.3], [0.3, 0.4, 0.3])}
    assert agreement(one, other, "labels") == 0.5
    assert agreement(one, other, "labels", top_k=2) == 0.75
    assert agreement(one, other, "labels", top_k=9) == 1.0


def test_embeddings_agree_by_their_direction() -> None:
    one = {"e": f32([1, 0], [0, 2])}
    assert agreement(one, {"e": f32([5, 0], [0, 1])}, "embeddings") == pytest.approx(1.0)
    assert agreement(one, {"e": f32([0, 1], [0, 1])}, "embeddings") == pytest.approx(0.5)
    assert agreement(one, {"e": f32([-1, 0], [0, 0])}, "embeddings") == 0.0


def test_embeddings_of_half_precision_agree_although_their_squares_are_too_large_for_it() -> None:
    one = np.linspace(-90, 90, 384, dtype=np.float16).reshape(1, -1)
    assert agreement({"e": one}, {"e": (one * 1.001).astype(np.float16)}, "embeddings") == pytest.approx(1.0, abs=1e-5)
    assert agreement({"e": one}, {"e": one[:, ::-1].copy()}, "embeddings") == 0.0


def test_rows_that_are_no_numbers_are_like_themselves_only() -> None:
    one = {"e": f32([np.inf, 1], [np.nan, 1], [1, 1])}
    assert agreement(one, {"e": f32([np.inf, 1], [1, 1], [1, 1])}, "embeddings") == pytest.approx(2 / 3)
    assert agreement(one, {"e": f32([np.inf, 1], [np.nan, 1], [1, 2])}) == pytest.approx(5 / 6)


def test_bf16_is_compared_as_the_numbers_that_it_holds() -> None:
    def bf16(*values: float) -> tuple[dict[str, Any], ...]:
        data = (f32(*values).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        return ({"name": "y", "datatype": "BF16", "shape": [len(values)], "data": data},)

    pair = Recorded("control", 1, "", "", 0, 1.0, outputs=bf16(1.0, 2.0), other_arm="candidate", other=bf16(1.01, 4.0))
    assert agreement_of(pair, {"compare": "numeric", "tolerance": 0.02, "top_k": 1}) == 0.5


VALUES = st.lists(st.floats(width=32), min_size=4, max_size=4)
HOW = st.sampled_from(["auto", "numeric", "labels", "embeddings", "boxes", "text"])
NAMES = st.sampled_from(["y", "boxes"])


@given(VALUES, VALUES, HOW, NAMES)
def test_whatever_is_compared_the_share_is_one_and_the_same_answer_agrees(
    one: list[float], other: list[float], compare: str, name: str
) -> None:
    first, second = ({name: f32(values), "scores": f32(0.5)} for values in (one, other))
    assert agreement(first, first, compare) == 1.0
    there, back = agreement(first, second, compare), agreement(second, first, compare)
    assert there == pytest.approx(back)
    assert 0.0 <= there <= 1.0


# --- texts -----------------------------------------------------------------------------------------------------


def test_texts_agree_by_their_words() -> None:
    one = {"t": ["The answer is forty-two.", "Yes"]}
    assert agreement(one, {"t": ["the  ANSWER is forty-two.\n", "yes"]}, "text") == 1.0
    assert agreement(one, {"t": ["the answer was forty-two.", "no"]}, "text") == pytest.approx(0.375)
    assert agreement(one, {"t": ["The answer is forty-two."]}, "text") == 0.0
    assert agreement(one, {"t": ["the answer is forty-two.", "Yes"]}) == 0.5, "without it they are labels"


def test_one_letter_may_be_written_in_two_ways_and_what_is_no_text_is_compared_as_it_is() -> None:
    assert comparing_texts.alike("café ﬁn".encode(), "cafe\u0301 fin".encode()) == 1.0
    assert comparing_texts.alike(b"\xff\xfe", b"\xff\xfe") == 1.0
    assert comparing_texts.alike(b"\xff\xfe", b"text") == 0.0
    assert comparing_texts.alike(b"", b" ") == 1.0
    assert 0.9 < comparing_texts.alike(b"dog bites man", b"man bites dog") < 1.0


def test_where_words_are_written_without_spaces_each_letter_counts() -> None:
    one, other = "今日は良い天気です。", "今日は悪い天気です。"
    assert comparing_texts.alike(one.encode(), other.encode()) == pytest.approx(0.9)
    assert comparing_texts.alike("版本2很好".encode(), "版本3很好".encode()) == pytest.approx(0.8)


@given(st.text(max_size=60), st.text(max_size=60))
def test_texts_are_as_alike_one_way_as_the_other(one: str, other: str) -> None:
    there, back = (comparing_texts.alike(a.encode(), b.encode()) for a, b in ((one, other), (other, one)))
    assert there == back
    assert 0.0 <= there <= 1.0
    assert comparing_texts.alike(one.encode(), one.encode()) == 1.0


# --- boxes -----------------------------------------------------------------------------------------------------

A, B, C = [0.0, 0, 10, 10], [20.0, 20, 40, 40], [100.0, 100, 120, 110]


def found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Arrays:
    return {
        "boxes": np.asarray(boxes, np.float32).reshape(-1, 4),
        "scores": np.asarray(scores, np.float32),
        "labels": np.asarray(classes, np.int64),
    }


def test_boxes_agree_if_class_and_place_do_in_any_order_and_number() -> None:
    one = found([A, B], [0.9, 0.8], [1, 2])
    assert agreement(one, found([B, A], [0.7, 0.6], [2, 1]), "boxes") == 1.0
    assert agreement(one, found([A, B, C], [0.9, 0.8, 0.7], [1, 2, 3]), "boxes") == pytest.approx(0.8)
    assert agreement(one, found([A, B], [0.9, 0.8], [1, 3]), "boxes") == 0.5
    assert agreement(one, found([A, C], [0.9, 0.8], [1, 2]), "boxes") == 0.5
    assert agreement(one, found([A], [0.9], [1]), "boxes") == pytest.approx(2 / 3)
    assert agreement(one, found([A, B, C], [0.9, 0.8, 0.1], [1, 2, 3]), "boxes") == 1.0, "it is not sure of the third"


def test_each_box_has_one_match() -> None:
    twice = found([A, A], [0.9, 0.8], [1, 1])
    assert agreement(found([A], [0.9], [1]), twice, "boxes") == pytest.approx(2 / 3)


def test_a_little_off_is_the_same_box_and_half_off_is_not() -> None:
    one = found([A], [0.9], [1])
    assert agreement(one, found([[1, 1, 11, 11]], [0.9], [1]), "boxes") == 1.0
    assert agreement(one, found([[5, 5, 15, 15]], [0.9], [1]), "boxes") == 0.0


def test_no_boxes_agree_with_no_boxes() -> None:
    assert agreement(found([], [], []), found([], [], []), "boxes") == 1.0
    assert agreement(found([], [], []), found([A], [0.9], [1]), "boxes") == 0.0


def test_one_tensor_of_boxes_scores_and_classes_is_known() -> None:
    one = {"output0": f32([[*A, 0.9, 1], [*B, 0.8, 2]])}
    other = {"output0": f32([[*B, 0.8, 2], [*A, 0.9, 1], [*C, 0.1, 0]])}
    assert agreement(one, other, "boxes") == 1.0


def test_scores_of_each_class_are_known_and_boxes_by_their_centers() -> None:
    logits = f32([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    one = {"logits": logits, "pred_boxes": f32([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1]])}
    moved = {"logits": logits, "pred_boxes": f32([[0.51, 0.5, 0.2, 0.2], [0.8, 0.8, 0.1, 0.1]])}
    assert agreement(one, one | {"x": f32(1)}, "boxes") == 1.0
    assert agreement(one, moved, "boxes") == 0.5


def test_of_a_detector_that_says_that_there_is_nothing_only_what_there_is_counts() -> None:
    chance = np.random.default_rng(0)
    logits = np.full((1, 50, 4), -5.0, np.float32)
    logits[..., 3] = 5.0
    logits[0, 0] = [9.0, 0.0, 0.0, 0.0]
    one, other = (chance.uniform(0.2, 0.8, (1, 50, 4)).astype(np.float32) for _ in range(2))
    other[0, 0] = one[0, 0]
    first, second = ({"pred_boxes": boxes, "pred_logits": logits} for boxes in (one, other))
    assert agreement(first, second, "boxes") == 1.0
    other[0, 0, :2] += 0.5
    assert agreement(first, {"pred_boxes": other, "pred_logits": logits}, "boxes") == 0.0


def test_of_two_tensors_that_could_be_boxes_the_one_that_is_called_so_is_it() -> None:
    one = {"classes": f32([0.9, 0, 0, 0], [0, 0.9, 0, 0]), "boxes": f32(A, B)}
    other = {"classes": f32([0, 0.9, 0, 0], [0.9, 0, 0, 0]), "boxes": f32(B, A)}
    assert agreement(one, other, "boxes") == 1.0


def test_without_a_word_boxes_are_what_is_called_so() -> None:
    one = found([A, B], [0.9, 0.8], [1, 2])
    assert agreement(one, found([A], [0.9], [1])) == pytest.approx(2 / 3)
    assert agreement(one, found([A], [0.9], [1]), "numeric") == 0.0
    assert agreement({"boxes": f32(A, B)}, {"boxes": f32(A, C)}) == 0.5, "without scores they are numbers"


def test_boxes_without_an_end_overlap_with_nothing() -> None:
    one = found([A, [0, 0, np.inf, np.inf], [np.nan] * 4], [0.9, 0.9, 0.9], [1, 1, 1])
    assert agreement(one, found([A], [0.9], [1]), "boxes") == 0.5
    assert agreement(one, one, "boxes") == 1.0


def test_answers_without_boxes_are_compared_as_numbers() -> None:
    assert agreement({"y": f32(1, 2)}, {"y": f32(1, 3)}, "boxes") == 0.5


def test_more_boxes_than_are_looked_at_cost_no_more() -> None:
    many = 20 * MAX_BOXES
    boxes = np.tile(f32(A), (many, 1)) + np.arange(many, dtype=np.float32)[:, None] * 20
    one = {"boxes": boxes, "scores": np.full(many, 0.9, np.float32)}
    assert agreement(one, {"boxes": boxes[::-1].copy(), "scores": np.full(many, 0.9, np.float32)}, "boxes") < 1.0
    assert agreement(one, {"boxes": boxes + 0.5, "scores": one["scores"]}, "boxes") == 1.0


def test_boxes_without_an_area_are_found_again_in_any_order() -> None:
    one = found([A, [5.0, 5, 5, 9]], [0.9, 0.8], [1, 2])
    assert agreement(one, found([[5.0, 5, 5, 9], A], [0.8, 0.9], [2, 1]), "boxes") == 1.0
    assert agreement(one, found([A, [5.0, 5, 5, 8]], [0.9, 0.8], [1, 2]), "boxes") == 0.5


CORNERS = st.lists(st.integers(0, 50).map(float), min_size=4, max_size=4).map(
    lambda at: [min(at[0], at[2]), min(at[1], at[3]), max(at[0], at[2]), max(at[1], at[3])]
)
FOUND = st.lists(st.tuples(CORNERS, st.floats(0, 1), st.integers(0, 2)), max_size=8).map(
    lambda boxes: found([b for b, _, _ in boxes], [s for _, s, _ in boxes], [c for _, _, c in boxes])
)


@given(FOUND, FOUND)
def test_boxes_are_as_alike_one_way_as_the_other(one: Arrays, other: Arrays) -> None:
    there, back = agreement(one, other, "boxes"), agreement(other, one, "boxes")
    assert there == pytest.approx(back)
    assert 0.0 <= there <= 1.0


@given(FOUND, FOUND, st.randoms())
def test_it_does_not_matter_in_which_order_boxes_are_told(one: Arrays, other: Arrays, chance: Any) -> None:
    order = list(range(len(one["scores"])))
    chance.shuffle(order)
    mixed = {name: values[order] for name, values in one.items()}
    assert agreement(mixed, other, "boxes") == pytest.approx(agreement(one, other, "boxes"))
