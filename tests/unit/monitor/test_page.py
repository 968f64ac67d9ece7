"""The page of a watched version: it holds what the report does, runs nothing, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng

from taxiway.monitor.drift.columns import Column
from taxiway.monitor.drift.reference import Reference
from taxiway.monitor.drift.report import report_of
from taxiway.monitor.drift.watch import Watch, WatchPlan
from taxiway.monitor.page import report_page

DAY_NS = 86_400_000_000_000
PLAN = WatchPlan(reference_rows=1000, look_rows=200, reference_blocks=5)
HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>\x1b[2J"


class Elements(HTMLParser):
    """Which elements and attributes there are, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One more element."""
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """More text."""
        self.text += data


def report(*, shift: float = 0.0, name: str = "age") -> dict[str, Any]:
    chance = default_rng(1)

    def columns(rows: int, by: float) -> list[Column]:
        words = [name.encode() if one < 0.7 else b"fr" for one in chance.random(rows)]
        return [Column(name, "input", chance.normal(by, 1, rows)), Column("country", "input", words)]

    watch = Watch(PLAN, Reference.of(columns(3000, 0), "train.npz", 0))
    for day in range(12):
        watch.add(columns(400, shift), 400, day * DAY_NS)
    told = report_of("fraud", 3, watch)
    told["quality"]["labelled"] = {"rows": 20, "accuracy": 0.75, "low": 0.5, "high": 0.9}
    told["quality"]["slices"] = [{"slice": name, "value": name, "rows": 9, "accuracy": 0.5, "low": 0.2, "high": 0.8}]
    return json.loads(json.dumps(told))  # type: ignore[no-any-return] # as it comes over HTTP


def test_it_tells_what_is_known() -> None:
    steady, drifted = Elements(report_page(report())), Elements(report_page(report(shift=1.0)))
    assert "No drift was found." in steady.text
    assert "Rows are unlike the reference" in drifted.text
    for word in ("fraud, version 3", "train.npz", "3000 rows", "Accuracy", "0.7500", "country", "Where rows went"):
        assert word in drifted.text
    assert drifted.names.count("svg") == 4, "evidence, blocks, and two features"
    points = dict(drifted.attributes)["points"]
    assert points is not None
    assert np.isfinite([float(one) for one in re.split("[ ,]", points)]).all()


def test_of_one_that_learns_there_is_little_to_tell() -> None:
    page = Elements(report_page(report_of("fraud", 1, Watch(PLAN))))
    assert "It is learning what is usual: 0 of 1000 rows." in page.text
    assert "svg" not in page.names


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_names_and_values_are_text_and_nothing_is_fetched(shift: float) -> None:
    told = report(shift=shift, name=HOSTILE) | {"model": HOSTILE}
    told["reference"]["kind"] = HOSTILE
    page = report_page(told)
    elements = Elements(page)
    assert not {"script", "img", "link", "iframe"} & {*elements.names}
    assert not [name for name, _ in elements.attributes if name.startswith("on") or name in ("src", "href")]
    assert "\x1b" not in page
    assert not re.search(r"https?://|@import|url\(", page)
