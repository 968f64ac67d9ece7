"""The searches of `taxiway profile` against exhaustive ones, on a real model that is really served (about 20 minutes).

    python -m benchmarks.profile_search [--run-s 8] [--skip slo|config] [--json FILE]

A network of dense layers is served on this machine. The rate: every rate in steps of 5 % from where the search begins
too, for the whole time, until two in a row are lost, beside `search_slo`. The configuration: every one of the grid that
`--tune` has here, beside `tune` with a fifth of the runs; what either calls best is then measured again, in turn, and
compared by that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from taxiway.profile.arrivals import Poisson
from taxiway.profile.config_search import Config, Measured
from taxiway.profile.plan import Plan
from taxiway.profile.running import run_profile
from taxiway.profile.search_report import search_lines, tuned_lines
from taxiway.profile.searching import search_slo
from taxiway.profile.slos import Slo, broken_terms
from taxiway.profile.targets.served import ServedTarget
from taxiway.profile.targets.target import Target
from taxiway.profile.tuning import config_words, default_grid, measure_config, tune
from taxiway.profile.wishes import Wishes

STEP: Final = 1.05
WIDTH: Final = 1024
FIRST_PER_S: Final = 500.0
"""Where both begin: what a user may guess who has not measured."""
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
        plan = Plan(Poisson(), FIRST_PER_S, settings.run_s, warm_up_s=0.5)
        alone = await run_profile(plan, target)
        slo = Slo(latency_ms=round(20 * alone.percentiles.p50_ms, 2))
        began = time.monotonic()
        searched = await search_slo(plan, slo, target)
        search_s = time.monotonic() - began
        print("\n".join(search_lines(slo, searched)))
        found = searched.found.rate_per_s
        assert found is not None
        swept = await sweep(plan, slo, target)
    finally:
        await target.close()
    best = max(run.rate_per_s for run in swept if run.kept)
    return {
        "slo_ms": slo.latency_ms,
        "search_per_s": found,
        "sweep_per_s": best,
        "difference": found / best - 1,
        "search_s": search_s,
        "sweep_s": sum(run.seconds for run in swept),
        "sweep_runs": len(swept),
        "time_share": search_s / sum(run.seconds for run in swept),
        # Of a sweep by someone who knows a third of the answer already.
        "time_share_from_a_third": search_s / sum(run.seconds for run in swept if run.rate_per_s >= found / 3),
        "doubts": len(searched.doubts),
    }


@dataclass(frozen=True)
class Swept:
    """One rate of the sweep, and the seconds of a person that it took."""

    rate_per_s: float
    kept: bool
    seconds: float


async def sweep(plan: Plan, slo: Slo, target: Target) -> list[Swept]:
    """Every rate until two in a row are lost: one may be a hiccup."""
    swept: list[Swept] = []
    rate = plan.rate_per_s
    while len(swept) < 2 or swept[-1].kept or swept[-2].kept:
        began = time.monotonic()
        profile = await run_profile(replace(plan.at(rate), seed=plan.seed + 1000 + len(swept)), target)
        swept.append(Swept(rate, not broken_terms(slo, profile), time.monotonic() - began))
        print(f"sweep {rate:8.1f}/s  p99 {profile.p99_ms:7.2f} ms  {'kept' if swept[-1].kept else 'lost'}", flush=True)
        rate *= STEP
    return swept


# --- the configuration ----------------------------------------------------------------------------------------


async def compare_configs(settings: Settings) -> dict[str, Any]:
    plan = Plan(Poisson(), 1.0, settings.config_s, warm_up_s=0.5, concurrency=CALLERS)
    wishes = Wishes(binary=True)
    word, grid = str(settings.model), default_grid()
    began = time.monotonic()
    tuned = await tune(word, plan, wishes, grid=grid)
    search_s = time.monotonic() - began
    print("\n".join(tuned_lines(tuned)), flush=True)
    began = time.monotonic()
    every: list[tuple[Config, Measured]] = []
    for config in grid.configs():
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
        "grid": len(grid),
        "runs": len(tuned.best.runs),
        "run_share": len(tuned.best.runs) / len(grid),
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
