"""Runs models over samples: what the baseline says, how a candidate scores beside it, how fast each is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidData, InvalidModel
from taxiway.optimize.data.reading import find_function
from taxiway.optimize.data.samples import Samples
from taxiway.optimize.data.store import load_samples
from taxiway.optimize.metrics import METRICS, Call, Metric, cosine, from_function
from taxiway.optimize.workshop.orders import Answer, Answered, Race, Raced, Score, Scored, Times, Weigh, Weighed
from taxiway.runtimes.onnx import OnnxModel, OnnxOptions, OnnxRuntime

Item = TypeVar("Item")
Beat = Callable[[], object]
"""Tells whoever waits that it goes on."""

_WARM_UP = 1
_PARITY = 2e-3
"""Relative to the output's scale: a rewritten graph sums in another order, and no more."""


@dataclass(frozen=True, slots=True)
class Run:
    """Inputs of one run, with the labels of its samples."""

    feeds: dict[str, NDArray[Any]]
    labels: NDArray[Any] | None
    samples: int
    whole: bool


def runs(samples: Samples, batch: int) -> Iterator[Run]:
    """The runs that samples make, in order."""
    for group in samples.groups:
        start = 0
        for feeds in group.calls(batch):
            count = 1 if group.whole else len(next(iter(feeds.values())))
            labels = None if group.labels is None else group.labels[start : start + count]
            yield Run(feeds, labels, count, group.whole)
            start += count


def open_model(
    path: str, providers: Sequence[str] = ("CPUExecutionProvider",), options: Mapping[str, str] | None = None
) -> OnnxModel:
    """As it would be served: one thread, no spinning; the options are the first provider's."""
    given = OnnxOptions(providers=tuple(providers), provider_options={providers[0]: options or {}})
    return OnnxRuntime().load(Path(path), given)


def beating(items: Iterable[Item], beat: Beat) -> Iterator[Item]:
    """The same, with a sign of life before each."""
    for item in items:
        beat()
        yield item


def answer(order: Answer, beat: Beat) -> Answered:
    """Run the baseline."""
    model = open_model(order.model)
    names = [spec.name for spec in model.outputs]
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    metric, scores = find_metric(order.metric), []
    count = samples = 0
    for count, run in enumerate(beating(runs(load_samples(Path(order.samples)), order.batch), beat), start=1):
        outputs = _outputs(model, names, run)
        _check_finite(outputs, samples)
        np.savez(folder / f"{count:06}.npz", allow_pickle=False, **_storable(outputs))
        scores.append(metric.score(Call(outputs, outputs, run.labels, run.feeds, run.samples), order.output))
        samples += run.samples
    np.save(order.target, np.concatenate(scores), allow_pickle=False)
    return Answered(count, samples, tuple(names))


def _storable(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name: np.asarray(values, dtype=str) if values.dtype == object else values for name, values in outputs.items()
    }


def _outputs(model: OnnxModel, names: list[str], run: Run) -> dict[str, NDArray[Any]]:
    outputs = dict(zip(names, model.run(run.feeds, names), strict=True))
    if not run.whole:
        for name, values in outputs.items():
            if values.ndim == 0 or len(values) != run.samples:
                raise InvalidData(
                    f"data: {run.samples} rows came out as output {name!r} of shape {list(values.shape)}: "
                    "the model does not batch along its first axis",
                    hint="give whole calls instead of rows: each array with one more leading axis, of samples",
                    output=name,
                )
    return outputs


def _check_finite(outputs: dict[str, NDArray[Any]], before: int) -> None:
    for name, values in outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InvalidData(
                f"data: the model as it is answers with NaN or infinity in output {name!r}, near sample {before}",
                hint="look at that sample, or mend the model: what is not a number cannot be compared",
                output=name,
            )


def score(order: Score, beat: Beat) -> Scored:
    """Run a candidate."""
    model, metric = open_model(order.model, order.providers, order.options), find_metric(order.metric)
    names = [spec.name for spec in model.outputs]
    scores, losses, finite = [], [], True
    for at, run in enumerate(beating(runs(load_samples(Path(order.samples)), order.batch), beat), start=1):
        outputs = _outputs(model, names, run)
        with np.load(Path(order.folder) / f"{at:06}.npz", allow_pickle=False) as stored:
            baseline = {name: stored[name] for name in names}
        call = Call(outputs, baseline, run.labels, run.feeds, run.samples)
        finite = (
            finite and bool(np.isfinite(outputs[order.output]).all()) if _is_float(outputs[order.output]) else finite
        )
        scores.append(metric.score(call, order.output))
        losses.append(_distortion(call))
    np.save(order.target, np.concatenate(scores), allow_pickle=False)
    return Scored(sum(map(len, scores)), float(np.concatenate(losses).mean()), finite)


