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
from taxiway.server.tracing.trace import Origin, Trace
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
    edge = trace.origin.protocol
    timed = "TIMESTAMPS" in trace.plan.levels
    told_who = False
    tensors = sorted(trace.tensors, key=lambda tensor: tensor.at_ns)
    for name, ns in trace.timestamps():
        if not told_who and not (edge and name.startswith(edge)):
            told_who = True
            yield _who(trace)
        while tensors and name in _AFTER_INPUTS and tensors[0].activity == "TENSOR_QUEUE_INPUT":
            yield _tensor(trace, tensors.pop(0))
        while tensors and name in _AFTER_OUTPUTS:
            yield _tensor(trace, tensors.pop(0))
        if timed:
            yield {"id": trace.id, "timestamps": [{"name": name, "ns": ns}]}
    if trace.is_cancelled:
        yield {"id": trace.id, "error": {"code": "cancelled", "message": "the client went away"}}
    elif trace.error is not None:
        yield {"id": trace.id, "error": {"code": trace.error.code, "message": trace.error.message}}


_AFTER_INPUTS = frozenset({"COMPUTE_START", "INFER_RESPONSE_COMPLETE", "REQUEST_END"})
_AFTER_OUTPUTS = frozenset({"INFER_RESPONSE_COMPLETE", "REQUEST_END"})


def _who(trace: Trace) -> dict[str, Any]:
    told = {"id": trace.id, "model_name": trace.model, "model_version": trace.version}
    return told | ({"request_id": trace.request_id} if trace.request_id else {})


def _tensor(trace: Trace, tensor: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "id": trace.id,
        "activity": tensor.activity,
        "tensor": {
            "name": tensor.name,
            "data": print_elements(tensor),
            "shape": ",".join(map(str, tensor.shape)),
            "dtype": tensor.datatype,
        },
    }
