"""Captured rows, written and asked with a real DuckDB: what is kept, what never is, and what is removed."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from taxiway.config.monitoring_capture import CaptureSettings
from taxiway.core.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from taxiway.core.samples import SampledRows
from taxiway.monitor.capture.capture import Capture
from taxiway.monitor.capture.files import files_in
from taxiway.monitor.capture.query import Answer, Limits, ask
from taxiway.monitor.drift.data import rows_of

DAY_NS = 86_400 * 10**9
NOW_NS = 20_000 * DAY_NS
LIMITS = Limits(rows=100, memory_bytes=256 << 20, timeout_s=60, files=1000)
X = np.arange(6, dtype=np.float32).reshape(3, 2)


def sampled(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any] | None = None, at_ns: int = NOW_NS, **more: Any
) -> SampledRows:
    """Each row is a request of its own."""
    rows = rows_of("fraud", 1, inputs, outputs or {})
    count = rows.rows
    own = {
        "ids": tuple(f"r{at}" for at in range(count)),
        "times_ns": (at_ns,) * count,
        "counts": (1,) * count,
        "ended_ns": at_ns,
        **more,
    }
    return msgspec.structs.replace(rows, **own)


def capture_in(folder: Path, features: Mapping[str, Sequence[str]] | None = None, **settings: Any) -> Capture:
    told = CaptureSettings(**{"models": ("*",), **settings})
    return Capture(told, folder / "capture", folder / "secret.key", {"fraud": features or {}})


def query(folder: Path, sql: str, limits: Limits = LIMITS) -> Answer:
    return ask(folder / "capture", sql, limits)


def points(capture: Capture) -> dict[str, Any]:
    return {point.family.name: point.value for point in capture.points()}


def test_rows_are_written_and_can_be_asked(tmp_path: Path) -> None:
    capture = capture_in(tmp_path)
    words = np.array([["a"], ["b'"], ["c\N{SNOWMAN}"]], dtype=object)
    whole = {"x": X, "w": np.char.encode(words.astype(str), "utf-8").astype(object), "n": np.arange(3)}
    capture.take(sampled(whole, {"x": X[:, :1] > 2}, counts=(2, 1), ids=("a", ""), times_ns=(NOW_NS, NOW_NS)))
    capture.close(NOW_NS)
    told = query(tmp_path, "select * from fraud")
    assert told.columns[:6] == ("model", "version", "arm", "request_id", "request_row", "answered_at")
    day = dt.datetime(2024, 10, 4)  # noqa: DTZ001 - as DuckDB tells a TIMESTAMP
    assert told.rows[1] == ("fraud", 1, None, "a", 1, day, [2.0, 3.0], ["b'"], 1, [False])
    assert told.rows[2] == ("fraud", 1, None, None, 0, day, [4.0, 5.0], ["c\N{SNOWMAN}"], 2, [True])
    assert told.columns[6:] == ("x", "w", "n", "x_output")
    assert points(capture)["taxiway_capture_rows_total"] == 3
    assert points(capture)["taxiway_capture_bytes"] == files_in(tmp_path / "capture")[0].nbytes


def test_elements_with_names_are_columns_of_their_own(tmp_path: Path) -> None:
    capture = capture_in(tmp_path, {"x": ["age", "version"]})
    capture.take(sampled({"x": X}))
    capture.close(NOW_NS)
    assert query(tmp_path, 'select age, "x[1]", version from requests').rows == [(0, 1, 1), (2, 3, 1), (4, 5, 1)]


def test_what_is_redacted_is_never_written(tmp_path: Path) -> None:
    redact = {"secret": "drop", "x[1]": "drop", "request_id": "hash", "w": "hash", "x[0]": "hash"}
    capture = capture_in(tmp_path, redact=redact)
    words = np.array([[b"Jane Roe"], [b"Jane Roe"], [b"John"]], dtype=object)
    capture.take(sampled({"x": X, "secret": X, "w": words}, {"secret": X}, ids=("SSN-1", "SSN-2", "")))
    capture.close(NOW_NS)
    told = query(tmp_path, "select * from requests")
    assert set(told.columns[6:]) == {"answered_at", "x[0]_hash", "w_hash"}
    assert query(tmp_path, "select count(distinct w_hash), count(request_id) from requests").rows == [(2, 0)]
    key = (tmp_path / "secret.key").read_bytes()
    framed = (8).to_bytes(4, "little") + b"Jane Roe"
    assert told.rows[0][-1] == blake2b(framed, digest_size=16, key=key).hexdigest()
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    (file,) = files_in(tmp_path / "capture")
    assert not any(word in file.path.read_bytes() for word in (b"Jane", b"SSN", b"secret"))


def test_hashes_are_the_same_after_a_restart(tmp_path: Path) -> None:
    for at in range(2):
        capture = capture_in(tmp_path, redact={"x": "hash"})
        capture.take(sampled({"x": X}))
        capture.close(NOW_NS + at)
    assert query(tmp_path, "select count(*), count(distinct x_hash) from fraud").rows == [(6, 3)]


def test_a_tensor_whose_element_cannot_be_told_apart_is_dropped_whole(tmp_path: Path) -> None:
    capture = capture_in(tmp_path, redact={"x[2000]": "drop"})
    capture.take(sampled({"x": np.zeros((2, 5000), np.float32), "y": np.zeros((2, 1), np.float32)}))
    capture.close(NOW_NS)
    assert query(tmp_path, "select * from fraud").columns[6:] == ("y",)


@pytest.mark.parametrize(("keep", "kept"), [(("y",), ("y",)), (("x",), ("age", "x[1]")), (("age",), ("age",))])
def test_only_what_is_to_be_kept_is(tmp_path: Path, keep: tuple[str, ...], kept: tuple[str, ...]) -> None:
    capture = capture_in(tmp_path, {"x": ["age"]}, keep=keep)
    capture.take(sampled({"x": X}, {"y": X}))
    capture.close(NOW_NS)
    assert query(tmp_path, "select * from fraud").columns[6:] == kept


def test_without_its_key_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"short")
    capture = capture_in(tmp_path, redact={"x": "hash"})
    capture.take(sampled({"x": X}))
    capture.close(NOW_NS)
    assert points(capture)["taxiway_capture_dropped_rows_total"] == 3
    assert files_in(tmp_path / "capture") == []


def test_only_the_models_that_were_named_are_captured(tmp_path: Path) -> None:
    capture = capture_in(tmp_path, models=("fraud",))
    capture.take(sampled({"x": X}))
    capture.take(sampled({"x": X}, model="other"))
    capture.close(NOW_NS)
    assert query(tmp_path, "select distinct model from requests").rows == [("fraud",)]
    assert not capture_in(tmp_path, models=()).is_on


def test_a_share_of_requests_is_captured_with_all_their_rows(tmp_path: Path) -> None:
    capture = capture_in(tmp_path, share=0.5)
    x = np.arange(2000, dtype=np.float32)
    capture.take(sampled({"x": x}, counts=(2,) * 1000, ids=tuple(map(str, range(1000))), times_ns=(NOW_NS,) * 1000))
    capture.close(NOW_NS)
    ((requests, rows),) = query(tmp_path, "select count(distinct request_id), count(*) from fraud").rows
    assert 400 < requests < 600
    assert rows == 2 * requests
    assert query(tmp_path, "select bool_and(x = request_id::int * 2 + request_row) from fraud").rows == [(True,)]


def test_a_file_is_written_after_rows_and_after_time(tmp_path: Path) -> None:
    capture = capture_in(tmp_path, rotate_rows=5, rotate_s=60)
    capture.take(sampled({"x": X}))
    capture.look(NOW_NS + 1)
    assert files_in(tmp_path / "capture") == []
    capture.take(sampled({"x": X}, at_ns=NOW_NS + 2))
    assert len(files_in(tmp_path / "capture")) == 1
    capture.take(sampled({"x": X}, at_ns=NOW_NS + 3))
    capture.look(NOW_NS + 61 * 10**9)
    assert len(files_in(tmp_path / "capture")) == 2


def test_what_is_old_or_too_much_is_removed_the_oldest_first(tmp_path: Path) -> None:
    capture = capture_in(tmp_path, rotate_rows=1, retention_days=2)
    for day in range(5):
        capture.take(sampled({"x": X}, at_ns=NOW_NS + day * DAY_NS))
    capture.look(NOW_NS + 4 * DAY_NS)
    kept = files_in(tmp_path / "capture")
    assert [(one.written_ns - NOW_NS) // DAY_NS for one in kept] == [2, 3, 4]
    assert len(list((tmp_path / "capture/fraud/1").iterdir())) == 3, "no empty folder is left"
    less = capture_in(tmp_path, max_bytes=kept[0].nbytes * 2 + 10)
    less.look(NOW_NS + 4 * DAY_NS)
    assert files_in(tmp_path / "capture") == kept[1:]
    assert points(less)["taxiway_capture_bytes"] == kept[1].nbytes + kept[2].nbytes


def test_where_nothing_can_be_written_rows_wait_and_are_dropped_then(tmp_path: Path) -> None:
    (tmp_path / "capture").write_text("in the way")
    capture = capture_in(tmp_path, rotate_rows=1, buffer_bytes=3000)
    for _ in range(20):
        capture.take(sampled({"x": X}))
    dropped = points(capture)["taxiway_capture_dropped_rows_total"]
    assert 0 < dropped < 60
    (tmp_path / "capture").unlink()
    capture.look(NOW_NS + 11 * 10**9)
    assert query(tmp_path, "select count(*) from requests").rows == [(60 - dropped,)]
    assert points(capture)["taxiway_capture_rows_total"] == 60 - dropped


FULL = """
import resource, sys
from pathlib import Path
from tests.unit.monitor.capture.test_capture import NOW_NS, X, capture_in, points, sampled
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
capture = capture_in(Path(sys.argv[1]), rotate_rows=1)
capture.take(sampled({"x": X}))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(len(list((Path(sys.argv[1]) / "capture").rglob("*.*"))))
capture.close(NOW_NS)
print(points(capture)["taxiway_capture_rows_total"])
"""


def test_a_file_that_finds_no_room_is_survived(tmp_path: Path) -> None:
    """The system lets the process write no more than some bytes: as a full disk, in the middle of a file."""
    root = str(Path(__file__).parents[4])
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
    assert told.stdout.split() == ["0", "3"], told.stderr
    assert query(tmp_path, "select count(*) from requests").rows == [(3,)]


def test_drafts_are_no_files_and_old_ones_are_removed(tmp_path: Path) -> None:
    capture = capture_in(tmp_path)
    capture.take(sampled({"x": X}))
    capture.close(NOW_NS)
    folder = files_in(tmp_path / "capture")[0].path.parent
    old, new, hidden = folder / ".1.2.draft", folder / ".1.3.draft", folder / ".000000-1.parquet"
    for draft in (old, new, hidden):
        draft.write_bytes(b"PAR1 and no more")
    os.utime(old, (1, 1))
    capture.look(NOW_NS)
    assert query(tmp_path, "select count(*) from requests").rows == [(3,)]
    assert not old.exists()
    assert new.exists()


def test_versions_whose_columns_differ_are_told_together(tmp_path: Path) -> None:
    capture = capture_in(tmp_path)
    capture.take(sampled({"x": X, "lone": X[:, 0]}))
    capture.take(sampled({"x": X[:, 0]}, version=2))
    capture.take(sampled({"x": X}, model="requests"))
    capture.take(sampled({"x": X}, model="a.b-c"))
    capture.close(NOW_NS)
    told = query(tmp_path, "select version, x, lone from fraud order by all limit 1")
    assert told.rows == [(1, "[0.0, 1.0]", 0.0)]
    assert query(tmp_path, 'select count(*) from "a.b-c"').rows == [(3,)]
    assert query(tmp_path, "select count(*), count(distinct model) from requests").rows == [(12, 3)]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("copy (select 1) to 'CAPTURE/stolen.csv'", "no SELECT"),
        ("attach 'CAPTURE/own.db'", "no SELECT"),
        ("drop view requests", "no SELECT"),
        ("set memory_limit = '90GB'", "no SELECT"),
        ("select 1; select 2", "2 statements"),
        ("", "0 statements"),
        ("explain analyze copy (select 1) to 'CAPTURE/x'", "no SELECT"),
        ("select * from read_text('/etc/hostname')", "Cannot access"),
        ("select * from read_text('CAPTURE/../secret.key')", "Cannot access"),
        ("select * from glob('/*')", "Cannot access"),
        ("select * from os", "does not exist"),
        ("select nothing from requests", "nothing"),
        ("with a as (copy (select 1) to 'CAPTURE/x') select * from a", "not allowed"),
        ("select * from (with a as (copy (select 1) to 'CAPTURE/x') select * from a)", "must be at the top"),
        ("with a as (insert into requests values (1) returning *) select * from a", "not allowed"),
        ("selec 1", "syntax error"),
    ],
)
def test_a_query_reads_captured_requests_and_nothing_else(tmp_path: Path, sql: str, word: str) -> None:
    capture = capture_in(tmp_path)
    capture.take(sampled({"x": X}))
    capture.close(NOW_NS)
    (tmp_path / "secret.key").write_bytes(b"key")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidArgument) as told:
        query(tmp_path, sql.replace("CAPTURE", str(tmp_path / "capture")))
    assert word in told.value.message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_query_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        query(tmp_path, "select 1")
    capture = capture_in(tmp_path, rotate_rows=1)
    for at in range(4):
        capture.take(sampled({"x": X}, at_ns=NOW_NS + at))
    told = query(tmp_path, "select * from requests", Limits(2, 256 << 20, 60, files=3))
    assert (len(told.rows), told.is_cut, told.files_left_out) == (2, True, 1)
    endless = "select sum(a.range * b.range) from range(10000000) a, range(10000000) b"
    with pytest.raises(DeadlineExceeded):
        query(tmp_path, endless, Limits(2, 256 << 20, 0.2, 3))
    with pytest.raises(FailedPrecondition):
        query(tmp_path, "select list(range) from range(100000000)", Limits(2, 32 << 20, 60, 3))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "capture/fraud/1/2024-10-04/000000-5.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no Parquet")
    with pytest.raises((FailedPrecondition, InvalidArgument), match=r"000000-5\.parquet"):
        query(tmp_path, "select 1")
