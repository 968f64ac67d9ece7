"""Published traces of language model services as workloads: when requests came, and how many tokens went in and out.

Azure's LLM inference traces (Patel et al., Splitwise, 2023; Stojkovic et al., DynamoLLM, 2024) and BurstGPT (Wang et
al., 2024). They hold no prompts: a request has `input_tokens` and `output_tokens`, and its target makes up the text.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taxiway.core.errors import InvalidWorkload, NotFound
from taxiway.profile.requests import Problem, Request
from taxiway.profile.workload import Limits, Workload, read_workload, refusal

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class _Format:
    """The columns of one publisher; `moments`: whether times are moments, else they are seconds from the beginning."""

    name: str
    columns: tuple[str, ...]
    time: str
    input_tokens: str
    output_tokens: str
    moments: bool


AZURE: Final = _Format(
    "Azure LLM inference trace",
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "TIMESTAMP",
    "ContextTokens",
    "GeneratedTokens",
    moments=True,
)
BURST_GPT: Final = _Format(
    "BurstGPT",
    ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"),
    "Timestamp",
    "Request tokens",
    "Response tokens",
    moments=False,
)
"""`Session ID` and `Elapsed time` are in later releases only."""
_FORMATS: Final = (AZURE, BURST_GPT)


def read_trace(path: Path, limits: Limits = Limits()) -> Workload:  # noqa: B008 - frozen
    """The requests of a trace in one of the formats above, as its first line says; the first at 0 s.

    BurstGPT's failed requests (no response tokens) are kept, as they came and asked; they ask for one token.

    Raises:
        NotFound: there is no such file.
        InvalidWorkload: it is none of these, is beyond a limit, or rows break rules: as many as may be told, at once.
    """
    try:
        if path.stat().st_size > limits.max_bytes:
            raise refusal(path, [Problem(1, "", f"the file has more than {limits.max_bytes} bytes", "split it")])
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read(path, csv.reader(file), limits)
    except FileNotFoundError:
        raise NotFound(f"there is no trace {path}", hint="name a CSV file", path=str(path)) from None
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise InvalidWorkload(f"{path} cannot be read: {problem}", hint="name a CSV file in UTF-8") from None


def read_requests(path: Path) -> Workload:
    """A workload in JSON Lines, or a trace if it is named .csv.

    Raises:
        NotFound, InvalidWorkload: as `read_workload` and `read_trace`.
    """
    return read_trace(path) if is_trace(path) else read_workload(path)


def is_trace(path: Path) -> bool:
    """Whether a file is named as traces are, and not as workloads."""
    return path.suffix.lower() == ".csv"


def _read(path: Path, rows: Iterator[Row], limits: Limits) -> Workload:
    head = [name.strip() for name in next(rows, [])]
    found = next((one for one in _FORMATS if set(one.columns) <= set(head)), None)
    if found is None:
        known = "; ".join(f"{one.name}: {', '.join(one.columns)}" for one in _FORMATS)
        shown = ", ".join(head)[:200] or "none"
        raise refusal(path, [Problem(1, "", f"its columns are {shown}", f"known are {known}")])
    reader = _RowReader(found, head)
    for number, row in enumerate(rows, 2):
        if row:
            reader.take(number, row)
        if len(reader.problems) >= limits.max_problems:
            break
        if len(reader.requests) > limits.max_requests:
            rule = f"is request {len(reader.requests)}, at most {limits.max_requests} are read"
            reader.problems.append(Problem(number, "", rule, "split the file"))
            break
    if not reader.requests and not reader.problems:
        reader.problems.append(Problem(2, "", "the trace has no request", "name another file"))
    if reader.problems:
        raise refusal(path, reader.problems)
    return Workload(_from_zero(reader.requests), f"{found.name} {path.name}")


class _RowReader:
    """Takes the rows of one trace."""

    def __init__(self, layout: _Format, head: list[str]) -> None:
        self.requests: list[tuple[float, int, int]] = []
        """Time in seconds, tokens in, tokens out."""
        self.problems: list[Problem] = []
        self._columns = len(head)
        self._places = [head.index(name) for name in (layout.time, layout.input_tokens, layout.output_tokens)]
        self._head = head
        self._readers: tuple[Callable[[str], float], ...] = (_moment if layout.moments else _seconds, _count, _count)

    def take(self, number: int, row: Row) -> None:
        """Read row `number`."""
        if len(row) != self._columns:
            rule = f"has {len(row)} columns, the first line has {self._columns}"
            self.problems.append(Problem(number, "", rule, "is it cut off? remove it"))
            return
        values = []
        for place, read in zip(self._places, self._readers, strict=True):
            try:
                values.append(read(row[place].strip()))
            except ValueError as broken:
                rule = f"is {row[place][:40]!r}, {broken}"
                self.problems.append(Problem(number, self._head[place], rule, "correct the row, or remove it"))
        if len(values) == len(self._places):
            self.requests.append((values[0], int(values[1]), max(int(values[2]), 1)))


def _from_zero(requests: list[tuple[float, int, int]]) -> list[Request]:
    """Sorted by time: BurstGPT logs a request when it has ended."""
    requests = sorted(requests, key=lambda request: request[0])
    start_s = requests[0][0]
    return [Request(round(at - start_s, 7), input_tokens=given, output_tokens=made) for at, given, made in requests]


def _moment(text: str) -> float:
    """Seconds since 1970, of a moment with up to seven digits after the second, as .NET writes it."""
    try:
        whole, _, rest = text.removesuffix("+00:00").partition(".")
        moment = dt.datetime.fromisoformat(whole).replace(tzinfo=dt.UTC)
        return moment.timestamp() + float(f"0.{rest or 0}")
    except ValueError:
        raise ValueError("not a moment such as 2023-11-16 18:17:03.9799600") from None


def _seconds(text: str) -> float:
    value = float(text) if text else float("nan")
    if not 0 <= value < 1e12:
        raise ValueError("not a number of seconds")
    return value


def _count(text: str) -> float:
    if not text.isdecimal() or len(text) > 9:
        raise ValueError("not a number of tokens")
    return int(text)
