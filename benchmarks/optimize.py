"""`taxiway optimize` on real models without a knob but the metric, judged once more on data held out of all of it.

    python -m benchmarks.optimize                  # every case; about ten minutes of a quiet machine
    python -m benchmarks.optimize --only magika
    python -m benchmarks.optimize --fp8            # FP8 of MiniLM: cosine and seconds

Each case is a fresh run with an empty cache. Ends with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.optimize_cases import CASES, Case
from taxiway.core.tensors import TensorSpec
from taxiway.optimize.build.float8 import quantize_float8
from taxiway.optimize.calibrate.collecting import collect
from taxiway.optimize.data.reading import read_samples
from taxiway.optimize.data.samples import Samples
from taxiway.optimize.graph.preparing import load, named
from taxiway.optimize.metrics import Call
from taxiway.optimize.outcome import Report, Wanted
from taxiway.optimize.promise import Verdict, judge
from taxiway.optimize.recipes import Float8
from taxiway.optimize.report import recommended
from taxiway.optimize.walk import optimize
from taxiway.optimize.workshop.trying import find_metric, open_model, runs
from taxiway.runtimes.onnx import OnnxModel

MOST_CPU_S: Final = 90.0
FP8_COSINE, FP8_MOST_S = 0.995, 30.0


@dataclass(frozen=True)
class Result:
    """What came of one case. `held`: the verdict on data that the run was not given."""

    case: Case
    report: Report
    held: Verdict | None
    cpu_s: float

    @property
    def problems(self) -> list[str]:
        """Which bars it misses."""
        best, found = recommended(self.report), []
        if self.held is not None and self.held.lower > self.case.max_drop:
            found.append(f"drops by {self.held.drop:.4f} on held-out data")
        if self.cpu_s > MOST_CPU_S:
            found.append(f"took {self.cpu_s:.0f} CPU seconds, over {MOST_CPU_S:.0f}")
        if self.case.bars is None:
            return found
        _, speed, smaller = self.case.bars
        if best is None or best.speed is None:
            return [*found, "nothing was recommended"]
        if best.speed < speed:
            found.append(f"is {best.speed:.2f} times as fast, not {speed}")
        if self.report.baseline.size / best.size < smaller:
            found.append(f"is {self.report.baseline.size / best.size:.2f} times smaller, not {smaller}")
        return found


def run_case(case: Case, cache: Path) -> Result:
    """One case from nothing."""
    folder = case.ensure()
    wanted = Wanted(
        folder / "model.onnx",
        str(folder / "data.npz"),
        cache,
        metric=case.metric,
        max_drop=case.max_drop,
        batch=case.batch,
        output=case.output,
    )
    report = optimize(wanted, lambda doing: print(f"    {doing}", file=sys.stderr))
    best = recommended(report)
    held = None if best is None else judge_held(case, folder, Path(best.path))
    return Result(case, report, held, report.spent_s)


def judge_held(case: Case, folder: Path, variant: Path) -> Verdict:
    """The promise on data that nothing of the run has seen."""
    models = [open_model(str(path)) for path in (folder / "model.onnx", variant)]
    samples = read_samples(str(folder / "held.npz"), models[0].inputs)
    metric = find_metric(case.metric)
    output = case.output or models[0].outputs[0].name
    baseline, candidate = (scores(model, models[0], samples, case, output) for model in models)
    return judge(metric.kind, baseline, candidate, None, case.max_drop, 0.05)


def scores(model: OnnxModel, baseline: OnnxModel, samples: Samples, case: Case, output: str) -> NDArray[np.float64]:
    """Of each sample."""
    metric, found = find_metric(case.metric), []
    for run in runs(samples, case.batch):
        said, wanted = (_outputs(one, run.feeds) for one in (model, baseline))
        found.append(metric.score(Call(said, wanted, run.labels, run.feeds, run.samples), output))
    return np.concatenate(found)


def _outputs(model: OnnxModel, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [_name(spec) for spec in model.outputs]
    return dict(zip(names, model.run(feeds, names), strict=True))


def _name(spec: TensorSpec) -> str:
    return spec.name


def print_results(results: list[Result]) -> None:
    """The table of the docs."""
    print("| model | variant | speed | row by row | smaller | promise | drop (at most) | held out | CPU s |")
    print("| --- | --- | --: | --: | --: | --- | --: | --: | --: |")
    for result in results:
        best, case = recommended(result.report), result.case
        promise = f"{result.report.metric_name} {case.max_drop:g}"
        if best is None or best.verdict is None or result.held is None:
            print(f"| {case.name} | the baseline | 1.00 | 1.00 | 1.0 | {promise} | | | {result.cpu_s:.0f} |")
            continue
        print(
            f"| {case.name} | {best.name} | {best.speed or 0:.2f} | {best.alone_speed or 0:.2f} "
            f"| {result.report.baseline.size / best.size:.2f} | {promise} "
            f"| {best.verdict.drop:.4f} ({best.verdict.upper:.4f}) | {result.held.drop:.4f}, n={result.held.samples} "
            f"| {result.cpu_s:.0f} |"
        )


def run_float8() -> bool:
    """FP8 E4M3 of MiniLM: calibrated, written and compared; seconds are the CPU's."""
    case = next(one for one in CASES if one.name == "minilm")
    folder = case.ensure()
    with tempfile.TemporaryDirectory() as place:
        began = time.process_time()
        model = onnx.shape_inference.infer_shapes(load(folder / "model.onnx"))
        named(model)
        baseline = open_model(str(folder / "model.onnx"))
        samples = read_samples(str(folder / "data.npz"), baseline.inputs)
        histograms = collect(model, Path(place), samples.first(64).calls(8))
        onnx.save(quantize_float8(model, Float8(), histograms), Path(place, "fp8.onnx"))
        candidate = open_model(str(Path(place, "fp8.onnx")))
        seconds = time.process_time() - began
        held = read_samples(str(folder / "held.npz"), baseline.inputs).first(320)
        cosines = scores(candidate, baseline, held, case, "sentence_embedding")
    print(f"FP8 E4M3 of MiniLM: cosine {cosines.mean():.4f} over {len(cosines)} sentences, made in {seconds:.1f} CPU s")
    return bool(cosines.mean() >= FP8_COSINE and seconds <= FP8_MOST_S)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--fp8", action="store_true")
    said = parser.parse_args()
    if said.fp8:
        return 0 if run_float8() else 1
    results = []
    for case in CASES:
        if not said.only or case.name in said.only:
            print(f"  {case.name}", file=sys.stderr)
            with tempfile.TemporaryDirectory() as cache:
                results.append(run_case(case, Path(cache)))
    print_results(results)
    problems = [f"{result.case.name} {problem}" for result in results for problem in result.problems]
    for problem in problems:
        print(f"MISSED: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
