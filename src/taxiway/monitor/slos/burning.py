"""Alerts on how fast a budget burns, each over a long window and a short one.

The long window says that it matters, the short one that it still goes on, so that an alert ends soon after its cause
(B. Beyer et al., "The Site Reliability Workbook", 2018, chapter 5: multiwindow, multi-burn-rate alerts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from taxiway.monitor.slos.objectives import ALL, Objective
from taxiway.monitor.slos.recording import Rule, ratio_of


@dataclass(frozen=True, slots=True)
class Burn:
    """One pair of windows.

    Attributes:
        factor: times as fast as would use up the budget in its window, exactly.
    """

    long: str
    short: str
    factor: float


PAGE: Final = (Burn("1h", "5m", 14.4), Burn("6h", "30m", 6.0))
"""2 % of a 30 days' budget in an hour, 5 % in six."""
TICKET: Final = (Burn("1d", "2h", 3.0), Burn("3d", "6h", 1.0))
"""10 % in one day, or in three."""


def burn_alerts(objective: Objective, runbooks: str) -> list[Rule]:
    """One that pages, and one for the working day."""
    return [
        _alert(objective, "TaxiwayErrorBudgetBurnsFast", "page", PAGE, runbooks),
        _alert(objective, "TaxiwayErrorBudgetBurnsSlowly", "ticket", TICKET, runbooks),
    ]


def _alert(objective: Objective, name: str, severity: str, burns: Sequence[Burn], runbooks: str) -> Rule:
    owner: Mapping[str, str] = {"owner": objective.owner} if objective.owner else {}
    what = "answered in time" if objective.le else "answered"
    promised = f"{objective.ratio * 100:.10g} % of requests {what}"
    model = "{{ $labels.model }}" if objective.model == ALL else objective.model
    return {
        "alert": name,
        # One alert, whichever of the pairs fires: their series differ by their windows.
        "expr": f"max by (model) ({' or '.join(f'({_burns(objective, burn)})' for burn in burns)})",
        "labels": {**objective.labels, "severity": severity, "sloth_severity": severity, **owner},
        "annotations": {
            "summary": f"{model}: the error budget of {objective.name} burns too fast",
            "description": (
                f"{{{{ $value | humanizePercentage }}}} of the requests to {model} are bad; promised are {promised} "
                f"over {objective.window_days} days."
            ),
            "runbook_url": f"{runbooks}#{name.lower()}",
        },
    }


def _burns(objective: Objective, burn: Burn) -> str:
    """Bad over both windows, and by more than a handful of requests."""
    own = f'{{sloth_id="{objective.id}"}}'
    most = f"{burn.factor:g} * {objective.budget:.12g}"
    # The bad requests are at least so many: in a quiet hour one failed request is a share of everything.
    enough = f"({objective.bad('increase', burn.long)}) >= {objective.min_bad}"
    return (
        f"{ratio_of(burn.short)}{own} > ({most}) and on(model) {ratio_of(burn.long)}{own} > ({most}) "
        f"and on(model) {enough}"
    )