def _is_float(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f"


def _distortion(call: Call) -> NDArray[np.float64]:
    """The largest over the float outputs."""
    floats = [name for name, values in call.outputs.items() if _is_float(values)]
    if not floats:
        return np.zeros(call.samples)
    losses: NDArray[np.float64] = np.max(
        [1.0 - cosine(call.outputs[one], call.baseline[one], call.samples) for one in floats], axis=0
    )
    return losses


def find_metric(name: str) -> Metric:
    """By its name, or a function of the user's."""
    return METRICS[name] if name in METRICS else from_function(name, find_function(name, "metric"))


def differs(model: str, samples: Samples, batch: int, expected: list[dict[str, NDArray[Any]]]) -> str:
    """How a model's answers differ from what was expected of it; empty: they do not."""
    opened = open_model(model)
    names = [spec.name for spec in opened.outputs]
    for run, wanted in zip(runs(samples, batch), expected, strict=True):
        outputs = _outputs(opened, names, run)
        if list(wanted) != names:
            return f"its outputs are {', '.join(names)}, not {', '.join(wanted)}"
        for name in names:
            problem = _difference(name, outputs[name], wanted[name])
            if problem:
                return problem
    return ""


def _difference(name: str, got: NDArray[Any], wanted: NDArray[Any]) -> str:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"{name} is {got.dtype}{list(got.shape)}, not {wanted.dtype}{list(wanted.shape)}"
    if got.dtype.kind != "f":
        return "" if bool((got == wanted).all()) else f"{name} has other values"
    scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
    error = float(np.abs(got.astype(np.float64) - wanted).max(initial=0.0)) / scale
    return "" if error <= _PARITY else f"{name} is off by {error:.1e} of its scale"


def race(order: Race) -> Raced:
    """Time models in turns, so that a busy moment of the machine meets all of them."""
    models = [open_model(path, order.providers, order.options) for path in order.models]
    names = [[spec.name for spec in model.outputs] for model in models]
    inputs = _inputs_to_race(load_samples(Path(order.samples)), order.batch)
    for model, outputs in zip(models, names, strict=True):
        for _ in range(_WARM_UP):
            model.run(inputs[0].feeds, outputs)
    cpu: list[NDArray[np.float64]] = []
    wall: list[NDArray[np.float64]] = []
    until = time.process_time() + order.budget_s
    while len(cpu) < _FEWEST_ROUNDS or (time.process_time() < until and len(cpu) < _MOST_ROUNDS):
        taken = _round(models, names, inputs, len(cpu))
        cpu.append(taken[0])
        wall.append(taken[1])
    rows = float(np.mean([run.samples for run in inputs]))
    on_device = order.providers[0] != "CPUExecutionProvider"
    return _raced(np.array(cpu), np.array(wall), rows, on_device=on_device)


def _round(
    models: Sequence[OnnxModel], names: Sequence[list[str]], inputs: Sequence[Run], turn: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of CPU and wall [models, inputs]."""
    cpu, wall = (np.empty((len(models), len(inputs))) for _ in range(2))
    for at, run in enumerate(inputs):
        for which in _order(len(models), turn + at):
            cpu[which, at], wall[which, at] = _time(models[which], names[which], run)
    return cpu, wall


_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 400
_MOST_INPUTS, _MOST_CALLS = 2, 16


def _inputs_to_race(samples: Samples, batch: int) -> list[Run]:
    """Rows a batch at a time; of whole calls, which come in several shapes, more and from all over."""
    found = list(runs(samples, batch))
    if not any(run.whole for run in found):
        return found[:_MOST_INPUTS]
    return [found[int(at)] for at in np.linspace(0, len(found) - 1, min(_MOST_CALLS, len(found)))]


def _order(models: int, turn: int) -> list[int]:
    """Whoever goes first finds the caches of whoever went last; so they take turns."""
    first = turn % models
    return [*range(first, models), *range(first)]


def _time(model: OnnxModel, outputs: list[str], run: Run) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    model.run(run.feeds, outputs)
    return (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3


def _raced(cpu: NDArray[np.float64], wall: NDArray[np.float64], rows: float, *, on_device: bool) -> Raced:
    taken = wall if on_device else cpu
    taken = np.maximum(taken.mean(axis=2), 1e-6)
    ratios = taken[:, :1] / taken
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75), axis=0)
    times = tuple(
        Times(
            cpu_ms=float(np.median(cpu[:, at])),
            wall_ms=float(np.median(wall[:, at])),
            p99_ms=float(np.quantile(wall[:, at], 0.99)),
            rows=rows,
        )
        for at in range(cpu.shape[1])
    )
    return Raced(times, tuple(map(float, middle)), tuple(map(float, low)), tuple(map(float, high)))


def weigh(order: Weigh) -> Weighed:
    """The growth of this process's peak; true only in a process that did nothing before."""
    first = next(runs(load_samples(Path(order.samples)), order.batch), None)
    before = _peak_bytes()
    model = open_model(order.model)
    if first is None:
        raise InvalidModel(f"{order.model}: no samples to run", hint="give data")
    model.run(first.feeds, [spec.name for spec in model.outputs])
    return Weighed(max(0, _peak_bytes() - before))


def _peak_bytes() -> int:
    """VmHWM: what getrusage calls the peak, a process inherits from whoever started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
