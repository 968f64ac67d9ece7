"""Data are read, held against the model, and split so that nothing judges what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument, InvalidData, NotEnoughData, NotFound, OverlappingData
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.optimize.data.reading import read_samples
from taxiway.optimize.data.samples import Group, Samples
from taxiway.optimize.data.splitting import FEWEST, SCREENED, split, split_beside
from taxiway.optimize.data.store import load_samples, write_samples

X = TensorSpec("x", Datatype.FP32, (-1, 4))
RATE = TensorSpec("rate", Datatype.INT64, ())


def rows(count: int, start: int = 0) -> np.ndarray[Any, Any]:
    return np.arange(start * 4, (start + count) * 4, dtype=np.float32).reshape(count, 4)


def samples(count: int, start: int = 0) -> Samples:
    return Samples((Group({"x": rows(count, start)}, np.arange(count), whole=False),))


def save(path: Path, **arrays: Any) -> str:
    np.savez(path, allow_pickle=False, **arrays)
    return str(path)


def test_rows_with_labels_are_read(tmp_path: Path) -> None:
    read = read_samples(save(tmp_path / "d.npz", x=rows(5), label=np.arange(5)), [X])
    assert (len(read), read.labelled) == (5, True)
    assert [len(call["x"]) for call in read.calls(2)] == [2, 2, 1]


def test_whole_calls_have_one_axis_more(tmp_path: Path) -> None:
    read = read_samples(save(tmp_path / "d.npz", x=rows(6).reshape(3, 2, 4), rate=np.full(3, 16000)), [X, RATE])
    assert [(call["x"].shape, call["rate"].shape) for call in read.calls(16)] == [((2, 4), ())] * 3


def test_a_directory_may_hold_several_shapes(tmp_path: Path) -> None:
    wide = TensorSpec("x", Datatype.FP32, (-1, -1))
    save(tmp_path / "a.npz", x=np.ones((3, 4), dtype=np.float32))
    save(tmp_path / "b.npz", x=np.ones((2, 7), dtype=np.float32))
    assert [len(group) for group in read_samples(str(tmp_path), [wide]).groups] == [3, 2]


def test_a_function_gives_samples(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import numpy as np\ndef rows():\n    yield {'x': np.ones((3, 4), 'f4')}\n")
    assert len(read_samples(f"{tmp_path}/mine.py:rows", [X])) == 3


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    broken = rows(4)
    broken[2, 1] = np.nan
    save(tmp_path / "a.npz", x=broken)
    save(tmp_path / "b.npz", x=np.ones((2, 5), dtype=np.float32))
    save(tmp_path / "c.npz", y=rows(2), z=rows(2))
    with pytest.raises(InvalidData) as caught:
        read_samples(str(tmp_path), [X])
    said = caught.value.message
    assert "a.npz: x holds 1 values that are NaN or infinite, first in sample 2" in said
    assert "b.npz: x is [2, 5], not [-1, 4]" in said
    assert "c.npz: no array for the input x" in said
    assert "z: the model has no such input" in said
    assert "x: FP32[-1, 4]" in caught.value.hint


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.array([["a", "b", "c", "d"]])}, "is of dtype <U1, not float32"),
        ({"x": np.zeros((3, 4), dtype=np.float32), "label": np.arange(2)}, "different numbers of samples"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidData, match=said):
        read_samples(save(tmp_path / "d.npz", **arrays), [X])


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"no archive")
    with pytest.raises(InvalidData, match="cannot be read"):
        read_samples(str(tmp_path / "d.npz"), [X])
    with pytest.raises(NotFound):
        read_samples(str(tmp_path / "e.npz"), [X])
    with pytest.raises(InvalidArgument, match="neither an"):
        read_samples("calib.csv", [X])
    with pytest.raises(NotFound, match="there is no function"):
        read_samples("nowhere_to_be_found:rows", [X])


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidData, match="cannot be read"):
        read_samples(str(tmp_path / "d.npz"), [X])


@given(st.integers(3 * FEWEST + 5, 400), st.lists(st.integers(0, 59), max_size=60))
def test_no_sample_and_no_copy_of_it_stands_in_two_parts(count: int, copies: list[int]) -> None:
    doubled = np.concatenate([rows(count), *(rows(1, at) for at in copies)])
    made = Samples((Group({"x": doubled}, None, whole=False),))
    try:
        parts = split(made)
    except NotEnoughData:
        assert count < 4 * FEWEST
        return
    digests = [set(part.digests()) for part in (parts.calibrating, parts.choosing, parts.proving)]
    assert not digests[0] & digests[1]
    assert not digests[0] & digests[2]
    assert not digests[1] & digests[2]
    assert sum(map(len, (parts.calibrating, parts.choosing, parts.proving))) == count
    assert all(
        len(part) == len(found)
        for part, found in zip((parts.calibrating, parts.choosing, parts.proving), digests, strict=True)
    )


def test_copies_are_no_evidence() -> None:
    few = samples(30)
    with pytest.raises(NotEnoughData, match="different samples"):
        split(few.take([at % 30 for at in range(3000)]))
    with pytest.raises(NotEnoughData, match="10 different samples"):
        split_beside(
            samples(200), Samples((Group({"x": np.tile(rows(10, 500), (50, 1))}, np.zeros(500), whole=False),))
        )


def test_few_of_those_that_choose_screen_from_all_shapes() -> None:
    wide = Group({"x": rows(300).reshape(200, 6)}, None, whole=False)
    parts = split(Samples((Group({"x": rows(600, 1000)}, None, whole=False), wide)))
    assert [len(group) > 4 for group in parts.screening.groups] == [True, True]
    assert len(parts.screening) == SCREENED


def test_rows_of_a_model_that_takes_one_at_a_time_are_calls(tmp_path: Path) -> None:
    one = TensorSpec("x", Datatype.FP32, (1, 4))
    read = read_samples(save(tmp_path / "d.npz", x=rows(5), label=np.arange(5)), [one])
    assert [call["x"].shape for call in read.calls(16)] == [(1, 4)] * 5
    with pytest.raises(InvalidData, match="x takes 3 rows at a time, no more and no less: give whole calls"):
        read_samples(str(tmp_path / "d.npz"), [TensorSpec("x", Datatype.FP32, (3, 4))])


@pytest.mark.parametrize("size", [10, 5000])
def test_one_other_label_is_another_truth(size: int) -> None:
    labels = np.zeros((4, size))
    other = labels.copy()
    other[2, size // 2] = 1e-12
    first, second = (Samples((Group({"x": rows(4)}, one, whole=False),)) for one in (labels, other))
    assert first.label_digest() != second.label_digest()


def test_too_few_are_refused() -> None:
    with pytest.raises(NotEnoughData, match="which takes at least"):
        split(samples(30))


def test_a_proof_on_what_was_learnt_from_is_refused() -> None:
    with pytest.raises(OverlappingData, match="2 of 100 samples are in the data as well") as caught:
        split_beside(samples(200), samples(100, start=198))
    assert caught.value.facts["overlapping"] == 2


def test_data_given_apart_prove() -> None:
    parts = split_beside(samples(200), samples(100, start=200))
    assert len(parts.proving) == 100


def test_samples_keep_their_order_and_text_through_a_file(tmp_path: Path) -> None:
    words = np.array([b"one", b"two"], dtype=object)
    made = Samples(
        (Group({"w": words}, np.array(["a", "b"]), whole=False), Group({"w": words[:1]}, np.array(["c"]), whole=True))
    )
    write_samples(made, tmp_path / "s")
    read = load_samples(tmp_path / "s")
    assert [list(group.inputs["w"]) for group in read.groups] == [[b"one", b"two"], [b"one"]]
    assert [group.whole for group in read.groups] == [False, True]
    assert [str(label) for label in read.labels()] == ["a", "b", "c"]
