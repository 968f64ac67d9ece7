"""What is traced, of which model: the server's settings, what callers changed in them, and Triton's words for both.

Pure. A change is checked whole before anything is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, Self

from taxiway.config.settings import TraceSettings
from taxiway.core.errors import InvalidArgument, Unsupported

Mode = Literal["triton", "opentelemetry"]
EXPORT_BATCH, EXPORT_DELAY_MS, EXPORT_QUEUE = 512, 200, 2048
"""Traces written together at most, how long others may join them, and how many may wait; more are dropped."""
Words = Mapping[str, Sequence[str] | None]
"""What a caller wants changed, in Triton's words: values by key; None takes an earlier change back."""

_UINT32, _INT32 = (1 << 32) - 1, (1 << 31) - 1
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_LEVELS = ("TIMESTAMPS", "TENSORS")
"""In the order in which Triton tells them."""


@dataclass(frozen=True, slots=True)
class TracePlan:
    """What is traced of one model's requests.

    Attributes:
        levels: of TIMESTAMPS and TENSORS; empty: nothing is traced.
        rate: every how many-th request.
        count: how many before it stops; -1: no end.
        log_frequency: traces per file; 0: all in one.
    """

    levels: frozenset[str] = frozenset()
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    mode: Mode = "triton"

    @property
    def is_on(self) -> bool:
        """Whether anything is traced at all."""
        return bool(self.levels)

    @property
    def keeps_tensors(self) -> bool:
        """Whether tensors are noted; spans carry none."""
        return "TENSORS" in self.levels and self.mode == "triton"


@dataclass(frozen=True, slots=True)
class TracePlans:
    """The plan of every model: what the server was started with, under the server's changes, under a model's own.

    Attributes:
        base: what the server was started with.
        file: where mode `triton` writes; empty: nowhere.
        endpoint: where mode `opentelemetry` sends spans.
        everywhere: what was changed for all models, by field of `TracePlan`.
        by_model: what was changed for one.
    """

    base: TracePlan = TracePlan()
    file: str = ""
    endpoint: str = ""
    everywhere: Mapping[str, Any] = field(default_factory=dict)
    by_model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: TraceSettings) -> Self:
        """As the settings say.

        Raises:
            InvalidArgument: something is to be traced to a file, and no file is named.
        """
        levels = frozenset(settings.level) - {"OFF"}
        base = TracePlan(levels, settings.rate, settings.count, settings.log_frequency, settings.mode)
        plans = cls(base, settings.file, settings.endpoint)
        plans._check()
        return plans

    def plan(self, model: str | None) -> TracePlan:
        """What holds for one model; None: for those without changes of their own."""
        own = self.by_model.get(model, {}) if model is not None else {}
        return replace(self.base, **{**self.everywhere, **own})

    def changed(self, model: str | None, words: Words) -> TracePlans:
        """These plans after a change, for one model or (None) for all without a change of their own.

        Raises:
            InvalidArgument: a key or a value that is none.
            Unsupported: the file's name, which only who starts the server may choose.
        """
        return self._with(model, _merged(self._own(model), read_change(words)))

    def replaced(self, model: str | None, words: Words) -> TracePlans:
        """These plans with `words`, and nothing else, changed for one model or (None) for all others.

        Raises:
            InvalidArgument, Unsupported: as `changed`.
        """
        return self._with(model, _merged({}, read_change(words)))

    def changes(self, model: str | None) -> dict[str, list[str]]:
        """What is changed for a model, or (None) for all others, so that `replaced` makes it so again."""
        return {key: write(self._own(model)[name]) for key, name, write in _WRITERS if name in self._own(model)}

    def _own(self, model: str | None) -> Mapping[str, Any]:
        return self.everywhere if model is None else self.by_model.get(model, {})

    def _with(self, model: str | None, own: Mapping[str, Any]) -> TracePlans:
        if model is None:
            plans = replace(self, everywhere=own)
        elif "mode" in own:
            raise InvalidArgument("'trace_mode' holds for the whole server", hint="change it at /v2/trace/setting")
        else:
            others = {name: kept for name, kept in self.by_model.items() if name != model}
            plans = replace(self, by_model=MappingProxyType(others | {model: own} if own else others))
        plans._check()
        return plans

    def to_words(self, model: str | None, left: int | None = None) -> dict[str, str | list[str]]:
        """The plan of a model in Triton's words and order; `left` is told as the count if it is known."""
        plan = self.plan(model)
        told: dict[str, str | list[str]] = {
            "trace_level": _write_levels(plan.levels),
            "trace_rate": str(plan.rate),
            "trace_count": str(plan.count if left is None else left),
        }
        if plan.mode == "triton":
            return told | {"log_frequency": str(plan.log_frequency), "trace_file": self.file, "trace_mode": plan.mode}
        return told | {
            "trace_mode": plan.mode,
            "url": self.endpoint,
            "bsp_max_export_batch_size": str(EXPORT_BATCH),
            "bsp_schedule_delay": str(EXPORT_DELAY_MS),
            "bsp_max_queue_size": str(EXPORT_QUEUE),
        }

    def _check(self) -> None:
        plans = [self.plan(None), *map(self.plan, self.by_model)]
        if not self.file and any(plan.is_on and plan.mode == "triton" for plan in plans):
            raise InvalidArgument(
                "Attempting to set invalid trace setting :trace file name is not given",
                hint="start the server with --trace.file",
                key="trace.file",
            )


