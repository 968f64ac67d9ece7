"""One conversion, within the child process: export, load, compare; once for each type of inputs until one is right."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from taxiway.convert.foreign import Export, Foreign
from taxiway.convert.frameworks import load
from taxiway.convert.graph import opsets, tidy
from taxiway.convert.outcome import Attempt, Converted, NotConverted, Outcome, Parity, Reason, Refused, Request, Tensor
from taxiway.convert.parity import Answered, Samples, compare
from taxiway.convert.rows import read_samples
from taxiway.core.errors import TaxiwayError
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.runtimes.onnx import OnnxModel, OnnxOptions, OnnxRuntime

SEED: Final = 20
ALONE: Final = 48
"""So many rows are also asked alone, ..."""
BATCH: Final = 7
"""... and all of them by so many: ONNX Runtime computes a row, a few and many by different code."""


def convert(request: Request, note: Callable[[Outcome], object]) -> Outcome:
    """Convert the model at `request.source`; `note` is told the verdict as it stands before each attempt.

    An exporter may take this whole process with it, and what was found out until then should outlive it.
    """
    attempts: list[Attempt] = []
    try:
        model = load(Path(request.source), request.trusted_digest)
        given = read_samples(Path(request.samples), model.columns) if request.samples else None
        for datatype in model.datatypes:
            note(failed(attempts, f"while exporting with {datatype.wire_name} inputs"))
            done = _attempt(model, datatype, given, request, attempts)
            if done is not None:
                return done
    except Refused as refused:
        return refused.verdict
    return failed(attempts)


def _attempt(
    model: Foreign, datatype: Datatype, given: Samples | None, request: Request, attempts: list[Attempt]
) -> Converted | None:
    """The artifact, or None with the reason added to `attempts`."""
    try:
        export = model.export(datatype)
        artifact = tidy(export.model, model.outputs)
        target = Path(request.target)
        target.write_bytes(artifact.SerializeToString())
        session = OnnxRuntime().load(target, OnnxOptions())
    except Exception as problem:  # noqa: BLE001 - an exporter raises whatever it likes
        attempts.append(Attempt(datatype=datatype.wire_name, problem=in_short(problem)))
        return None
    try:
        samples = given or model.samples(datatype, np.random.default_rng(SEED))
        parity = prove(model, session, datatype, samples)
    except TaxiwayError as problem:
        attempts.append(Attempt(datatype=datatype.wire_name, problem=in_short(problem)))
        return None
    if not parity.holds:
        attempts.append(Attempt(datatype=datatype.wire_name, problem=parity.in_words(), parity=parity))
        return None
    return _converted(model, export, artifact, session, parity, request, attempts)


def prove(model: Foreign, session: OnnxModel, datatype: Datatype, samples: Samples) -> Parity:
    """Ask both the same rows, the artifact in batches of several sizes, and compare."""
    try:
        expected = {name: np.asarray(values) for name, values in model.answer(samples.rows).items()}
    except Exception as problem:
        raise Refused(
            Reason.BAD_SAMPLES, f"{model.framework} itself refuses the rows: {in_short(problem)}"
        ) from problem
    feeds = {spec.name: _narrow(samples.rows[spec.name], spec) for spec in session.inputs}
    return compare(datatype.wire_name, samples, expected, _answers(session, feeds, len(samples), tuple(expected)))


def _narrow(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if spec.datatype is Datatype.BYTES:
        return np.array([[str(value).encode()] for value in values[:, 0]], dtype=object)
    with np.errstate(over="ignore"):
        return values.astype(spec.datatype.numpy_dtype)


def _answers(
    session: OnnxModel, feeds: Mapping[str, NDArray[Any]], rows: int, outputs: tuple[str, ...]
) -> Iterator[Answered]:
    for start, count in [(0, rows), *_slices(rows, BATCH), *((at, 1) for at in _spread(rows, ALONE))]:
        part = {name: np.ascontiguousarray(values[start : start + count]) for name, values in feeds.items()}
        found = session.run(part, outputs)
        yield Answered(start, count, {name: _text(a) for name, a in zip(outputs, found, strict=True)})


def _text(values: NDArray[Any]) -> NDArray[Any]:
    return np.array([value.decode() for value in values.tolist()]) if values.dtype == object else values


def _slices(rows: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(size, rows - start)) for start in range(0, rows, size))


def _spread(rows: int, count: int) -> list[int]:
    return [int(at) for at in np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(int))]


def failed(attempts: list[Attempt], doing: str = "") -> NotConverted:
    """The verdict if no further attempt is right; `doing` is said last."""
    compared = [attempt for attempt in attempts if attempt.parity is not None]
    reason = Reason.PARITY_FAILED if compared else Reason.EXPORT_FAILED
    tried = [f"{attempt.datatype}: {attempt.problem}" for attempt in attempts]
    message = "; ".join([*tried, doing] if doing else tried)
    return NotConverted(
        reason=reason, message=message, hint="the native library serves this model", attempts=tuple(attempts)
    )


def _converted(
    model: Foreign,
    export: Export,
    artifact: onnx.ModelProto,
    session: OnnxModel,
    parity: Parity,
    request: Request,
    attempts: list[Attempt],
) -> Converted:
    content = Path(request.target).read_bytes()
    return Converted(
        target=request.target,
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        framework=model.framework,
        converter=model.converter,
        versions=versions_of(("onnx", "onnxruntime", "numpy", *model.libraries)),
        opsets=opsets(artifact),
        inputs=tensors_of(session.inputs),
        outputs=tensors_of(session.outputs),
        parity=parity,
        mended=export.mended,
        attempts=tuple(attempts),
    )


def tensors_of(specs: tuple[TensorSpec, ...]) -> tuple[Tensor, ...]:
    """As a report tells them."""
    return tuple(Tensor(spec.name, spec.datatype.wire_name, spec.shape) for spec in specs)


def versions_of(distributions: tuple[str, ...]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # xgboost is installed as xgboost or as xgboost-cpu
            continue
    return found


def in_short(problem: Exception) -> str:
    """One line of at most 400 characters and a name."""
    said = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {said[:400]}" if not isinstance(problem, TaxiwayError) else said[:400]
