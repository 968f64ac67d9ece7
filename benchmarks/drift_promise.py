"""The promise of the drift alarm, and what it costs in delay, on streams drawn from real tables.

    python -m benchmarks.drift_promise            # 1,000 null streams of 50,000 rows, then the shifts: about 20 minutes
    python -m benchmarks.drift_promise --streams 100

Bars: at most 1 % of null streams ever alarm (upper 95 % bound at most 2 %), looked at every 500 rows; delays no worse
than `BARS`; a unit error (x10 on a tenth of the rows) within 200 rows. Beside it the rules of other tools on the same
streams. Stream number i is drawn with seed i.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, ks_2samp, wasserstein_distance

from benchmarks.drift_data import TABLES, table
from taxiway.stats.cells import NumericCells
from taxiway.stats.drift_evidence import DriftEvidence, Feature
from taxiway.stats.drift_sizes import drift_sizes

Rows = NDArray[np.float64]

ALPHA: Final = 0.01
ROWS, LOOK, WINDOW = 50_000, 500, 1000
REFERENCE: Final = 5000
CHANGE, AFTER, BLOCK = 20_000, 12_000, 50
REPEATS: Final = 20
_LEVEL: Final = 0.05


class Watch:
    """The product's alarm on a table's columns."""

    def __init__(self, reference: Rows) -> None:
        self.cells = [NumericCells.of(column) for column in reference.T]
        features = [
            Feature(cells.count(column), cells.order) for cells, column in zip(self.cells, reference.T, strict=True)
        ]
        self.evidence = DriftEvidence(features)

    def add(self, rows: Rows) -> bool:
        """Whether it alarms by now."""
        counts = np.concatenate([cells.count(column) for cells, column in zip(self.cells, rows.T, strict=True)])
        self.evidence.add(counts, len(rows))
        return self.evidence.log_average >= math.log(1 / ALPHA)


# --- the rules of other tools, on windows -------------------------------------------------------------------


def _ks_naive(reference: Rows, window: Rows) -> bool:
    return min(_p_values(reference, window)) < _LEVEL


def _ks_bonferroni(reference: Rows, window: Rows) -> bool:
    """alibi-detect's KSDrift as it is set up: p < .05 / features."""
    return min(_p_values(reference, window)) < _LEVEL / len(reference.T)


def _p_values(reference: Rows, window: Rows) -> list[float]:
    return [float(ks_2samp(a, b, method="asymp").pvalue) for a, b in zip(reference.T, window.T, strict=True)]


def _evidently(reference: Rows, window: Rows) -> bool:
    """Evidently's default for numbers in large references: distance of a tenth of a deviation, in half the columns."""
    return bool(np.mean(_distances(reference, window)) >= 0.5)


def _evidently_any(reference: Rows, window: Rows) -> bool:
    return any(_distances(reference, window))


def _distances(reference: Rows, window: Rows) -> list[bool]:
    return [
        wasserstein_distance(a, b) / max(float(np.std(a)), 0.001) >= 0.1
        for a, b in zip(reference.T, window.T, strict=True)
    ]


def _psi(limit: float, reference: Rows, window: Rows) -> bool:
    for a, b in zip(reference.T, window.T, strict=True):
        edges = np.unique(np.quantile(a, np.linspace(0, 1, 11)[1:-1]))
        before, now = (np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) for side in (a, b))
        if drift_sizes(before, now).psi >= limit:
            return True
    return False


RULES: Final[dict[str, Callable[[Rows, Rows], bool]]] = {
    "KS p < .05, any feature": _ks_naive,
    "KS p < .05 / features (alibi-detect's rule)": _ks_bonferroni,
    "Evidently's default (half the columns)": _evidently,
    "Wasserstein >= .1, any feature": _evidently_any,
    "PSI >= .1, any feature": partial(_psi, 0.1),
    "PSI >= .2, any feature": partial(_psi, 0.2),
}

# --- null streams ---------------------------------------------------------------------------------------------


@cache
def _table(name: str) -> Rows:
    return table(name)[0]


