"""What splitting costs a request: `python -m benchmarks.splitting [--rounds N]`.

The smallest model there is (y = x + 1), asked by wrk over 16 connections, in rounds of five: not split, split with a
sticky unit in a header, not split, split with no unit at all, where each request is assigned by itself, and not split.
Split is 1 to 99, so that batches stay what they were, with slot counters, histograms and fuses. What counts is
the processor time of the data-plane process for each request, which neighbours on the machine do not change; the bar is
2 microseconds more than not split, in the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from benchmarks.processes import tree
from benchmarks.rollout_place import Served, serving_model
from taxiway.config.machine import available_cpus

BAR_US: Final = 2.0
_MODEL: Final = "tiny"
_SECONDS: Final = 3
_TICK_S: Final = 0.01


def write_model(path: Path) -> None:
    """One version in a directory of its own."""
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("x", "y")]
    one = numpy_helper.from_array(np.float32(1), "one")
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], _MODEL, shapes[:1], shapes[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, str(path))


def worker_pid(served: Served) -> int:
    """The data-plane process."""
    return next(pid for pid in tree(served.process.pid) if b"taxiway.server.worker" in _command(pid))


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def cpu_us(pid: int, served: Served, headers: list[str]) -> float:
    """Microseconds of processor time for each request."""
    script = Path(__file__).with_name("post.lua")
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(body, file)
        file.flush()
        target = f"http://{urlsplit(served.http).netloc}/v2/models/{_MODEL}/infer"
        options = ["-t1", "-c16", f"-d{_SECONDS}s", *(part for one in headers for part in ("-H", one))]
        command = ["wrk", *options, "-s", str(script), target, "--", file.name, "application/json", "0"]
        before = _ticks(pid)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(next(line for line in done.stdout.splitlines() if "taxiway-json" in line).partition(" ")[2])
    assert not told["status"], told
    return (_ticks(pid) - before) * _TICK_S / float(told["requests"]) * 1e6


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def split(served: Served) -> str:
    """Begin a rollout that stays at one half."""
    guards = {"metrics": [{"metric": "errors"}, {"metric": "slow-slots", "required": False}]}
    plan = {"to": "1", "steps": [1, 100], "min_step_s": 86400, "max_duration_s": 86400, "twin": False, "guards": guards}
    rollout = str(served.post("/v1/rollouts", {"service": _MODEL, "plan": plan})["rollout"]["id"])
    while served.get(f"/v1/rollouts/{rollout}")["rollout"]["phase"] != "step":
        time.sleep(0.05)
    return rollout


def abort(served: Served, rollout: str) -> None:
    """End it."""
    served.post(f"/v1/rollouts/{rollout}/abort", {"reason": "a benchmark"})
    while not served.get(f"/v1/rollouts/{rollout}")["ended"]:
        time.sleep(0.05)
    time.sleep(1.0)  # what was loaded for it leaves


def one_round(served: Served, pid: int) -> tuple[float, float, float]:
    """Microseconds of a request that is not split, of one with a sticky unit, of one without."""
    plain = [cpu_us(pid, served, [])]
    rollout = split(served)
    sticky = cpu_us(pid, served, ["X-Unit-Id: user-1"])
    abort(served, rollout)
    plain.append(cpu_us(pid, served, []))
    rollout = split(served)
    alone = cpu_us(pid, served, [])
    abort(served, rollout)
    plain.append(cpu_us(pid, served, []))
    return statistics.median(plain), sticky, alone


def main() -> int:
    """Run; 1 if the bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    said = parser.parse_args()
    assert shutil.which("wrk"), "apt-get install wrk"
    assert available_cpus() > 1
    with tempfile.TemporaryDirectory() as place:
        for number in (1, 2):
            write_model(Path(place) / _MODEL / str(number) / "model.onnx")
        (Path(place) / _MODEL / "config.pbtxt").write_text("version_policy { all {} }\nmax_batch_size: 8\n")
        environment = {"XDG_DATA_HOME": f"{place}/data", "XDG_CACHE_HOME": f"{place}/cache"}
        with serving_model(environment, f"{place}/{_MODEL}") as served:
            pid = worker_pid(served)
            cpu_us(pid, served, [])
            rounds = [one_round(served, pid) for _ in range(said.rounds)]
    plain = statistics.median(one[0] for one in rounds)
    sticky = statistics.median(one[1] - one[0] for one in rounds)
    alone = statistics.median(one[2] - one[0] for one in rounds)
    print(f"not split {plain:.2f} us a request; with a sticky unit {sticky:+.2f} us, without one {alone:+.2f} us")
    return int(max(sticky, alone) > BAR_US)


if __name__ == "__main__":
    sys.exit(main())
