"""One conversion of a network, within the child process: both exporters, each judged, the faster of the valid kept."""

from __future__ import annotations

import hashlib
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from taxiway.convert.attempts import failed, in_short, tensors_of, versions_of
from taxiway.convert.choosing import choose
from taxiway.convert.graph import opsets
from taxiway.convert.networks.exporters import EXPORTERS, said, unknown_operators
from taxiway.convert.networks.loading import load
from taxiway.convert.networks.network import Feeds, Network
from taxiway.convert.networks.proof import cases_of, prove
from taxiway.convert.outcome import (
    Attempt,
    Candidate,
    Converted,
    NotConverted,
    Outcome,
    Parity,
    Reason,
    Refused,
    Request,
)
from taxiway.convert.sources import kind_of
from taxiway.core.errors import TaxiwayError
from taxiway.runtimes.onnx import OnnxModel, OnnxOptions, OnnxRuntime

ROUNDS: Final = 7
SLICE_S: Final = 0.1


@dataclass(frozen=True)
class _Valid:
    """A graph that answered every case."""

    exporter: str
    path: Path
    session: OnnxModel
    parity: Parity


def convert_network(request: Request, note: Callable[[Outcome], object]) -> Outcome:
    """Convert the network at `request.source`; `note` is told the verdict as it stands before each attempt."""
    attempts: list[Attempt] = []
    samples = None if request.samples is None else Path(request.samples)
    trusted, scanned = _digests(request.trusted_digest), _digests(request.scanned_digest)
    try:
        network = load(request.source, kind_of(request.source), samples, trusted, scanned)
        cases = cases_of(network, samples is not None)
    except Refused as refused:
        return refused.verdict
    valid, unknown = [], []
    for number, (exporter, export) in enumerate(EXPORTERS.items()):
        note(failed(attempts, f"while exporting by {exporter}"))
        path = Path(request.target).with_name(f"candidate{number}.onnx")
        try:
            export(network, path)
            session = OnnxRuntime().load(path, OnnxOptions())
            parity = prove(cases, session)
        except Exception as problem:  # noqa: BLE001 - an exporter raises whatever it likes
            unknown += unknown_operators(problem)
            attempts.append(Attempt(datatype=exporter, problem=_problem(problem)))
            continue
        if parity.holds:
            valid.append(_Valid(exporter, path, session, parity))
        else:
            attempts.append(Attempt(datatype=exporter, problem=parity.in_words(), parity=parity))
    if not valid:
        return _none(network, attempts, unknown)
    return _kept(network, valid, attempts, request)


def _digests(told: str | None) -> tuple[str, ...]:
    return () if told is None else (told.lower().removeprefix("sha256:"),)


def _problem(problem: Exception) -> str:
    operators = unknown_operators(problem)
    if operators:
        return f"there is no ONNX for {', '.join(operators)}"
    if isinstance(problem, ImportError):
        return f"needs {problem.name}, which is not installed: pip install {problem.name}"
    return in_short(problem) if isinstance(problem, TaxiwayError) else said(problem)


def _none(network: Network, attempts: list[Attempt], unknown: list[str]) -> NotConverted:
    verdict = failed(attempts)
    if not unknown or verdict.reason is Reason.PARITY_FAILED:
        return verdict
    operators = ", ".join(dict.fromkeys(unknown))
    return NotConverted(
        reason=Reason.UNSUPPORTED,
        message=f"the model uses {operators}, for which there is no ONNX; {verdict.message}",
        hint=f"write what it does in other operators, or let {network.framework} serve it",
        attempts=tuple(attempts),
    )


def _kept(network: Network, valid: list[_Valid], attempts: list[Attempt], request: Request) -> Converted:
    times = race([one.session for one in valid], network.examples)
    candidates = [
        Candidate(exporter=one.exporter, size_bytes=one.path.stat().st_size, cpu_ms=1e3 * cpu_s)
        for one, cpu_s in zip(valid, times, strict=True)
    ]
    best = choose(candidates)
    kept = next(one for one in valid if one.exporter == best.exporter)
    shutil.copyfile(kept.path, request.target)
    content = Path(request.target).read_bytes()
    return Converted(
        target=request.target,
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        framework=network.framework,
        converter=kept.exporter,
        versions=versions_of(("onnx", "onnxruntime", "numpy", *network.libraries)),
        opsets=opsets(onnx.load_from_string(content)),
        inputs=tensors_of(kept.session.inputs),
        outputs=tensors_of(kept.session.outputs),
        parity=kept.parity,
        attempts=tuple(attempts),
        candidates=tuple(candidates),
    )


def race(sessions: list[OnnxModel], feeds: Feeds) -> list[float]:
    """CPU seconds of one run of each, on one thread: the median of rounds in which they take turns."""
    if len(sessions) == 1:
        return [_cpu_s(sessions[0], feeds)]
    rounds = [[_cpu_s(session, feeds) for session in sessions] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _cpu_s(session: OnnxModel, feeds: Feeds) -> float:
    wanted = {spec.name: feeds[spec.name] for spec in session.inputs}
    outputs = [spec.name for spec in session.outputs]
    session.run(wanted, outputs)
    runs, started = 0, time.process_time()
    while runs < 1 or time.process_time() - started < SLICE_S:
        session.run(wanted, outputs)
        runs += 1
    return (time.process_time() - started) / runs
