"""The workshop's own side: takes orders on one descriptor, answers on another, until nobody asks any more."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import onnx

from taxiway.core.errors import TaxiwayError
from taxiway.optimize.calibrate.calibration import Calibration
from taxiway.optimize.calibrate.collecting import collect
from taxiway.optimize.calibrate.store import load_histograms, write_histograms
from taxiway.optimize.data.store import load_samples
from taxiway.optimize.graph.preparing import prepare
from taxiway.optimize.workshop.orders import (
    ALIVE,
    Answer,
    Calibrate,
    Calibrated,
    Failed,
    Made,
    Make,
    Order,
    Prepare,
    Prepared,
    Race,
    Reply,
    Score,
    Step,
    Weigh,
)
from taxiway.optimize.workshop.trying import Beat, answer, beating, differs, open_model, race, runs, score, weigh

PROBED = 3
"""Runs on which a rewritten graph has to answer as the original."""

_MESSAGE = 600
_PR_SET_PDEATHSIG: Final = 1
"""prctl(2): to be killed when whoever started this process is gone."""


def main(folder: str, parent: int) -> None:
    """Work until the orders end, or whoever started it does; whatever libraries print goes to the log."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # or it would go on in a folder that another run has
    if os.getppid() != parent:
        return
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    decode = msgspec.json.Decoder(Order).decode
    for line in sys.stdin.buffer:
        reply = obey(decode(line), Path(folder), lambda: answers.write(ALIVE))
        answers.write(msgspec.json.encode(reply) + b"\n")


def obey(order: Order, folder: Path, beat: Beat) -> Reply:
    """Do what is asked; whatever goes wrong is an answer. `beat` is called as it goes on."""
    try:
        return _do(order, folder, beat)
    except TaxiwayError as error:
        return Failed(error.message, error.code, error.hint)
    except MemoryError:
        return Failed("there was not enough memory", passing=True)
    except Exception as error:  # noqa: BLE001 - the boundary of this process
        return Failed(" ".join(f"{type(error).__name__}: {error}".split())[:_MESSAGE])


def _do(order: Order, folder: Path, beat: Beat) -> Reply:
    match order:
        case Prepare():
            return _prepare(order, folder)
        case Calibrate():
            return _calibrate(order, folder, beat)
        case Make():
            return _make(order)
        case Answer():
            return answer(order, beat)
        case Score():
            return score(order, beat)
        case Race():
            return race(order)
        case Weigh():
            return weigh(order)


def _prepare(order: Prepare, folder: Path) -> Prepared:
    samples = load_samples(folder / "choosing")
    probe = samples.first(2 * PROBED)
    original = open_model(order.source)
    names = [spec.name for spec in original.outputs]
    expected = [dict(zip(names, original.run(run.feeds, names), strict=True)) for run in runs(probe, 2)]
    steps = prepare(Path(order.source), Path(order.target), lambda path: differs(str(path), probe, 2, expected))
    operators = Counter(node.op_type for node in onnx.load(order.target, load_external_data=False).graph.node)
    return Prepared(tuple(Step(step.name, step.problem) for step in steps), dict(operators.most_common()))


def _calibrate(order: Calibrate, folder: Path, beat: Beat) -> Calibrated:
    samples = load_samples(Path(order.samples))
    histograms = collect(onnx.load(order.model), folder, beating(samples.calls(order.batch), beat))
    write_histograms(histograms, Path(order.target))
    return Calibrated(len(histograms), tuple(name for name, one in histograms.items() if one.not_finite))


@functools.lru_cache(maxsize=2)
def _calibration(path: str) -> Calibration:
    """Read once by a process; an empty path holds nothing."""
    return Calibration(load_histograms(Path(path)) if path else {})


def _make(order: Make) -> Made:
    from taxiway.optimize.build.making import make  # noqa: PLC0415 - quantizers are slow to import

    calibration = _calibration(order.histograms)
    target = Path(order.target)
    trial = target.with_name(f".{target.name}")
    try:
        make(order.recipe, Path(order.prepared), trial, calibration, keep_shapes=order.keep_shapes)
        open_model(str(trial))
        size = trial.stat().st_size
        trial.replace(target)
    finally:
        trial.unlink(missing_ok=True)
    return Made(size)
