"""`taxiway optimize` beside the tools of the field on the same models and data, each as its documentation begins.

    python -m benchmarks.optimize_rivals --only magika          # ONNX Runtime, Olive, neural-compressor, modelopt
    python -m benchmarks.optimize_rivals --tool modelopt

Each tool runs in an environment of its own (modelopt's takes 2 GB), is given the model and 64 samples for calibration,
and what it writes is timed in turns with the baseline and scored on the data that are held out. A tool that fails, or
writes what does not load, has its error in the table.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import ensure_venv
from benchmarks.optimize import run_case, scores
from benchmarks.optimize_cases import CASES, Case
from taxiway.core.errors import TaxiwayError
from taxiway.optimize.data.reading import read_samples
from taxiway.optimize.data.samples import Samples
from taxiway.optimize.data.store import write_samples
from taxiway.optimize.graph.preparing import model_bytes
from taxiway.optimize.report import recommended
from taxiway.optimize.workshop.orders import Race
from taxiway.optimize.workshop.trying import open_model, race

CALIBRATING: Final = 64
TIME_LIMIT_S: Final = 900.0
COMPARED: Final = ("minilm", "magika", "ppocr-rec")

READER: Final = """
import sys, json, numpy as np
model, data, out, batch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
arrays = {name: array for name, array in np.load(data).items()}
rows = len(next(iter(arrays.values())))
batches = [{n: a[i:i + batch] for n, a in arrays.items()} for i in range(0, rows, batch)]
class Reader:
    def __init__(self): self.left = iter(batches)
    def get_next(self): return next(self.left, None)
    def rewind(self): self.left = iter(batches)
    def __iter__(self): return iter(batches)
