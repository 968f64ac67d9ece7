"""TorchServe's archives (`.mar`, or the directory that one unpacks to), their handlers unchanged.

As a model of the Open Inference Protocol it takes `data`, BYTES, one body per row, and answers `output`, BYTES; beside
it stand `status` and `headers`, which a handler may set for each request. Two parameters of a request say what its
bodies are: `content_type`, and `headers`, a JSON object.
"""

from __future__ import annotations

import json
import os
import re
import traceback
import uuid
from collections.abc import Mapping, Sequence
from time import monotonic_ns
from typing import Any

import numpy as np

from taxiway.core.errors import MalformedRequest, TaxiwayError
from taxiway.runtimes.hosted.archives import Archive, open_archive
from taxiway.runtimes.hosted.batch import Answer, Batch, Request, Settled
from taxiway.runtimes.hosted.forms import is_form, media_type_of, read_form
from taxiway.runtimes.hosted.frames import Declared, Learn, Metric, Opened, Ran, Said
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.handlers import Handler, Reply, Row, told
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.trust import digest_of, is_trusted
from taxiway.runtimes.hosted.ts_shim.ts.metrics.metric_type_enum import MetricTypes
from taxiway.runtimes.hosted.ts_shim.ts.metrics.metrics_store import MetricsStore, Report

_INPUTS = (Declared("data", "BYTES", (-1, 1)),)
_OUTPUTS = (
    Declared("output", "BYTES", (-1, 1)),
    Declared("status", "INT32", (-1, 1)),
    Declared("headers", "BYTES", (-1, 1)),
)
_ACTS = {MetricTypes.COUNTER: "add", MetricTypes.GAUGE: "set", MetricTypes.HISTOGRAM: "observe"}


class TorchServeGuest:
    """Answers runs with a handler; a batch that fails is halved, so that who brought the trouble fails alone."""

    def __init__(self, handler: Handler, archive: Archive, lines: Lines, opened: Opened) -> None:
        self._handler = handler
        self._archive = archive
        self._lines = lines
        self.opened = opened

    def learn(self, names: Learn) -> None:
        """Runs come next."""
        self._settled = Settled(names, self._lines.outbox)

    def run(self, batches: Sequence[Batch]) -> None:
        """Answer each of them."""
        for batch in batches:
            self._run(batch)

    def close(self) -> None:
        """Remove what was unpacked."""
        self._archive.close()

    def _run(self, batch: Batch) -> None:
        started = monotonic_ns()
        read = [_rows_of(request) for request in batch.requests]
        merged = monotonic_ns()
        replies = iter(self._replies([row for rows in read if not isinstance(rows, TaxiwayError) for row in rows]))
        answers: list[Answer] = [
            rows if isinstance(rows, TaxiwayError) else _answer([next(replies) for _ in rows]) for rows in read
        ]
        computed = monotonic_ns()
        block, whole, parts = self._settled.each(answers)
        self._lines.mailbox.send(Ran(batch.id, block, started, merged, computed, monotonic_ns(), whole, parts))

    def _replies(self, rows: Sequence[Row]) -> list[Reply | TaxiwayError]:
        """What each row is answered."""
        if not rows:
            return []
        try:
            return list(self._handler.answer(rows))
        except Exception as problem:  # noqa: BLE001 - the boundary: whatever a handler raises becomes an answer
            if len(rows) == 1:
                if not isinstance(problem, TaxiwayError):
                    traceback.print_exc()
                return [told(problem)]
        middle = len(rows) // 2
        return self._replies(rows[:middle]) + self._replies(rows[middle:])


def open_model(source: Source, lines: Lines) -> TorchServeGuest:
    """Unpack the archive and have its handler load its model, in the archive's directory as in TorchServe."""
    archive = open_archive(source.file)
    try:
        config = _completed(source, archive)
        os.chdir(archive.directory)
        if archive.missing:
            names = ", ".join(archive.missing)
            lines.mailbox.send(Said("warning", f"the archive requires packages that are not installed here: {names}"))
        handler = Handler(
            archive,
            source.name,
            rows=config["max_batch_size"],
            gpu=source.device if source.kind == "GPU" else None,
            trusted=_trusted(source, archive),
            metrics=MetricsStore(_reporter(source, lines)),
        )
    except BaseException:
        archive.close()
        raise
    return TorchServeGuest(handler, archive, lines, Opened(json.dumps(config), _INPUTS, _OUTPUTS))


