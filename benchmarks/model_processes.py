"""What model processes leave behind: `python -m benchmarks.model_processes`.

A model in a process of its own is loaded, asked and unloaded again and again (1,000 times unless told). Bars:

- memory: after the first 50 cycles the server's resident memory grows by at most 2 % of its size over all that follow;
- shared memory, descriptors, threads and processes: after the last cycle no more than after the first 50, but for a few
  pages in which the server keeps its own counts (one run of the model lays down a hundred times as much).
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import PROC, resident_bytes, tree
from benchmarks.switches import GROWTH_LIMIT, SETTLED_AFTER, growth, serve

_NAME = "cycled"
_CODE = """
import numpy as np

class Model:
    inputs = {"x": ("FP32", [-1, 100000])}
    outputs = {"y": ("FP32", [-1, 100000])}

    def predict(self, x):
        return {"y": x * 2}
"""
_PATIENCE_S = 30.0
_OWN_PAGES = 64 * 1024
_WITHOUT_MODELS = 2
"""Processes of a server: the supervisor and one worker."""


class Held(NamedTuple):
    """What a server holds while nothing is loaded."""

    resident: int
    shared: int
    descriptors: int
    threads: int
    processes: int


def held_by(root: int) -> Held:
    """What the tree of processes below `root` holds now."""
    pids = list(tree(root))
    shared = threads = 0
    for pid in pids:
        for line in (PROC / str(pid) / "status").read_text(encoding="utf-8").splitlines():
            shared += int(line.split()[1]) * 1024 if line.startswith("RssShmem:") else 0
            threads += int(line.split()[1]) if line.startswith("Threads:") else 0
    descriptors = sum(len(list((PROC / str(pid) / "fd").iterdir())) for pid in pids)
    return Held(resident_bytes(root), shared, descriptors, threads, len(pids))


class Caller:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)

    def post(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        """The body of an answer 200; anything else ends the measurement."""
        self._connection.request("POST", path, body, headers or {})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {content[:300]!r}")
        return content

    def is_gone(self) -> bool:
        """Whether the model is unloaded, and its process has ended."""
        index = json.loads(self.post("/v2/repository/index"))
        return all(entry.get("state") not in ("READY", "UNLOADING") for entry in index)


def write_model(repository: Path) -> None:
    """The model that is loaded and unloaded."""
    file = repository / _NAME / "1" / "predictor.py"
    file.parent.mkdir(parents=True)
    file.write_text(_CODE)


def request() -> tuple[bytes, dict[str, str]]:
    """One row of 400 kB in binary: large enough to be laid out in shared memory and not copied out of it."""
    tensor = {"name": "x", "shape": [1, 100_000], "datatype": "FP32", "parameters": {"binary_data_size": 400_000}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + bytes(400_000), {"Inference-Header-Content-Length": str(len(head))}


def cycle(caller: Caller, pid: int, body: bytes, headers: dict[str, str]) -> tuple[float, Held]:
    """Load, ask three times, unload; how many milliseconds loading took, and what is held afterwards."""
    began = time.perf_counter()
    caller.post(f"/v2/repository/models/{_NAME}/load")
    loaded_ms = (time.perf_counter() - began) * 1e3
    for _ in range(3):
        caller.post(f"/v2/models/{_NAME}/infer", body, headers)
    caller.post(f"/v2/repository/models/{_NAME}/unload")
    deadline = time.monotonic() + _PATIENCE_S
    while not (caller.is_gone() and len(tree(pid)) == _WITHOUT_MODELS):
        if time.monotonic() > deadline:
            raise SystemExit("a model process does not end")
        time.sleep(0.005)
    return loaded_ms, held_by(pid)


def report(loads_ms: list[float], held: list[Held], skipped: int) -> bool:
    """Print what was seen; whether every bar is met."""
    settled, last = held[min(skipped, len(held)) - 1], held[-1]
    share = growth([one.resident for one in held], skipped)
    mib = 2**20
    print(f"cycles {len(held)}; load call ms: median {statistics.median(loads_ms):.0f}, max {max(loads_ms):.0f}")
    print(f"resident MiB: first {held[0].resident / mib:.1f}, after {skipped} {settled.resident / mib:.1f}, ", end="")
    print(f"last {last.resident / mib:.1f}")
    bars = {
        f"memory: {share:+.2%} over {len(held) - skipped} cycles, at most {GROWTH_LIMIT:.0%}": share <= GROWTH_LIMIT
    }
    for name in ("shared", "descriptors", "threads", "processes"):
        before, after = getattr(settled, name), getattr(last, name)
        slack = _OWN_PAGES if name == "shared" else 0
        bars[f"{name}: {before} after {skipped} cycles, {after} after the last"] = after <= before + slack
    for text, passed in bars.items():
        print(f"{'pass' if passed else 'FAIL'}  {text}")
    return all(bars.values())


def main() -> int:
    """Measure, print, and say by the exit status whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=1000)
    words = parser.parse_args()
    skipped = min(SETTLED_AFTER, max(1, words.cycles // 2))
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        with serve(Path(folder), ["--models.load", _NAME]) as server:
            caller = Caller(server.http)
            body, headers = request()
            caller.post(f"/v2/repository/models/{_NAME}/unload")
            seen = [cycle(caller, server.pid, body, headers) for _ in range(words.cycles)]
    return 0 if report([ms for ms, _ in seen], [held for _, held in seen], skipped) else 1


if __name__ == "__main__":
    sys.exit(main())
