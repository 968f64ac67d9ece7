"""Does a served variant show the speed that its report promised? Bar: within 10 %.

    python -m benchmarks.optimize_serving

The model and its recommended variant are served in turn by `taxiway serve`, asked for the same batches in binary by one
client that has one request under way, and the ratio of their rates is held against the report's `speed`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.optimize import run_case
from benchmarks.optimize_cases import CASES, Case
from taxiway.optimize.report import recommended
from taxiway.profile.requests import Request
from taxiway.profile.workload import Workload, write_workload
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime

COMPARED: Final = ("minilm", "magika", "ppocr-rec")
TURNS: Final = 8
DURATION_S: Final = 6
BAR: Final = 0.10


def write_batches(case: Case, path: Path) -> None:
    """A few batches of held-out rows, as requests."""
    specs = OnnxRuntime().load(case.folder / "model.onnx", OnnxOptions()).inputs
    with np.load(case.folder / "held.npz") as held:
        rows = {spec.name: held[spec.name][: 4 * case.batch] for spec in specs}
    requests = []
    for start in range(0, 4 * case.batch, case.batch):
        inputs = [
            {
                "name": spec.name,
                "datatype": spec.datatype.wire_name,
                "shape": list(rows[spec.name][start : start + case.batch].shape),
                "data": rows[spec.name][start : start + case.batch].reshape(-1).tolist(),
            }
            for spec in specs
        ]
        requests.append(Request(inputs=inputs))
    write_workload(path, Workload(requests, "held-out rows"))


def served_rate(model: Path, workload: Path, place: Path) -> float:
    """Requests a second of one client."""
    out = place / "profile.json"
    command = [sys.executable, "-m", "taxiway", "profile", str(model), "--binary", "--concurrency", "1"]
    command += ["--workload", str(workload), "--duration", f"{DURATION_S}s", "--warm-up", "1s", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 7):
        raise RuntimeError(done.stdout + done.stderr)
    return float(json.loads(out.read_text(encoding="utf-8"))["achieved_per_s"])


def compare(case: Case) -> bool:
    """Print one line; whether the bar is kept."""
    case.ensure()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        report = run_case(case, place / "cache").report
        best = recommended(report)
        if best is None or best.speed is None:
            print(f"{case.name}: nothing was recommended")
            return False
        write_batches(case, place / "batches.jsonl")
        ratios = []
        for _ in range(TURNS):
            rates = [
                served_rate(path, place / "batches.jsonl", place)
                for path in (case.folder / "model.onnx", Path(best.path))
            ]
            ratios.append(rates[1] / rates[0])
    shown = float(np.median(ratios))
    print(
        f"{case.name}: {best.name} reported {best.speed:.2f}, served {shown:.2f} ({shown / best.speed - 1:+.1%});"
        f" turns {min(ratios):.2f} to {max(ratios):.2f}",
        flush=True,
    )
    return abs(shown / best.speed - 1) <= BAR


def main() -> int:
    """Every case that is compared."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    kept = [compare(case) for case in CASES if case.name in COMPARED]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