def _reference(name: str, random: np.random.Generator) -> Rows:
    rows = _table(name)
    return rows[random.permutation(len(rows))[: min(REFERENCE, len(rows) // 2)]]


def null_stream(seed: int) -> bool:
    """Whether a stream like its reference ever alarms."""
    name, random = TABLES[seed % len(TABLES)], np.random.default_rng(seed)
    watch, rows = Watch(_reference(name, random)), _table(name)
    return any(watch.add(rows[random.integers(len(rows), size=LOOK)]) for _ in range(ROWS // LOOK))


def null_stream_of_rules(seed: int) -> dict[str, bool]:
    """Which of the other rules ever alarm on the same kind of stream."""
    name, random = TABLES[seed % len(TABLES)], np.random.default_rng(seed)
    reference, rows = _reference(name, random), _table(name)
    windows = [rows[random.integers(len(rows), size=WINDOW)] for _ in range(ROWS // WINDOW)]
    return {rule: any(judge(reference, window) for window in windows) for rule, judge in RULES.items()}


# --- shifts -----------------------------------------------------------------------------------------------------

COLUMN: Final = 0
"""Of magic: the one that moves."""


def _moved(by: float, rows: Rows, reference: Rows, _random: np.random.Generator) -> Rows:
    rows[:, COLUMN] += by * reference[:, COLUMN].std()
    return rows


def _wider(rows: Rows, reference: Rows, _random: np.random.Generator) -> Rows:
    middle = reference[:, COLUMN].mean()
    rows[:, COLUMN] = middle + 1.2 * (rows[:, COLUMN] - middle)
    return rows


def _imputed(share: float, rows: Rows, reference: Rows, random: np.random.Generator) -> Rows:
    rows[random.random(len(rows)) < share, COLUMN] = np.median(reference[:, COLUMN])
    return rows


def _unit_error(rows: Rows, _reference: Rows, random: np.random.Generator) -> Rows:
    rows[random.random(len(rows)) < 0.1, COLUMN] *= 10
    return rows


SHIFTS: Final[dict[str, Callable[[Rows, Rows, np.random.Generator], Rows]]] = {
    "+.5 sd, one feature": partial(_moved, 0.5),
    "+.25 sd": partial(_moved, 0.25),
    "+.1 sd": partial(_moved, 0.1),
    "scale x1.2": _wider,
    "5 % replaced by the median": partial(_imputed, 0.05),
    "2 % replaced by the median": partial(_imputed, 0.02),
    "x10 on 10 % of the rows": _unit_error,
}
BARS: Final = {
    "+.5 sd, one feature": 250,
    "+.25 sd": 250,
    "+.1 sd": 1500,
    "scale x1.2": 2125,
    "5 % replaced by the median": 5250,
    "2 % replaced by the median": 550,
    "x10 on 10 % of the rows": 200,
}


def delay(shift: str, seed: int) -> int | None:
    """Rows from the change to the alarm; negative: it came before; None: it never came."""
    random = np.random.default_rng(seed)
    rows, reference = _table("magic"), _reference("magic", random)
    watch, change = Watch(reference), SHIFTS[shift]
    for at in range(BLOCK, CHANGE + AFTER + 1, BLOCK):
        drawn = rows[random.integers(len(rows), size=BLOCK)]
        if watch.add(drawn if at <= CHANGE else change(drawn, reference, random)):
            return at - CHANGE
    return None


def delays_of_rules(shift: str, seed: int) -> dict[str, int | None]:
    """The same for the other rules, window by window."""
    random = np.random.default_rng(seed)
    rows, reference, change = _table("magic"), _reference("magic", random), SHIFTS[shift]
    found: dict[str, int | None] = dict.fromkeys(RULES)
    for at in range(WINDOW, CHANGE + AFTER + 1, WINDOW):
        drawn = rows[random.integers(len(rows), size=WINDOW)]
        window = drawn if at <= CHANGE else change(drawn, reference, random)
        for rule, judge in RULES.items():
            if found[rule] is None and judge(reference, window):
                found[rule] = at - CHANGE
    return found


# --- telling ----------------------------------------------------------------------------------------------------


def tell_null(pool: ProcessPoolExecutor, streams: int) -> bool:
    """Print how many null streams alarm; whether the promise is kept."""
    alarms = sum(pool.map(null_stream, range(streams), chunksize=10))
    bound = float(beta.ppf(0.95, alarms + 1, streams - alarms))
    print(
        f"null streams: {alarms} of {streams} ever alarmed (upper 95 % bound {bound:.2%}); the promise is {ALPHA:.0%}"
    )
    few = max(10, streams // 20)
    found = list(pool.map(null_stream_of_rules, range(few)))
    for rule in RULES:
        print(f"  {rule}: {sum(one[rule] for one in found)} of {few}")
    return alarms <= ALPHA * streams and (streams < 1000 or bound <= 0.02)


def tell_delays(pool: ProcessPoolExecutor) -> bool:
    """Print the median delay of each shift; whether all are within their bars."""
    kept = True
    for shift in SHIFTS:
        ours = list(pool.map(partial(delay, shift), range(REPEATS)))
        others = list(pool.map(partial(delays_of_rules, shift), range(REPEATS)))
        median = float(np.median([math.inf if one is None else one for one in ours]))
        early = sum(one is not None and one <= 0 for one in ours)
        kept &= early == 0 and median <= BARS[shift]
        print(f"{shift}: {median:g} rows (at most {BARS[shift]}), {early} false")
        for rule in RULES:
            print(f"  {rule}: {'; '.join(_told([one[rule] for one in others]))}")
    return kept


def _told(delays: list[int | None]) -> Iterator[str]:
    true = [one for one in delays if one is not None and one > 0]
    false, missed = sum(one is not None and one <= 0 for one in delays), delays.count(None)
    yield f"{np.median(true):g} rows" if true else "never rightly"
    if false:
        yield f"{false / len(delays):.0%} before the change"
    if missed:
        yield f"{missed / len(delays):.0%} never"


def main() -> int:
    """Both tables; 0 if every bar is kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000)
    streams = parser.parse_args().streams
    for name in TABLES:
        _table(name)  # before the processes part: downloaded once
    with ProcessPoolExecutor() as pool:
        kept = [tell_null(pool, streams), tell_delays(pool)]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
