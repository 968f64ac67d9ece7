"""What a server told of its requests, as a workload: sorted, within the limits, and there whatever happens."""

from __future__ import annotations

import base64
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taxiway.core.tensors import Datatype
from taxiway.profile.recording import RecordedWorkload
from taxiway.profile.workload import Limits, read_workload


def told(arrived_ns: int, values: Any, datatype: str = "FP32") -> dict[str, Any]:
    array = np.array(values, Datatype.by_name(datatype).numpy_dtype)  # type: ignore[union-attr]
    raw = base64.b64encode(array.tobytes()).decode()
    return {
        "arrived_ns": arrived_ns,
        "inputs": [{"name": "x", "datatype": datatype, "shape": [len(array)], "raw": raw}],
    }


def data_of(path: Path, limits: Limits = Limits()) -> list[Any]:  # noqa: B008 - frozen
    return [(one.inputs or [{}])[0].get("data") for one in read_workload(path, limits).requests]


def test_requests_of_several_processes_are_sorted_by_time(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    with RecordedWorkload(path, "here") as recorded:
        for arrived_ns, value in ((7_500_000_000, 3), (5_000_000_000, 1), (6_000_000_000, 2), (9_000_000_001, 4)):
            recorded.take(told(arrived_ns, [value, value + 0.5]))
        recorded.finish()
    found = read_workload(path)
    assert found.source == "here"
    assert [one.at_s for one in found.requests] == [0, 1, 2.5, 4]
    assert data_of(path) == [[1, 1.5], [2, 2.5], [3, 3.5], [4, 4.5]]
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.jsonl"]


@pytest.mark.parametrize(
    ("datatype", "values", "read"),
    [
        ("FP16", [0.5, -2], [0.5, -2]),
        ("FP64", [0.1], [0.1]),
        ("BF16", [0x3F80, 0xC000], [1, -2]),
        ("INT64", [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("BOOL", [True, False], [True, False]),
        ("UINT8", [], []),
        ("FP32", [float("nan")], None),
        ("FP16", [float("inf")], None),
    ],
)
def test_content_of_every_kind_is_kept(tmp_path: Path, datatype: str, values: list[Any], read: list[Any]) -> None:
    with RecordedWorkload(tmp_path / "w.jsonl", "here") as recorded:
        recorded.take(told(0, values, datatype))
        recorded.finish()
    assert data_of(tmp_path / "w.jsonl") == [read]


def test_texts_are_kept_unless_they_are_none(tmp_path: Path) -> None:
    with RecordedWorkload(tmp_path / "w.jsonl", "here") as recorded:
        for texts in ([b"a\xc3\xa9", b""], [b"\xff", b""]):
            raw = [base64.b64encode(text).decode() for text in texts]
            recorded.take({"arrived_ns": 0, "inputs": [{"name": "t", "datatype": "BYTES", "shape": [2], "raw": raw}]})
        recorded.finish()
    assert data_of(tmp_path / "w.jsonl") == [["aé", ""], None]


@pytest.mark.parametrize("limits", [Limits(max_bytes=1000), Limits(max_requests=9)])
def test_it_is_full_before_it_could_not_be_read(tmp_path: Path, limits: Limits) -> None:
    with RecordedWorkload(tmp_path / "w.jsonl", "here", limits) as recorded:
        while not recorded.is_full:
            recorded.take(told(recorded.count * 123_456_789, [1.25]))
        recorded.finish()
    assert len(read_workload(tmp_path / "w.jsonl", limits).requests) == recorded.count >= 8


def test_content_that_no_line_holds_is_left_out(tmp_path: Path) -> None:
    limits = Limits(max_line_bytes=200)
    with RecordedWorkload(tmp_path / "w.jsonl", "here", limits) as recorded:
        recorded.take(told(0, [0.123456] * 100))
        recorded.take(told(1, [0.5]))
        recorded.finish()
    assert recorded.shortened == 1
    assert data_of(tmp_path / "w.jsonl", limits) == [None, [0.5]]


def test_what_cannot_be_finished_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    with RecordedWorkload(path, "here") as recorded:
        recorded.take(told(5, [0.5]))
        path.mkdir()
        with pytest.raises(OSError, match="directory"):
            recorded.finish()
    assert data_of(recorded.lines_at) == [[0.5]]


def test_a_disk_that_is_full_costs_only_what_did_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordedWorkload(path, "here") as recorded:
        recorded.take(told(0, [0.25]))
        recorded.take(told(1_000_000_000, [0.5]))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (recorded.lines_at.stat().st_size + 10, before[1]))
            with pytest.raises(OSError, match="too large"):
                recorded.take(told(2_000_000_000, [0.75] * 100))
            with pytest.raises(OSError, match="too large"):
                recorded.finish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert data_of(recorded.lines_at) == [[0.25], [0.5]]
        recorded.finish()
    assert data_of(path) == [[0.25], [0.5]]
