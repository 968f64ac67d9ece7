"""What was measured and what it must be: series of figures, bars, and the two tables a person reads.

Pure: nothing here starts a process or looks at a clock.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

Sense = Literal["at most", "at least"]
HOLDS: Final[Mapping[Sense, Callable[[float, float], bool]]] = {
    "at most": operator.le,
    "at least": operator.ge,
}


class Unmeasured(LookupError):
    """A figure that a bar needs was not measured; the text says why."""


class Verdict(StrEnum):
    """What became of a bar: one that could not be measured has not failed, and has not passed either."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Key:
    """One row of the table of figures: who answered what."""

    scenario: str
    server: str


@dataclass
class Record:
    """Every figure of every round, and why some are missing."""

    series: dict[Key, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[Key, str] = field(default_factory=dict)

    def add(self, scenario: str, server: str, **figures: float) -> None:
        """Append one round's figures."""
        row = self.series.setdefault(Key(scenario, server), {})
        for name, value in figures.items():
            row.setdefault(name, []).append(value)

    def miss(self, scenario: str, server: str, reason: str) -> None:
        """Note why somebody was not measured."""
        self.missing[Key(scenario, server)] = reason

    def rounds(self, scenario: str, server: str, name: str) -> list[float]:
        """Return a figure of each round."""
        key = Key(scenario, server)
        if key in self.missing:
            raise Unmeasured(f"{server}: {self.missing[key]}")
        if name not in self.series.get(key, {}):
            raise Unmeasured(f"{server} was not measured in {scenario}")
        return self.series[key][name]

    def median(self, scenario: str, server: str, name: str) -> float:
        """Return the median over the rounds."""
        return statistics.median(self.rounds(scenario, server, name))

    def ratio(self, scenario: str, name: str, over: str, under: str) -> float:
        """Return the median of each round's ratio: neighbours in time share the machine's mood."""
        pairs = zip(self.rounds(scenario, over, name), self.rounds(scenario, under, name), strict=True)
        return statistics.median(a / b for a, b in pairs)

    def best(self, scenario: str, name: str, servers: Sequence[str]) -> str:
        """Return the server with the highest median."""
        return max(servers, key=lambda server: self.median(scenario, server, name))


@dataclass(frozen=True)
class Bar:
    """One promise: a figure, its limit, and on which side of it the figure must lie."""

    name: str
    sense: Sense
    limit: float
    figure: Callable[[Record], float]
    aim: str = ""


@dataclass(frozen=True)
class Judged:
    """A bar and what became of it."""

    bar: Bar
    verdict: Verdict
    value: float | None
    reason: str = ""


def judge(bar: Bar, record: Record) -> Judged:
    """Hold one bar against the record."""
    try:
        value = bar.figure(record)
    except Unmeasured as error:
        return Judged(bar, Verdict.ERROR, None, str(error))
    verdict = Verdict.PASS if HOLDS[bar.sense](value, bar.limit) else Verdict.FAIL
    return Judged(bar, verdict, value)


COLUMNS: Final = {
    "rate": ("req/s", ",.0f"),
    "cpu_us": ("us CPU/req", ",.1f"),
    "busy": ("busy", ".0%"),
    "others": ("others", ".0%"),
    "p50_ms": ("p50 ms", ".3f"),
    "p99_ms": ("p99 ms", ".3f"),
    "mib": ("MiB", ",.0f"),
}


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def figures_table(record: Record) -> str:
    """Write the medians, and how far the rate of the rounds lies apart."""
    rows = [["scenario", "server", *(title for title, _ in COLUMNS.values()), "req/s min - max"]]
    for key, row in record.series.items():
        cells = [
            format(statistics.median(row[name]), form) if name in row else "" for name, (_, form) in COLUMNS.items()
        ]
        spread = f"{min(row['rate']):,.0f} - {max(row['rate']):,.0f}" if "rate" in row else ""
        rows.append([key.scenario, key.server, *cells, spread])
    return _aligned(rows, left=2)


def bars_table(judged: Sequence[Judged]) -> str:
    """Write each bar, its limit, what was measured and the verdict."""
    rows = [["bar", "limit", "measured", "verdict", ""]]
    for one in judged:
        value = "" if one.value is None else f"{one.value:.3g}"
        rows.append(
            [
                one.bar.name,
                f"{one.bar.sense} {one.bar.limit:g}",
                value,
                one.verdict,
                one.reason or one.bar.aim,
            ]
        )
    return _aligned(rows, left=5)