def _trusted(source: Source, archive: Archive) -> frozenset[str]:
    """Digests that were vouched for: who vouches for a whole archive vouches for what is packed in it."""
    if not source.file.is_file() or not is_trusted(source.file, source.trusted):
        return source.trusted
    packed = (path for path in archive.directory.rglob("*") if path.is_file())
    return source.trusted | {digest_of(path) for path in packed}


def _completed(source: Source, archive: Archive) -> dict[str, Any]:
    """The configuration, with batches as the archive wants them: of one request, unless it says more."""
    config: dict[str, Any] = json.loads(source.config)
    if not config.get("max_batch_size"):
        config["max_batch_size"] = max(1, archive.number("batchSize", 1))
        if config["max_batch_size"] > 1 and "sequence_batching" not in config:
            delay_ms = archive.number("maxBatchDelay", 0)
            config["dynamic_batching"] = {"max_queue_delay_microseconds": delay_ms * 1000}
    return config


def _reporter(source: Source, lines: Lines) -> Report:
    """Tells of a handler's metrics under names that Prometheus takes; they are told apart by model and version."""
    own = {"model": source.name, "version": str(source.version)}

    def report(name: str, kind: MetricTypes, value: float, labels: Mapping[str, str]) -> None:
        clean = {_clean(label): text for label, text in labels.items()}
        if kind is not MetricTypes.COUNTER or value >= 0:
            lines.mailbox.send(Metric(_clean(name), kind.value, "", clean | own, _ACTS[kind], value))

    return report


def _clean(name: str) -> str:
    """A name as Prometheus takes it."""
    return re.sub(r"^(?=\d)|\W", "_", name, flags=re.ASCII)


def _rows_of(request: Request) -> list[Row] | TaxiwayError:
    """The bodies of a request as its handler sees them."""
    parameters = request.asked.parameters or {}
    content_type = parameters.get("content_type")
    try:
        headers = json.loads(parameters.get("headers") or "{}")
        if not isinstance(headers, dict):
            raise MalformedRequest("parameter 'headers' must be a JSON object")
        bodies = request.arrays()["data"].reshape(-1).tolist()
        return [_row(body, content_type, headers, request.asked.id or str(uuid.uuid4())) for body in bodies]
    except ValueError as problem:
        return MalformedRequest(f"parameter 'headers' is not JSON: {problem}")
    except TaxiwayError as problem:
        return problem


def _row(body: bytes, content_type: object, headers: Mapping[str, Any], request_id: str) -> Row:
    """One body: a form's fields by name, else all of it as `body`; as `data` if nobody says what it is."""
    if not isinstance(content_type, str):
        return Row({"data": bytearray(body)}, headers, request_id)
    if not is_form(content_type):
        media_type = media_type_of(content_type)
        return Row({"body": _value(body, media_type)}, {"body": {"content-type": media_type}, **headers}, request_id)
    fields = read_form(body, content_type)
    types = {field.name: {"content-type": field.media_type} for field in fields}
    return Row(
        {field.name: _value(field.value, field.media_type) for field in fields}, {**types, **headers}, request_id
    )


def _value(body: bytes, media_type: str | None) -> Any:  # noqa: ANN401 - whatever JSON says
    """JSON parsed and text decoded, as TorchServe does; what cannot be is handed on as it came."""
    try:
        if media_type == "application/json":
            return json.loads(body.decode())
        if media_type is not None and media_type.startswith("text"):
            return body.decode()
    except ValueError:
        pass
    return bytearray(body)


def _answer(replies: Sequence[Reply | TaxiwayError]) -> Answer:
    """The rows of one request; one that failed fails all of them."""
    bodies, statuses, headers = [], [], []
    for reply in replies:
        if isinstance(reply, TaxiwayError):
            return reply
        bodies.append(reply.body)
        statuses.append(reply.status)
        headers.append(json.dumps(reply.headers).encode())
    return {
        "output": _column(bodies),
        "status": np.array(statuses, np.int32).reshape(-1, 1),
        "headers": _column(headers),
    }


def _column(elements: Sequence[bytes]) -> Any:  # noqa: ANN401
    column = np.empty((len(elements), 1), dtype=object)
    column[:, 0] = elements
    return column
