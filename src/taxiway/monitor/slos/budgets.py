"""What is left of error budgets, and how fast they burn, from what the control process saw itself.

The same windows and thresholds as the alerts for Prometheus (burning.py), so that the console and they say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from taxiway.monitor.history.rows import Row
from taxiway.monitor.slos.burning import PAGE, TICKET, Burn
from taxiway.monitor.slos.objectives import Objective
from taxiway.telemetry.histogram import LATENCY

Seen = Callable[[float], Row]
"""What was seen of the versions of a model in so many seconds until now."""
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
SHOWN: Final = ("5m", "1h", "6h", "3d")
_STAGE: Final = "request"


def budget_of(objective: Objective, model: str, seen: Seen) -> dict[str, Any]:
    """How an objective stands for one model.

    Args:
        objective: of that model, or of all others.
        model: its name.
        seen: see `Seen`.
    """
    known: dict[str, tuple[float, float]] = {}

    def events(window: str) -> tuple[float, float]:
        if window not in known:
            known[window] = events_in(seen(seconds_of(window)), objective.le)
        return known[window]

    window_s = objective.window_days * _SECONDS["d"]
    total, bad = events_in(seen(window_s), objective.le)
    spent = bad / (total * objective.budget) if total else 0.0
    return {
        "model": model,
        "name": objective.name,
        "kind": "latency" if objective.le else "availability",
        "objective": objective.ratio,
        "window_s": window_s,
        "good": round(total - bad),
        "bad": round(bad),
        "budget_left": 1.0 - spent,
        "burn": {str(seconds_of(window)): _burn(objective, *events(window)) for window in SHOWN},
        "state": _state(objective, events),
    }


def events_in(row: Row, le: str) -> tuple[float, float]:
    """All events that count, and the bad ones among them."""
    cells = row.buckets.get(_STAGE)
    answered = 0.0 if cells is None else float(cells.sum())
    if le:
        in_time = 0.0 if cells is None else float(cells[: LATENCY.le.index(le) + 1].sum())
        return answered, answered - in_time
    failed = max(0.0, (row.value("eps") - row.value("error.cancelled")) * row.seconds)
    return answered + failed, failed


def seconds_of(window: str) -> int:
    """Of `5m`, `6h`, `3d`."""
    return int(window[:-1]) * _SECONDS[window[-1]]


def _burn(objective: Objective, total: float, bad: float) -> float | None:
    """Times as fast as would use up the budget exactly; None: nothing came."""
    return bad / total / objective.budget if total else None


def _state(objective: Objective, events: Callable[[str], tuple[float, float]]) -> str:
    for state, burns in (("firing", PAGE), ("warning", TICKET)):
        if any(_burns(objective, burn, events) for burn in burns):
            return state
    return "ok"


def _burns(objective: Objective, burn: Burn, events: Callable[[str], tuple[float, float]]) -> bool:
    both: Sequence[tuple[float, float]] = [events(burn.long), events(burn.short)]
    fast = all((_burn(objective, *one) or 0.0) > burn.factor for one in both)
    return fast and both[0][1] >= objective.min_bad
