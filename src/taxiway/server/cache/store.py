"""Answers kept by their keys, within a number of bytes: the least recently used go first. Pure.

One store serves all versions of a process, as Triton's does. Everything that an entry holds is weighed: its arrays,
what an edge has converted of them, its key and what Python needs around them.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.requests import BatchResult
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.render import Point

_ENTRY_BYTES = 1024
"""Of key, dictionary places and objects of one entry without arrays; measured at 850, rounded up."""
_ARRAY_BYTES = 256
"""Of one array beside its elements."""
_NUMBER_BYTES = 32
"""Of a Python number in a converted list, at most."""
_TEXT_BYTES = 33
"""Of a bytes object beside its content."""


class _Entry:
    __slots__ = ("nbytes", "owner", "printed", "result")

    def __init__(self, owner: Hashable, result: BatchResult) -> None:
        self.owner = owner
        self.result = result
        self.printed = len(result.printed)
        self.nbytes = weigh(result)


class AnswerStore:
    """At most `max_bytes` of answers.

    Attributes:
        bytes: held now.
        evictions: answers that made room for others so far.
        oversized: answers that were not kept because one alone is more than `max_bytes`.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.evictions = 0
        self.oversized = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._owned: dict[Hashable, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> BatchResult | None:
        """The answer kept under `key`, which is now the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.result

    def put(self, owner: Hashable, key: bytes, result: BatchResult) -> None:
        """Keep `result`, whose arrays are the store's from now on, until `owner` is dropped or room is needed."""
        entry = _Entry(owner, result)
        if key in self._entries:
            self._remove(key)
        if entry.nbytes > self.max_bytes:
            self.oversized += 1
            return
        self._entries[key] = entry
        self._owned.setdefault(owner, set()).add(key)
        self.bytes += entry.nbytes
        self._make_room()

    def refuses(self, nbytes: int) -> bool:
        """Whether an answer with so many bytes of elements is too large, and counted as that, before it is copied."""
        if nbytes <= self.max_bytes:
            return False
        self.oversized += 1
        return True

    def reweigh(self, key: bytes) -> None:
        """The answer under `key` was given: what an edge converted for that is kept with it, and weighed."""
        entry = self._entries.get(key)
        if entry is None or entry.printed == len(entry.result.printed):
            return
        self.bytes -= entry.nbytes
        entry.printed = len(entry.result.printed)
        entry.nbytes = weigh(entry.result)
        self.bytes += entry.nbytes
        self._make_room()

    def drop(self, owner: Hashable) -> None:
        """Forget every answer of `owner`."""
        for key in tuple(self._owned.get(owner, ())):
            self._remove(key)

    def points(self) -> Iterator[Point]:
        """Every series of the store."""
        yield Point(names.CACHE_BYTES, (), self.bytes)
        yield Point(names.CACHE_MAX_BYTES, (), self.max_bytes)
        yield Point(names.CACHE_ENTRIES, (), len(self))
        yield Point(names.CACHE_EVICTIONS, (), self.evictions)
        yield Point(names.CACHE_OVERSIZED, (), self.oversized)

    def _make_room(self) -> None:
        while self.bytes > self.max_bytes:
            self._remove(next(iter(self._entries)))
            self.evictions += 1

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.bytes -= entry.nbytes
        owned = self._owned[entry.owner]
        owned.discard(key)
        if not owned:
            del self._owned[entry.owner]


def weigh(result: BatchResult) -> int:
    """Bytes that an entry with this answer takes."""
    arrays: Sequence[Any] = result.arrays
    printed = sum(map(_weigh_printed, result.printed.values()))
    return _ENTRY_BYTES + sum(_weigh_array(array) for array in arrays if array is not None) + printed


def _weigh_array(array: NDArray[Any]) -> int:
    texts = sum(len(text) + _TEXT_BYTES for text in array.flat) if array.dtype == np.object_ else 0
    return _ARRAY_BYTES + array.nbytes + texts


def _weigh_printed(value: Any) -> int:  # noqa: ANN401 - whatever an edge keeps
    """A number in a list is an object of its own; truths are not, and texts are those of the array, already weighed."""
    numbers = len(value) if value.__class__ is list and value and type(value[0]) in (int, float) else 0
    return sys.getsizeof(value) + numbers * _NUMBER_BYTES
