"""Frames of the event stream: what changed, and everything once other versions are there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from taxiway.control.console.frames import FIELDS, Frames, Moment
from taxiway.monitor.history.rows import CELLS, Key, Row

ONE: Key = ("version", "iris", "1")
TWO: Key = ("version", "iris", "2")


def _row(rps: float, **more: float) -> Row:
    cells = np.zeros(CELLS, np.int64)
    cells[10] = int(rps)
    return Row(1, {"rps": rps, "ready": 1.0, **more}, {"request": cells} if rps else {})


def _read(frame: bytes | None) -> tuple[str, dict[str, Any]]:
    assert frame is not None
    event, data = frame.decode().rstrip("\n").split("\n")
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_only_what_changed_is_told_again() -> None:
    frames = Frames("life")
    rows: dict[Key, Row] = {ONE: _row(5), TWO: _row(0)}
    assert frames.next(Moment(1000, rows)) is None
    kind, full = _read(frames.full({"iris": {"rps": np.array([1.0, np.nan])}}))
    assert (kind, full["epoch"], full["fields"]) == ("full", "life", list(FIELDS))
    assert [(one["model"], one["version"]) for one in full["versions"]] == [("iris", 1), ("iris", 2)]
    assert full["spark"]["iris"]["rps"] == [1.0, None]
    assert full["total"]["rps"] == 5
    assert (full["rollouts"], full["alerts"]) == ([], [])
    kind, delta = _read(frames.next(Moment(2000, {**rows, ONE: _row(7)})))
    assert (kind, delta["at_ms"], list(delta["v"])) == ("delta", 2000, ["0"])
    assert delta["v"]["0"][FIELDS.index("rps")] == 7
    assert "drift" not in delta
    _, quiet = _read(frames.next(Moment(3000, {**rows, ONE: _row(7)}, stale=True)))
    assert (quiet["v"], quiet["stale"]) == ({}, True)


def test_other_versions_and_parts() -> None:
    frames = Frames("life")
    rollouts = [{"id": "r1", "weights": {"baseline": 1.0}}]
    assert frames.next(Moment(1000, {ONE: _row(1)}, parts={"rollouts": rollouts})) is None
    _, delta = _read(frames.next(Moment(2000, {ONE: _row(1)}, parts={"rollouts": []})))
    assert delta["rollouts"] == []
    assert frames.next(Moment(3000, {ONE: _row(1), TWO: _row(1)})) is None
    drift = ("drift", "iris", "1")
    found = Row(1, {"evidence": 3.0, "threshold": 2.0, "alarm": 1.0, "alarm.rows": 1.0})
    _, delta = _read(
        frames.next(Moment(4000, {ONE: _row(1), TWO: _row(1), drift: found, ("gpu", "GPU-1", "0"): Row(1)}))
    )
    assert delta["drift"][0]["state"] == "drifted"
    assert delta["gpus"][0]["utilization"] is None
