"""What a dashboard shows, whatever draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["timeseries", "stat", "bargauge", "heatmap", "table"]
Unit = Literal["short", "reqps", "s", "percentunit", "bytes", "watt", "celsius", "percent", "ops"]

COLUMNS: Final = 24
"""Of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: in PromQL; `$__rate_interval` and the dashboard's variables are filled in by Grafana.
        legend: with labels as `{{model}}`.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        description: what it says, and what to do when it looks bad.
        width, height: in cells of the grid.
        limits: values from which a number is drawn as a warning, and as bad.
        top: the top of its axis; None: as high as the values.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Kind = "timeseries"
    width: int = 12
    height: int = 8
    limits: tuple[float, float] | None = None
    top: float | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader chooses: the values of a label.

    Attributes:
        metric: whose label it is, with matchers of the variables before it.
    """

    name: str
    label: str
    metric: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page.

    Attributes:
        uid: by which others link to it.
    """

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())
