"""Mode `triton`: traces as JSON in a file, in the form of Triton 2.51.

A file is a JSON array, closed again after every write, so that it can be read at any time. Triton writes its only
file (`log_frequency` 0) when it ends; this one grows meanwhile, and memory does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from taxiway.server.tracing.outbox import Outbox
from taxiway.server.tracing.tensors import print_elements
from taxiway.server.tracing.trace import INPUT, OUTPUT, Origin, Tensor, Trace
from taxiway.telemetry.render import Point


class TraceFiles:
    """Writes to `path`; with a `log_frequency` of N, N traces each to `path`.0, `path`.1 and so on."""

    heeds_callers = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = TraceFile(path)
        self._numbered = TraceFile(path.with_name(f"{path.name}.0"))
        self._index = 0
        self._outbox = Outbox("triton", self._write)

    def wanted(self, origin: Origin) -> None:
        """Headers decide nothing here."""

    def put(self, trace: Trace) -> None:
        """Have it written soon."""
        self._outbox.put(trace)

    def points(self) -> Iterator[Point]:
        """As `Outbox.points`."""
        return self._outbox.points()

    def close(self, timeout_s: float) -> None:
        """As `Outbox.close`."""
        self._outbox.close(timeout_s)

    def _write(self, traces: Sequence[Trace]) -> None:
        for frequency, alike in groupby(traces, key=lambda trace: trace.plan.log_frequency):
            if frequency:
                self._write_numbered(list(alike), frequency)
            else:
                self._whole.append(list(alike))

    def _write_numbered(self, traces: list[Trace], frequency: int) -> None:
        while traces:
            room = frequency - self._numbered.traces
            if room <= 0:
                self._index += 1
                self._numbered = TraceFile(self._path.with_name(f"{self._path.name}.{self._index}"))
                continue
            self._numbered.append(traces[:room])
            traces = traces[room:]


class TraceFile:
    """One file, begun anew with its first trace. `traces` says how many it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.traces = 0

    def append(self, traces: Sequence[Trace]) -> None:
        """Put them at the end.

        Raises:
            OSError: the file cannot be written.
        """
        text = b",".join(orjson.dumps(told) for trace in traces for told in describe_trace(trace))
        if self.traces:
            with self.path.open("r+b") as file:
                file.seek(-1, 2)
                file.write(b",%b]" % text)
        else:
            self.path.write_bytes(b"[%b]" % text)
        self.traces += len(traces)


def describe_trace(trace: Trace) -> Iterator[dict[str, Any]]:
    """What Triton writes of one request, in the order of time; and how it failed, if it did."""
    inputs = [tensor for tensor in trace.tensors if tensor.activity == INPUT]
    outputs = [tensor for tensor in trace.tensors if tensor.activity == OUTPUT]
    for name, ns in trace.timestamps():
        if name == "REQUEST_START":
            told: dict[str, Any] = {"id": trace.id, "model_name": trace.model, "model_version": trace.version}
            if trace.request_id:
                told["request_id"] = trace.request_id
            if trace.parent is not None:
                told["parent_id"] = trace.parent.id
            yield told
        if name == "INFER_RESPONSE_COMPLETE":
            yield from (_describe_tensor(trace.id, tensor) for tensor in outputs)
        if "TIMESTAMPS" in trace.plan.levels:
            yield {"id": trace.id, "timestamps": [{"name": name, "ns": ns}]}
        if name == "QUEUE_START":
            yield from (_describe_tensor(trace.id, tensor) for tensor in inputs)
    if trace.is_cancelled:
        yield {"id": trace.id, "error": {"code": "cancelled", "message": "the client went away"}}
    elif trace.error is not None:
        yield {"id": trace.id, "error": {"code": trace.error.code, "message": trace.error.message}}


def _describe_tensor(trace_id: int, tensor: Tensor) -> dict[str, Any]:
    told = {
        "name": tensor.name,
        "data": print_elements(tensor),
        "shape": ",".join(map(str, tensor.shape)),
        "dtype": tensor.datatype,
    }
    return {"id": trace_id, "activity": tensor.activity, "tensor": told}
