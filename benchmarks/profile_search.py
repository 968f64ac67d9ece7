"""The searches of `taxiway profile` against exhaustive ones, on a real model that is really served (about 10 minutes).

    python -m benchmarks.profile_search [--run-s 8] [--skip slo|config] [--json FILE]

A network of dense layers is served on this machine. The rate: every rate in steps of 5 % from a third of the answer,
for the whole time, until two in a row are lost, beside `search_slo`. The configuration: every one of the grid, beside
`tune` with a fifth of the runs; what either calls best is then measured again, in turn, and compared by that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from taxiway.profile.arrivals import Poisson
from taxiway.profile.config_search import Config, Grid, Measured
from taxiway.profile.plan import Plan
from taxiway.profile.running import run_profile
from taxiway.profile.searching import search_lines, search_slo
from taxiway.profile.slos import Slo, broken_terms
from taxiway.profile.targets.served import ServedTarget
from taxiway.profile.targets.target import Target
from taxiway.profile.tuning import BATCH, DELAY, INSTANCES, THREADS, config_words, measure_config, tune, tuned_lines
from taxiway.profile.wishes import Wishes

STEP: Final = 1.05
WIDTH: Final = 1024
GRID: Final = Grid({BATCH: (1, 2, 4, 8, 16), DELAY: (0.0, 2.0), INSTANCES: (1, 2), THREADS: (1, 2)})
CALLERS: Final = 16
AGAIN: Final = 3


@dataclass(frozen=True)
class Settings:
    """What is measured: seconds of one run at one rate, and of one configuration."""

    model: Path
    run_s: float
    config_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-s", type=float, default=8.0, help="seconds at one rate")
    parser.add_argument("--config-s", type=float, default=2.0, help="seconds of one configuration")
    parser.add_argument("--skip", choices=("slo", "config"), action="append", default=[])
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(dense(Path(folder) / "dense.onnx"), said.run_s, said.config_s)
        if "slo" not in said.skip:
            results["slo"] = asyncio.run(compare_rates(settings))
        if "config" not in said.skip:
            results["config"] = asyncio.run(compare_configs(settings))
    print(json.dumps(results, indent=2))
    if said.json:
        said.json.write_text(json.dumps(results, indent=2) + "\n")


def dense(path: Path) -> Path:
    """Four layers of 1024 x 1024: half a millisecond for a row, and little more for four."""
    rng = np.random.default_rng(0)
    nodes, weights, given = [], [], "x"
    for layer in range(4):
        weight = (rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [given, f"w{layer}"], [f"m{layer}"]))
        given = "y" if layer == 3 else f"h{layer}"
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [given]))
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in "xy"]
    graph = helper.make_graph(nodes, "dense", [sides[0]], [sides[1]], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


# --- the rate -------------------------------------------------------------------------------------------------


async def compare_rates(settings: Settings) -> dict[str, Any]:
    target = ServedTarget(str(settings.model), Wishes(binary=True, serve_flags=("--execution.instances", "1")))
    try:
        await target.open()
        plan = Plan(Poisson(), 50.0, settings.run_s, warm_up_s=0.5)
        alone = await run_profile(plan, target)
        slo = Slo(latency_ms=round(20 * alone.percentiles.p50_ms, 2))
        began = time.monotonic()
        searched = await search_slo(plan, slo, target)
        search_s = time.monotonic() - began
        print("\n".join(search_lines(slo, searched)))
        found = searched.found.rate_per_s
        assert found is not None
        began = time.monotonic()
        swept, runs = await sweep(plan, slo, target, found / 3)
        sweep_s = time.monotonic() - began
    finally:
        await target.close()
    # The sweep was told where to begin; one that begins where the search did has these runs before.
    skipped = math.log(max(found / 3 / plan.rate_per_s, 1)) / math.log(STEP)
    return {
        "slo_ms": slo.latency_ms,
        "search_per_s": found,
        "sweep_per_s": swept,
        "difference": found / swept - 1,
        "search_s": search_s,
        "sweep_s": sweep_s,
        "sweep_runs": runs,
        "time_share": search_s / sweep_s,
        "time_share_from_start": search_s / (sweep_s + skipped * sweep_s / runs),
        "doubts": len(searched.doubts),
    }


async def sweep(plan: Plan, slo: Slo, target: Target, first: float) -> tuple[float, int]:
    """The highest rate that keeps it below two in a row that do not: one may be a hiccup."""
    best, lost, rate, runs = first, 0, first, 0
    while lost < 2:
        profile = await run_profile(replace(plan.at(rate), seed=plan.seed + 1000 + runs), target)
        runs += 1
        broken = broken_terms(slo, profile)
        print(f"sweep {rate:8.1f}/s  p99 {profile.p99_ms:7.2f} ms  {'lost' if broken else 'kept'}", flush=True)
        if broken:
            lost += 1
        else:
            best, lost = rate, 0
        rate *= STEP
    return best, runs


# --- the configuration ----------------------------------------------------------------------------------------


async def compare_configs(settings: Settings) -> dict[str, Any]:
    plan = Plan(Poisson(), 1.0, settings.config_s, warm_up_s=0.5, concurrency=CALLERS)
    wishes = Wishes(binary=True)
    word = str(settings.model)
    began = time.monotonic()
    tuned = await tune(word, plan, wishes, grid=GRID)
    search_s = time.monotonic() - began
    print("\n".join(tuned_lines(tuned)), flush=True)
    began = time.monotonic()
    every: list[tuple[Config, Measured]] = []
    for config in GRID.configs():
        every.append((config, await measure_config(word, config, plan, wishes)))
        print(f"{every[-1][1].score:8.1f}/s  {config_words(config)}", flush=True)
    exhaustive_s = time.monotonic() - began
    best = sorted(every, key=lambda one: -one[1].score)[:2]
    candidates = [tuned.config, *(config for config, _ in best)]
    longer = replace(plan, duration_s=2 * settings.config_s)
    scores = [0.0] * len(candidates)
    for _ in range(AGAIN):
        for place, config in enumerate(candidates):
            scores[place] += (await measure_config(word, config, longer, wishes)).score / AGAIN
    return {
        "grid": len(GRID),
        "runs": len(tuned.best.runs),
        "run_share": len(tuned.best.runs) / len(GRID),
        "search": dict(tuned.config),
        "exhaustive": dict(best[0][0]),
        "search_per_s": scores[0],
        "exhaustive_per_s": max(scores[1:]),
        "reached": scores[0] / max(scores[1:]),
        "first_per_s": tuned.before.score,
        "search_s": search_s,
        "exhaustive_s": exhaustive_s,
    }


if __name__ == "__main__":
    main()