"""


@dataclass(frozen=True)
class Tool:
    """One way of one tool. `script` gets the model, the calibration data, where to write, and the batch."""

    name: str
    environment: str
    requirements: tuple[str, ...]
    script: str


_ORT: Final = ("onnxruntime==1.32.0", "onnx==1.23.2", "sympy")
_OLIVE: Final = ("olive-ai==0.13.0", "requests", "onnxruntime==1.32.0", "torch==2.13.0")
_INC: Final = (
    "onnx-neural-compressor==1.0",
    "prettytable",
    "psutil",
    "py-cpuinfo",
    "scipy",
    "numpy<2",
    "setuptools<81",
)
_MODELOPT: Final = ("nvidia-modelopt[onnx]==0.47.0", "torch==2.13.0")

TOOLS: Final = (
    Tool(
        "onnxruntime, dynamic",
        "rival-onnxruntime",
        _ORT,
        "from onnxruntime.quantization import quantize_dynamic\nquantize_dynamic(model, out)\n",
    ),
    Tool(
        "onnxruntime, static",
        "rival-onnxruntime",
        _ORT,
        "from onnxruntime.quantization import quantize_static, CalibrationDataReader\n"
        "from onnxruntime.quantization.shape_inference import quant_pre_process\n"
        "class R(Reader, CalibrationDataReader): pass\n"
        "quant_pre_process(model, out + '.pre', skip_symbolic_shape=True)\n"
        "quantize_static(out + '.pre', out, R())\n",
    ),
    Tool(
        "Olive, dynamic",
        "rival-olive",
        _OLIVE,
        "import shutil, glob, tempfile\n"
        "from olive.workflows import run\n"
        "place = tempfile.mkdtemp()\n"
        "run({'input_model': {'type': 'ONNXModel', 'model_path': model}, 'output_dir': place,\n"
        "     'passes': {'q': {'type': 'OnnxDynamicQuantization'}}, 'log_severity_level': 3})\n"
        "shutil.copy(glob.glob(place + '/**/*.onnx', recursive=True)[0], out)\n",
    ),
    Tool(
        "neural-compressor, dynamic",
        "rival-inc",
        _INC,
        "from onnx_neural_compressor.quantization import quantize\n"
        "from onnx_neural_compressor.quantization.config import DynamicQuantConfig\n"
        "quantize(model, out, DynamicQuantConfig())\n",
    ),
    Tool(
        "neural-compressor, static",
        "rival-inc",
        _INC,
        "from onnx_neural_compressor.quantization import quantize\n"
        "from onnx_neural_compressor.quantization.config import StaticQuantConfig\n"
        "from onnx_neural_compressor.data_reader import CalibrationDataReader\n"
        "class R(Reader, CalibrationDataReader): pass\n"
        "quantize(model, out, StaticQuantConfig(R()))\n",
    ),
    Tool(
        "modelopt, INT8",
        "rival-modelopt",
        _MODELOPT,
        "from modelopt.onnx.quantization import quantize\n"
        "few = {n: a[:batch] for n, a in arrays.items()}\n"
        "shapes = ','.join(n + ':' + 'x'.join(map(str, a.shape)) for n, a in few.items())\n"
        "quantize(model, quantize_mode='int8', calibration_data=few, calibration_shapes=shapes,\n"
        "         calibration_eps=['cpu'], high_precision_dtype='fp32', output_path=out)\n",
    ),
)


@dataclass(frozen=True)
class Row:
    """What came of one tool on one model."""

    tool: str
    seconds: float
    speed: float | None = None
    smaller: float | None = None
    drop: float | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"| {self.tool} | | | | {self.seconds:.0f} | {self.problem} |"
        return f"| {self.tool} | {self.speed:.2f} | {self.smaller:.2f} | {self.drop:.4f} | {self.seconds:.0f} | |"


def run_tool(tool: Tool, case: Case) -> Row:
    """One tool on one model."""
    folder = case.ensure()
    python = ensure_venv(tool.environment, list(tool.requirements))
    with tempfile.TemporaryDirectory() as place:
        data, out = Path(place, "calibration.npz"), Path(place, "out.onnx")
        with np.load(folder / "data.npz") as stored:
            np.savez(data, allow_pickle=False, **{n: stored[n][:CALIBRATING] for n in stored.files if n != "label"})
        began = time.monotonic()
        try:
            done = subprocess.run(
                [python, "-W", "ignore", "-c", READER + tool.script, folder / "model.onnx", data, out, str(case.batch)],
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT_S,
                check=False,
                cwd=place,
                env={"OLIVE_DISABLE_TELEMETRY": "1", "HOME": place, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            return Row(tool.name, TIME_LIMIT_S, problem=f"not done after {TIME_LIMIT_S:.0f} s")
        seconds = time.monotonic() - began
        if done.returncode or not out.is_file():
            said = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            return Row(tool.name, seconds, problem=f"failed: {said[:90]}")
        return judged(tool.name, case, out, seconds)


def judged(name: str, case: Case, variant: Path, seconds: float) -> Row:
    """Its speed, size, and drop on the data that are held out."""
    folder = case.folder
    source = folder / "model.onnx"
    samples, kept = of_baseline(case)
    try:
        baseline, model = (open_model(str(path)) for path in (source, variant))
        found = scores(model, baseline, samples, case, case.output or baseline.outputs[0].name)
    except (TaxiwayError, KeyError, ValueError) as problem:
        return Row(name, seconds, problem=f"does not run: {' '.join(str(problem).split())[:90]}")
    with tempfile.TemporaryDirectory() as place:
        write_samples(samples.first(64), Path(place, "racing"))
        speed = race(Race((str(source), str(variant)), str(Path(place, "racing")), case.batch, 3.0)).speed[1]
    smaller = model_bytes(source) / model_bytes(variant)
    return Row(name, seconds, speed, smaller, float((kept - found).mean()))


@functools.cache
def of_baseline(case: Case) -> tuple[Samples, NDArray[np.float64]]:
    """Held-out samples, and what the model as it is scores on each."""
    baseline = open_model(str(case.folder / "model.onnx"))
    samples = read_samples(str(case.folder / "held.npz"), baseline.inputs).first(1000)
    return samples, scores(baseline, baseline, samples, case, case.output or baseline.outputs[0].name)


def run_ours(case: Case) -> Row:
    """`taxiway optimize`, on the same footing."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        result = run_case(case, Path(cache))
        best = recommended(result.report)
        seconds = time.monotonic() - began
        variant = case.folder / "model.onnx" if best is None else Path(best.path)
        return judged(f"**taxiway optimize** ({best.name if best else 'the baseline'})", case, variant, seconds)


def main() -> int:
    """Print a table for each model; the rows as JSON to `--json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=COMPARED)
    parser.add_argument("--tool", action="append", choices=sorted({tool.name.partition(",")[0] for tool in TOOLS}))
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()
    told = {}
    for case in CASES:
        if case.name not in (said.only or COMPARED):
            continue
        rows = [run_ours(case)]
        rows += [run_tool(tool, case) for tool in TOOLS if not said.tool or tool.name.partition(",")[0] in said.tool]
        print(f"\n{case.name}, drop of {case.metric.rpartition(':')[2]}, {case.batch} rows a run\n")
        print("| tool | speed | smaller | drop | seconds | |\n| --- | --: | --: | --: | --: | --- |")
        print("\n".join(map(str, rows)), flush=True)
        told[case.name] = [row.__dict__ for row in rows]
    if said.json:
        said.json.write_text(json.dumps(told, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
