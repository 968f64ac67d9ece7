"""Sampled rows of one version, put together until there are enough: many rows at once cost little more than one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from taxiway.core.samples import SampledRows, SampledTensor

LATE_S: Final = 60.0
"""What is not enough is not kept waiting for longer."""
_MANY: Final = 10
"""So many times what is enough does not wait."""


@dataclass(slots=True)
class Gathering:
    """Rows whose tensors fit one after the other.

    Attributes:
        since_ns: when the last rows went on, in UTC nanoseconds.
    """

    since_ns: int = 0
    parts: list[SampledRows] = field(default_factory=list)
    rows: int = 0

    def fits(self, rows: SampledRows) -> bool:
        """Whether these can be put after those that are here."""
        return not self.parts or _form(self.parts[0]) == _form(rows)

    def add(self, rows: SampledRows) -> None:
        """Put these after those that are here."""
        self.parts.append(rows)
        self.rows += rows.rows

    def is_due(self, now_ns: int, enough: int, wait_s: float) -> bool:
        """Whether they are to go on: there are enough of them, and they come no more often than is said."""
        waited_s = (now_ns - self.since_ns) / 1e9
        if self.rows < enough:
            return self.rows > 0 and waited_s >= LATE_S
        return waited_s >= wait_s or self.rows >= _MANY * enough

    def take(self, now_ns: int) -> SampledRows | None:
        """All of them as one; None if there are none."""
        parts, self.parts, self.rows, self.since_ns = self.parts, [], 0, now_ns
        return _together(parts) if parts else None


def _form(rows: SampledRows) -> list[tuple[str, str, tuple[int, ...]]]:
    """What two must have in common."""
    sides = (*rows.inputs.items(), *rows.outputs.items())
    return [(name, tensor.datatype, tensor.shape[1:]) for name, tensor in sides]


def _together(parts: list[SampledRows]) -> SampledRows:
    first, last = parts[0], parts[-1]
    return msgspec.structs.replace(
        last,
        seen=sum(part.seen for part in parts),
        dropped=sum(part.dropped for part in parts),
        began_ns=first.began_ns,
        ids=tuple(one for part in parts for one in part.ids),
        times_ns=tuple(one for part in parts for one in part.times_ns),
        counts=tuple(one for part in parts for one in part.counts),
        inputs=_tensors([part.inputs for part in parts]),
        outputs=_tensors([part.outputs for part in parts]),
    )


def _tensors(parts: list[Mapping[str, SampledTensor]]) -> dict[str, SampledTensor]:
    told = {}
    for name, first in parts[0].items():
        same = [part[name] for part in parts]
        rows = sum(tensor.shape[0] for tensor in same)
        told[name] = SampledTensor(first.datatype, (rows, *first.shape[1:]), b"".join(one.data for one in same))
    return told
