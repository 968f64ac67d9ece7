"""What is asked of a target: requests with their inputs, read from and written to JSON Lines (docs/workloads.md)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from taxiway.core.errors import InvalidWorkload, NotFound
from taxiway.profile.requests import FORMAT, Problem, Request
from taxiway.profile.workload_lines import LineReader

__all__ = ["Limits", "Request", "Workload", "read_workload", "refusal", "workload_lines", "write_workload"]


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in their order, and where they come from, in words."""

    requests: list[Request]
    source: str

    def times_s(self) -> NDArray[np.float64] | None:
        """When each came, shape (requests,), for a replay; None if they do not say."""
        times = [request.at_s for request in self.requests if request.at_s is not None]
        return np.array(times) if times and len(times) == len(self.requests) else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a workload may hold, so that a wrong file does not fill the memory."""

    max_bytes: int = 1 << 30
    max_line_bytes: int = 16 << 20
    max_requests: int = 1_000_000
    max_problems: int = 20


def read_workload(path: Path, limits: Limits = Limits()) -> Workload:
    """The requests of a JSON Lines file.

    Raises:
        NotFound: there is no such file.
        InvalidWorkload: it cannot be read, is beyond a limit, or lines break rules: as many as may be told, at once.
    """
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise refusal(path, [Problem(1, "", f"the file has {size} bytes, at most {limits.max_bytes}", "split it")])
        with path.open("rb") as file:
            return _read(path, file, limits)
    except FileNotFoundError:
        raise NotFound(f"there is no workload {path}", hint="`taxiway record` makes one", path=str(path)) from None
    except OSError as problem:
        raise InvalidWorkload(f"{path} cannot be read: {problem.strerror}", hint="name a readable file") from None


def _read(path: Path, file: BinaryIO, limits: Limits) -> Workload:
    reader = LineReader()
    for number, line in enumerate(iter(lambda: file.readline(limits.max_line_bytes + 1), b""), 1):
        if len(line) > limits.max_line_bytes:
            rule = f"is longer than {limits.max_line_bytes} bytes"
            reader.problems.append(Problem(number, "", rule, "shorten its tensors; what follows was not read"))
            break
        reader.take(number, line)
        if len(reader.requests) > limits.max_requests:
            rule = f"is request {len(reader.requests)}, at most {limits.max_requests} are read"
            reader.problems.append(Problem(number, "", rule, "split the file"))
        if len(reader.problems) >= limits.max_problems or len(reader.requests) > limits.max_requests:
            break
    if not reader.requests and not reader.problems:
        reader.problems.append(Problem(1, "", "the file has no request", 'write one a line, such as {"inputs": [...]}'))
    if reader.problems:
        raise refusal(path, reader.problems[: limits.max_problems])
    return Workload(reader.requests, reader.source or str(path))


def refusal(path: Path, problems: list[Problem]) -> InvalidWorkload:
    """The error that tells all of these at once."""
    told = "".join(f"\n  {problem}" for problem in problems)
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return InvalidWorkload(
        f"{path} is no workload, {count}:{told}",
        hint="docs/workloads.md shows every field",
        path=str(path),
        problems=[str(problem) for problem in problems],
    )


def write_workload(path: Path, workload: Workload) -> None:
    """Write it whole, or leave what is there.

    Raises:
        OSError: the file cannot be written.
    """
    write_lines(path, workload_lines(workload.requests, workload.source))


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file of these lines whole, or leave what is there.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def head_line(source: str) -> bytes:
    """The first line of a file, which says what it is, with its end."""
    return orjson.dumps({"format": FORMAT, "source": source}) + b"\n"


def workload_lines(requests: Iterable[Request], source: str) -> Iterator[bytes]:
    """The lines of a file, each with its end; the first says what it is."""
    yield head_line(source)
    for request in requests:
        yield orjson.dumps(_words(request), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def _words(request: Request) -> dict[str, Any]:
    """Its members that say something."""
    said = {name: getattr(request, name) for name in Request.__slots__}
    if not request.headers:
        del said["headers"]
    if request.weight == 1:
        del said["weight"]
    return {name: value for name, value in said.items() if value is not None}