def _merged(old: Mapping[str, Any], change: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType({name: value for name, value in {**old, **change}.items() if value is not None})


# --- Triton's words ------------------------------------------------------------------------------------------


def read_change(words: Words) -> dict[str, Any]:
    """A change in Triton's words as fields of `TracePlan`; None for those that are taken back.

    Raises:
        InvalidArgument, Unsupported: as `TracePlans.changed`.
    """
    change: dict[str, Any] = {}
    for key, values in words.items():
        if key == "trace_file":
            raise Unsupported(
                "trace file location can not be updated through network protocol", hint="set trace.file at the start"
            )
        if key not in _READERS:
            raise InvalidArgument(f"unknown trace setting '{key}'", hint=f"the keys are {', '.join(_READERS)}")
        name, read = _READERS[key]
        change[name] = None if values is None else read(key, values)
    return change


def _read_levels(_key: str, values: Sequence[str]) -> frozenset[str]:
    if "OFF" in values:
        if len(values) > 1:
            raise InvalidArgument("Expect only one trace level 'OFF' is specified")
        return frozenset()
    for level in values:
        if level not in _LEVELS:
            raise InvalidArgument(f"unknown trace level '{level}'", hint=f"the levels are OFF, {', '.join(_LEVELS)}")
    return frozenset(values)


def _read_rate(key: str, values: Sequence[str]) -> int:
    rate = _integer(key, values, 0, _UINT32)
    if rate == 0:
        raise InvalidArgument("Attempting to set invalid trace setting :sample rate must be non-zero")
    return rate


def _read_count(key: str, values: Sequence[str]) -> int:
    count = _integer(key, values, None, _INT32)
    if count < -1:
        raise InvalidArgument(f"Unable to parse 'trace_count'. Expecting value >= -1, got:{values[0]}")
    return count


def _read_frequency(key: str, values: Sequence[str]) -> int:
    return _integer(key, values, 0, _UINT32)


def _read_mode(key: str, values: Sequence[str]) -> str:
    mode = _single(key, values)
    if mode not in ("triton", "opentelemetry"):
        raise InvalidArgument(f"unknown trace mode '{mode}'", hint="the modes are triton, opentelemetry")
    return mode


_READERS: Mapping[str, tuple[str, Callable[[str, Sequence[str]], Any]]] = {
    "trace_level": ("levels", _read_levels),
    "trace_rate": ("rate", _read_rate),
    "trace_count": ("count", _read_count),
    "log_frequency": ("log_frequency", _read_frequency),
    "trace_mode": ("mode", _read_mode),
}


def _write_levels(levels: frozenset[str]) -> list[str]:
    return [level for level in _LEVELS if level in levels] or ["OFF"]


def _write_one(value: object) -> list[str]:
    return [str(value)]


_WRITERS = tuple((key, name, _write_levels if name == "levels" else _write_one) for key, (name, _) in _READERS.items())


def _single(key: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise InvalidArgument(f"expect only 1 value for '{key}'")
    return values[0]


def _integer(key: str, values: Sequence[str], lowest: int | None, highest: int) -> int:
    """A whole number; the bound below is left to the caller where it has words of its own (`lowest` None)."""
    text = _single(key, values)
    if _INTEGER.fullmatch(text) is None:
        raise InvalidArgument(f"Unable to parse '{key}', got: {text[:40]}")
    number = int(text)
    if number > highest or (lowest is not None and number < lowest):
        shown = -1 if lowest is None else lowest
        raise InvalidArgument(
            f"Unable to parse '{key}', value is out of range [ {shown}, {highest} ], got: {text[:40]}"
        )
    return number
