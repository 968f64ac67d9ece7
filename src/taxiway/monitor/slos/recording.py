"""Recording rules of an objective, under the names and labels of Sloth, whose dashboards work on them as they are."""

from __future__ import annotations

from typing import Any, Final

from taxiway.monitor.slos.objectives import Objective

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Those that alerts look at."""
_JOIN: Final = "on(sloth_id, model)"

Rule = dict[str, Any]


def recording_rules(objective: Objective) -> list[Rule]:
    """The error ratio over every window, and what is left of the budget."""
    return [*_ratios(objective), *_metadata(objective)]


def ratio_of(window: str) -> str:
    """The name of the error ratio over a window."""
    return f"slo:sli_error:ratio_rate{window}"


def _ratios(objective: Objective) -> list[Rule]:
    rules = [
        _rule(
            objective,
            ratio_of(window),
            f"({objective.bad('rate', window)}) / ({objective.total('rate', window)})",
            sloth_window=window,
        )
        for window in WINDOWS
    ]
    period = f"{objective.window_days}d"
    # Over a month of raw samples a query would be slow: what was recorded every few minutes stands for it.
    recorded = f'{ratio_of("5m")}{{sloth_id="{objective.id}"}}'
    mean = f"sum_over_time({recorded}[{period}]) / ignoring (sloth_window) count_over_time({recorded}[{period}])"
    return [*rules, _rule(objective, ratio_of(period), mean, sloth_window=period)]


def _metadata(objective: Objective) -> list[Rule]:
    own = f'{{sloth_id="{objective.id}"}}'
    period = ratio_of(f"{objective.window_days}d")
    known = objective.known()
    budget = f"{_JOIN} group_left slo:error_budget:ratio{own}"
    return [
        _rule(objective, "slo:objective:ratio", f"{known} * {objective.ratio:.12g}"),
        _rule(objective, "slo:error_budget:ratio", f"{known} * {objective.budget:.12g}"),
        _rule(objective, "slo:time_period:days", f"{known} * {objective.window_days}"),
        _rule(objective, "slo:current_burn_rate:ratio", f"{ratio_of('5m')}{own} / {budget}"),
        _rule(objective, "slo:period_burn_rate:ratio", f"{period}{own} / {budget}"),
        _rule(objective, "slo:period_error_budget_remaining:ratio", f"1 - slo:period_burn_rate:ratio{own}"),
        _rule(
            objective,
            "sloth_slo_info",
            known,
            sloth_mode="taxiway",
            sloth_objective=f"{objective.ratio * 100:.10g}",
            sloth_spec="taxiway/v1",
        ),
    ]


def _rule(objective: Objective, name: str, query: str, **labels: str) -> Rule:
    return {"record": name, "expr": query, "labels": {**objective.labels, **labels}}
