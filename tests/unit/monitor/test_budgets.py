"""Error budgets by hand: what is bad, how fast that goes, and when it is said."""

from __future__ import annotations

import numpy as np
import pytest

from taxiway.config.monitoring_slos import LatencyObjective, ModelSlos
from taxiway.control.console.slos import together
from taxiway.monitor.history.rows import BOUNDS_S, CELLS, Row
from taxiway.monitor.slos.budgets import budget_of
from taxiway.monitor.slos.objectives import objectives_of

SLOS = {"fraud": ModelSlos(availability_percent=99, latency=(LatencyObjective(percent=90, under_ms=100),))}
AVAILABILITY, LATENCY = objectives_of(SLOS)


def _row(seconds: int, fast: int, slow: int = 0, failed: int = 0, cancelled: int = 0) -> Row:
    cells = np.zeros(CELLS, np.int64)
    cells[BOUNDS_S.index(0.1)] = fast
    cells[BOUNDS_S.index(0.1) + 1] = slow
    values = {"eps": (failed + cancelled) / seconds, "error.cancelled": cancelled / seconds}
    return Row(seconds, values, {"request": cells})


def test_failures_count_against_availability_and_late_answers_against_latency() -> None:
    row = _row(300, fast=980, slow=10, failed=10, cancelled=500)
    told = budget_of(AVAILABILITY, "fraud", lambda _span_s: row)
    assert (told["good"], told["bad"], told["kind"]) == (990, 10, "availability")
    assert told["budget_left"] == pytest.approx(0.0)
    assert told["burn"]["3600"] == pytest.approx(1.0)
    assert told["state"] == "ok"
    late = budget_of(LATENCY, "fraud", lambda _span_s: row)
    assert (late["good"], late["bad"]) == (980, 10)
    assert late["burn"]["300"] == pytest.approx(10 / 990 / 0.1)


@pytest.mark.parametrize(("failed", "state"), [(0, "ok"), (9, "ok"), (40, "warning"), (150, "firing")])
def test_a_budget_that_burns_fast_over_both_windows_is_said(failed: int, state: str) -> None:
    told = budget_of(AVAILABILITY, "fraud", lambda _span_s: _row(300, fast=1000 - failed, failed=failed))
    assert told["state"] == state


def test_what_is_over_already_is_not_said() -> None:
    told = budget_of(
        AVAILABILITY, "fraud", lambda span_s: _row(300, 1000) if span_s <= 6 * 3600 else _row(300, 800, 0, 200)
    )
    assert told["state"] == "ok"
    quiet = budget_of(AVAILABILITY, "fraud", lambda _span_s: Row(0))
    assert (quiet["budget_left"], quiet["state"], quiet["burn"]["300"]) == (1.0, "ok", None)


def test_versions_side_by_side_add_up() -> None:
    whole = together([_row(300, 10, failed=30), _row(100, 10, failed=10)])
    assert whole.seconds == 300
    assert whole.value("eps") * whole.seconds == pytest.approx(40)
