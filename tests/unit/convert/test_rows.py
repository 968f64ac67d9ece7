"""Rows that a person gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.rows import read_samples
from taxiway.runtimes.hosted.tabular import MATRIX, Column

TWO = (Column(MATRIX, "FP32", 2),)
NAMED = (Column("age", "FP32"), Column("town", "BYTES"))


def test_an_array_of_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([[1, 2], [3, 4]]))
    samples = read_samples(tmp_path / "rows.npy", TWO)
    assert samples.rows[MATRIX].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert samples.origins == ["given", "given"]


@pytest.mark.parametrize("text", ["1,2\n3,\n", "a,b\n1,2\n3,\n"])
def test_a_table_with_and_without_names_and_a_gap(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    rows = read_samples(tmp_path / "rows.csv", TWO).rows[MATRIX]
    np.testing.assert_array_equal(rows, [[1, 2], [3, np.nan]])


def test_named_columns_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("town,more,age\nBern,x,3\nBasel,x,4\n", encoding="utf-8")
    rows = read_samples(tmp_path / "rows.csv", NAMED).rows
    assert rows["age"].tolist() == [[3.0], [4.0]]
    assert rows["town"].tolist() == [["Bern"], ["Basel"]]


def test_named_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", age=np.array([3, 4]), town=np.array(["Bern", "Basel"]))
    rows = read_samples(tmp_path / "rows.npz", NAMED).rows
    assert rows["town"].tolist() == [["Bern"], ["Basel"]]


@pytest.mark.parametrize(
    ("name", "text", "columns", "said"),
    [
        ("rows.csv", "1,2,3\n", TWO, r"rows of shape \(3,\) for 'X', not \(2,\)"),
        ("rows.csv", "age\n3\n", NAMED, "lacks 'town'"),
        ("rows.csv", "1,2\n3,4\n", NAMED, "rows without names cannot be the columns age, town"),
        ("rows.csv", "", TWO, "0 rows|rows of|\\[0\\] rows"),
        ("rows.csv", "1,2\n3,x\n", TWO, "rows.csv cannot be read: line 2: 'x' is no number"),
        ("rows.csv", "a,b\n\n1,2\n3\n", TWO, "rows.csv cannot be read: line 4 has 1 values, and the first 2"),
        ("rows.csv", "age,town\n3,Bern\n4\n", NAMED, "rows.csv cannot be read: line 3 has 1 values, and the first 2"),
        ("rows.csv", "age,town\n3,Bern\nx,Basel\n", NAMED, "rows.csv cannot be read: line 3: 'x' is no number"),
        ("rows.txt", "1,2\n", TWO, "is no .npy, .npz or .csv"),
        ("rows.npy", "no array", TWO, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, name: str, text: str, columns: tuple[Column, ...], said: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=said) as refused:
        read_samples(tmp_path / name, columns)
    assert refused.value.verdict.reason is Reason.BAD_SAMPLES


def test_a_pickle_in_an_array_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(Refused, match="cannot be read"):
        read_samples(tmp_path / "rows.npy", TWO)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_an_archive_that_is_cut_off_is_told(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "rows.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(50, 2)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(Refused, match=r"rows\.npz cannot be read"):
        read_samples(path, TWO)


def test_an_archive_whose_numbers_are_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(50, 2)))
    content = bytearray(path.read_bytes())
    content[100:200] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"rows\.npz cannot be read"):
        read_samples(path, TWO)
