"""From what a server kept of its requests to a workload, in bounded memory: content goes to disk as it is told."""

from __future__ import annotations

import base64
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from taxiway.core.tensors import Datatype
from taxiway.profile.workload import Limits, head_line, write_lines

_TIME_BYTES: Final = 40
"""What `at_s` adds to a line."""


class RecordedWorkload:
    """Takes requests as `/v2/models/{model}/recording/fetch` tells them, and writes them by time, the first at 0 s.

    A tensor with what JSON has no number for (NaN, infinities), text that is not UTF-8, or more than a line may hold,
    is left without its data. To be used as a context: until its end the lines lie in a file beside the workload.

    Args:
        path: of the workload.
        source: what it says of itself.
        limits: of whoever reads it.

    Attributes:
        count: requests that were taken.
        shortened: those without content because their line would have been too long.
        is_full: whether one more would be beyond a limit; it was not taken.

    Raises:
        OSError: the file beside it cannot be written.
    """

    def __init__(self, path: Path, source: str, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.count = 0
        self.shortened = 0
        self.is_full = False
        self.lines_at = path.with_name(f".{path.name}.{os.getpid()}.lines")
        self._path = path
        self._limits = limits
        self._head = head_line(source)
        self._arrived_ns = array("q")
        self._ends = array("Q", [len(self._head)])
        """Where each line ends in the file; before them the head does."""
        self._keeps = False
        self._file = self.lines_at.open("wb+", buffering=0)  # what could not be written is not tried again at its end
        self._write(self._head, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._keeps:
            self.lines_at.unlink(missing_ok=True)

    def take(self, told: Mapping[str, Any]) -> None:
        """Keep one request, unless it is beyond a limit.

        Raises:
            OSError: it cannot be written.
        """
        line = _line(told["inputs"])
        is_long = len(line) + _TIME_BYTES > self._limits.max_line_bytes
        if is_long:
            line = _line([{name: value for name, value in one.items() if name != "raw"} for one in told["inputs"]])
        end = self._ends[-1] + len(line)
        whole = end + _TIME_BYTES * (self.count + 1)
        if whole > self._limits.max_bytes or self.count >= self._limits.max_requests:
            self.is_full = True
            return
        self._write(line, self._ends[-1])
        self._arrived_ns.append(int(told["arrived_ns"]))
        self._ends.append(end)
        self.count += 1
        self.shortened += is_long

    def finish(self) -> None:
        """Write the workload whole, or leave what is there.

        Raises:
            OSError: it cannot be written; then `lines_at` stays, a workload too, without times and order.
        """
        try:
            write_lines(self._path, chain([self._head], self._by_time()))
        except OSError:
            self._keeps = True
            os.truncate(self.lines_at, self._ends[-1])
            raise
        self._keeps = False

    def _write(self, line: bytes, place: int) -> None:
        left = memoryview(line)
        while left:
            written = os.pwrite(self._file.fileno(), left, place)
            left, place = left[written:], place + written

    def _by_time(self) -> Iterator[bytes]:
        arrived_ns = np.array(self._arrived_ns, np.int64)
        first_ns = int(arrived_ns.min(initial=2**63 - 1))
        file = self._file.fileno()
        for index in np.argsort(arrived_ns, kind="stable").tolist():
            start, end = self._ends[index], self._ends[index + 1]
            at_s = round((self._arrived_ns[index] - first_ns) / 1e9, 6)
            yield b'{"at_s":' + orjson.dumps(at_s) + b"," + os.pread(file, end - start, start).removeprefix(b"{")


def _line(inputs: Iterable[Mapping[str, Any]]) -> bytes:
    return orjson.dumps({"inputs": [_tensor(one) for one in inputs]}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def _tensor(told: Mapping[str, Any]) -> dict[str, Any]:
    tensor = {name: value for name, value in told.items() if name != "raw"}
    datatype = Datatype.by_name(tensor["datatype"])
    if "raw" not in told or datatype is None:
        return tensor
    data = _texts(told["raw"]) if datatype is Datatype.BYTES else _elements(base64.b64decode(told["raw"]), datatype)
    return tensor if data is None else {**tensor, "data": data}


def _texts(raw: Iterable[str]) -> list[str] | None:
    try:
        return [base64.b64decode(item).decode() for item in raw]
    except UnicodeDecodeError:
        return None


def _elements(raw: bytes, datatype: Datatype) -> NDArray[Any] | None:
    elements: NDArray[Any] = np.frombuffer(raw, datatype.numpy_dtype)
    if datatype is Datatype.BF16:
        elements = (elements.astype(np.uint32) << 16).view(np.float32)
    elif datatype is Datatype.FP16:
        elements = elements.astype(np.float32)  # which JSON's writer knows
    return None if elements.dtype.kind == "f" and not np.isfinite(elements).all() else elements
