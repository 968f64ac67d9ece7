"""What splitting costs a request: `python -m benchmarks.splitting [--rounds N] [--model tiny|minilm]`.

The smallest model there is (y = x + 1), or MiniLM-L6 with 32 tokens, asked by wrk over 16 connections, in rounds of
five: not split, split with a sticky unit in a header, not split, split with no unit at all, where each request is
assigned by itself, and not split. Split is 1 to 99, so that batches stay what they were, with slot counters,
histograms and fuses.
What counts is the processor time of the data-plane process for each request, which neighbours on the machine do not
change; the bar is 2 microseconds more than not split, in the median over the rounds, and for MiniLM less than the
rounds differ.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from benchmarks.models import CATALOGUE, ensure_models, minilm_row
from benchmarks.processes import tree
from benchmarks.rollout_place import Served, serving_model
from taxiway.config.machine import available_cpus

BAR_US: Final = 2.0
_MODEL: Final = "tiny"
_BODIES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "tiny": lambda: {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]},
    "minilm": lambda: {
        "inputs": [
            {"name": name, "datatype": "INT64", "shape": list(array.shape), "data": array.tolist()}
            for name, array in minilm_row().items()
        ]
    },
}
_SECONDS: Final = 3
_TICK_S: Final = 0.01


def write_model(path: Path, which: str) -> None:
    """One version in a directory of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if which == "minilm":
        ensure_models("minilm")
        shutil.copy(CATALOGUE["minilm"].path, path)
        return
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("x", "y")]
    one = numpy_helper.from_array(np.float32(1), "one")
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], _MODEL, shapes[:1], shapes[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    checker.check_model(model)
    save(model, str(path))


def worker_pid(served: Served) -> int:
    """The data-plane process."""
    return next(pid for pid in tree(served.process.pid) if b"taxiway.server.worker" in _command(pid))


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def cpu_us(pid: int, served: Served, body: dict[str, Any], headers: list[str]) -> float:
    """Microseconds of processor time for each request."""
    script = Path(__file__).with_name("post.lua")
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


def one_round(served: Served, pid: int, body: dict[str, Any]) -> tuple[float, float, float]:
    """Microseconds of a request that is not split, of one with a sticky unit, of one without."""
    plain = [cpu_us(pid, served, body, [])]
    rollout = split(served)
    sticky = cpu_us(pid, served, body, ["X-Unit-Id: user-1"])
    abort(served, rollout)
    plain.append(cpu_us(pid, served, body, []))
    rollout = split(served)
    alone = cpu_us(pid, served, body, [])
    abort(served, rollout)
    plain.append(cpu_us(pid, served, body, []))
    return statistics.median(plain), sticky, alone


def main() -> int:
    """Run; 1 if the bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=sorted(_BODIES), default="tiny")
    said = parser.parse_args()
    body = _BODIES[said.model]()
    assert shutil.which("wrk"), "apt-get install wrk"
    assert available_cpus() > 1
    with tempfile.TemporaryDirectory() as place:
        for number in (1, 2):
            write_model(Path(place) / _MODEL / str(number) / "model.onnx", said.model)
        (Path(place) / _MODEL / "config.pbtxt").write_text("version_policy { all {} }\nmax_batch_size: 8\n")
        environment = {"XDG_DATA_HOME": f"{place}/data", "XDG_CACHE_HOME": f"{place}/cache"}
        with serving_model(environment, f"{place}/{_MODEL}") as served:
            pid = worker_pid(served)
            cpu_us(pid, served, body, [])
            rounds = [one_round(served, pid, body) for _ in range(said.rounds)]
    plain = statistics.median(one[0] for one in rounds)
    sticky = statistics.median(one[1] - one[0] for one in rounds)
    alone = statistics.median(one[2] - one[0] for one in rounds)
    spread = max(one[0] for one in rounds) - min(one[0] for one in rounds)
    print(f"not split {plain:.2f} us a request, rounds differ by {spread:.2f} us")
    print(f"with a sticky unit {sticky:+.2f} us, without one {alone:+.2f} us")
    return int(max(sticky, alone) > (BAR_US if said.model == "tiny" else max(spread, BAR_US)))


if __name__ == "__main__":
    sys.exit(main())
