"""The workshop's own side: takes orders on one descriptor, answers on another, until nobody asks any more."""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import msgspec
import onnx

from taxiway.core.errors import TaxiwayError
from taxiway.optimize.calibrate.calibration import Calibration
from taxiway.optimize.calibrate.collecting import collect
from taxiway.optimize.calibrate.store import load_histograms, write_histograms
from taxiway.optimize.data.store import load_samples
from taxiway.optimize.graph.preparing import prepare
from taxiway.optimize.workshop.orders import (
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
from taxiway.optimize.workshop.trying import answer, differs, open_model, race, runs, score, weigh

PROBED = 3
"""Runs on which a rewritten graph has to answer as the original."""

_MESSAGE = 600


def main(folder: str) -> None:
    """Work until the orders end; whatever libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    decode = msgspec.json.Decoder(Order).decode
    for line in sys.stdin.buffer:
        _say(answers, obey(decode(line), Path(folder)))


def _say(answers: BinaryIO, reply: Reply) -> None:
    answers.write(msgspec.json.encode(reply) + b"\n")


def obey(order: Order, folder: Path) -> Reply:
    """Do what is asked; whatever goes wrong is an answer."""
    try:
        return _do(order, folder)
    except TaxiwayError as error:
        return Failed(error.message, error.code, error.hint)
    except MemoryError:
        return Failed("there was not enough memory")
    except Exception as error:  # noqa: BLE001 - the boundary of this process
        return Failed(" ".join(f"{type(error).__name__}: {error}".split())[:_MESSAGE])


def _do(order: Order, folder: Path) -> Reply:
    match order:
        case Prepare():
            return _prepare(order, folder)
        case Calibrate():
            return _calibrate(order, folder)
        case Make():
            return _make(order)
        case Answer():
            return answer(order)
        case Score():
            return score(order)
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


def _calibrate(order: Calibrate, folder: Path) -> Calibrated:
    samples = load_samples(Path(order.samples))
    histograms = collect(onnx.load(order.model), folder, samples.calls(order.batch))
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
