"""The bare loop: ONNX Runtime called in process, one thread, no network, no JSON, nothing else.

No server can answer more rows than this at its best batch; how near a server comes is what its road to the
model costs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import onnxruntime

from benchmarks.environments import REPOSITORY
from benchmarks.models import CATALOGUE, Model
from benchmarks.processes import pinned

BATCHES: Final = (1, 2, 4, 8, 16, 32)
GRACE_S: Final = 60.0


@dataclass(frozen=True)
class BareLoop:
    """Rows per second, and CPU seconds per run, for each batch."""

    rows_per_s: dict[int, float]
    run_cpu_s: dict[int, float]


def measure(model: Model, batches: Sequence[int], seconds: float) -> BareLoop:
    """Run the model at every batch for `seconds` each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in model.outputs]
    rows_per_s, run_cpu_s = {}, {}
    for batch in batches:
        feeds = {name: np.repeat(value, batch, axis=0) for name, value in model.row().items()}
        session.run(names, feeds)
        runs, start, cpu = 0, time.perf_counter(), time.process_time()
        while (elapsed := time.perf_counter() - start) < seconds:
            session.run(names, feeds)
            runs += 1
        rows_per_s[batch] = runs * batch / elapsed
        run_cpu_s[batch] = (time.process_time() - cpu) / runs
    return BareLoop(rows_per_s, run_cpu_s)


def bare_loop(name: str, seconds: float, cores: set[int], batches: Sequence[int] = BATCHES) -> BareLoop:
    """Run the bare loop in a process of its own on these cores."""
    options = ["--batches", ",".join(map(str, batches)), "--seconds", str(seconds)]
    command = [sys.executable, "-m", "benchmarks.inprocess", name, *options]
    limit = (seconds + 1) * len(batches) + GRACE_S
    with pinned(cores):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=limit, cwd=REPOSITORY)
    report = json.loads(done.stdout)
    for key in ("rows_per_s", "run_cpu_s"):
        report[key] = {int(batch): value for batch, value in report[key].items()}
    return BareLoop(**report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bare loop and print it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inprocess", description=main.__doc__)
    parser.add_argument("model", choices=CATALOGUE)
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each batch")
    options = parser.parse_args(arguments)
    batches = [int(batch) for batch in options.batches.split(",")]
    print(json.dumps(asdict(measure(CATALOGUE[options.model], batches, options.seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
