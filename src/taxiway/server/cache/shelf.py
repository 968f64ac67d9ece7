"""One version's part of the store: how its answers are found, kept and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.cache.key import KeyMaker
from taxiway.server.cache.store import AnswerStore


class Shelf:
    """The answers of one loaded version.

    Args:
        batches: whether the first axis of every output counts rows.
    """

    def __init__(self, keys: KeyMaker, store: AnswerStore, *, batches: bool) -> None:
        self._store = store
        self._batches = batches
        self._is_open = True
        self.key_of = keys.key_of
        """The key of a request; None if it is not looked up."""
        self.get = store.get
        """The answer under a key, if it is known."""
        self.reweigh = store.reweigh
        """To be called after an answer was given: what was converted for that is kept with it."""

    def keep(
        self, key: bytes, run: InferRequest, result: BatchResult, start: int, stop: int
    ) -> tuple[BatchResult, int, int]:
        """Keep rows [start, stop) of `result`, the answer of `run`.

        Returns:
            What to answer from: the rows that are kept, so that what is converted of them is too.
        """
        if result.notes is not None:  # what is particular about one answer is not known to hold for others
            return result, start, stop
        arrays: Sequence[Any] = result.arrays
        nbytes = sum(array.nbytes for array in arrays if array is not None)
        if not self._is_open or self._store.refuses(nbytes * (stop - start) // result.rows):
            return result, start, stop
        kept = self._copy(result, start, stop, run.outputs)
        self._store.put(self, key, kept)
        return kept, 0, stop - start

    def clear(self) -> None:
        """Forget every answer, and keep none from now on."""
        self._is_open = False
        self._store.drop(self)

    def _copy(self, result: BatchResult, start: int, stop: int, outputs: Sequence[int] | None) -> BatchResult:
        """The rows of the outputs that were asked for, in memory of their own: the batch's is not held."""
        asked = range(len(result.arrays)) if outputs is None else outputs
        copies: list[Any] = [None] * len(result.arrays)
        for index in asked:
            array = result.arrays[index]
            copies[index] = (array[start:stop] if self._batches else array).copy()
            copies[index].setflags(write=False)
        return BatchResult(result.names, copies, stop - start)
