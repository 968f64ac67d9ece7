"""Answering runs with a model that is a function from arrays to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns

from taxiway.runtimes.hosted.batch import Answer, Arrays, Batch, Settled
from taxiway.runtimes.hosted.frames import Laid, Learn, Opened, Part, Ran
from taxiway.runtimes.hosted.guest import ArrayModel
from taxiway.runtimes.hosted.lines import Lines


class ArrayGuest:
    """Runs an ArrayModel: all requests of a run as one call, and halves of them if that fails."""

    def __init__(self, model: ArrayModel, lines: Lines, config: str | None = None) -> None:
        """`config` is the configuration as JSON if the model completes it."""
        self._model = model
        self._lines = lines
        self.opened = Opened(
            config=config,
            inputs=None if model.inputs is None else tuple(model.inputs),
            outputs=None if model.outputs is None else tuple(model.outputs),
            batches=model.batches,
        )

    def learn(self, names: Learn) -> None:
        """Runs come next."""
        self._names = names
        self._settled = Settled(names, self._lines.outbox)
        self._every = [spec.name for spec in names.outputs]

    def run(self, batches: Sequence[Batch]) -> None:
        """Answer each of them."""
        for batch in batches:
            self._run(batch)

    def close(self) -> None:
        """It ends with the process."""

    def _run(self, batch: Batch) -> None:
        started = monotonic_ns()
        whole: tuple[Laid | None, ...] | None
        parts: tuple[Part, ...] | None = None
        try:
            inputs = batch.merged(0, len(batch.requests))
            merged = monotonic_ns()
            outputs = self._model.predict(inputs, self._wanted(batch))
            computed = monotonic_ns()
            block, whole = self._settled.whole(outputs)
        except Exception as problem:  # noqa: BLE001 - the boundary: whatever a model raises becomes an answer
            merged = computed = monotonic_ns()
            block, whole, parts = self._settled.each(self._halved(batch, 0, len(batch.requests), problem))
        self._lines.mailbox.send(Ran(batch.id, block, started, merged, computed, monotonic_ns(), whole, parts))

    def _halved(self, batch: Batch, start: int, stop: int, problem: Exception) -> list[Answer]:
        """The answers of requests [start, stop), which together failed with `problem`: a poisoned one fails alone."""
        if stop - start == 1 or self._names.stateful:
            return [problem] * (stop - start)
        middle = (start + stop) // 2
        return [answer for low, high in ((start, middle), (middle, stop)) for answer in self._attempt(batch, low, high)]

    def _attempt(self, batch: Batch, start: int, stop: int) -> list[Answer]:
        try:
            outputs = self._model.predict(batch.merged(start, stop), self._wanted(batch))
        except Exception as problem:  # noqa: BLE001 - as above
            return self._halved(batch, start, stop, problem)
        return list(self._cut(outputs, batch, start, stop))

    def _cut(self, outputs: Arrays, batch: Batch, start: int, stop: int) -> list[Arrays]:
        """The rows of each request."""
        cuts: list[Arrays] = []
        row = 0
        for request in batch.requests[start:stop]:
            end = row + request.rows
            cuts.append({name: array[row:end] if self._names.batches else array for name, array in outputs.items()})
            row = end
        return cuts

    def _wanted(self, batch: Batch) -> Sequence[str]:
        """The outputs that somebody asked for."""
        wanted: set[str] = set()
        for request in batch.requests:
            if request.asked.outputs is None:
                return self._every
            wanted.update(request.asked.outputs)
        return [name for name in self._every if name in wanted]
