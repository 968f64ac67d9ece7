"""Answering runs with a model that is a function from arrays to arrays."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from time import monotonic_ns

from taxiway.core.errors import ModelFailed, Overloaded
from taxiway.runtimes.hosted.batch import Answer, Arrays, Batch, Request, Settled
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
        except Overloaded as problem:  # it is computed, and there is no room for it: nor would there be next time
            merged = computed = monotonic_ns()
            block, whole, parts = self._settled.each([problem] * len(batch.requests))
        except BaseException as problem:  # noqa: BLE001 - the boundary: whatever a model raises becomes an answer
            merged = computed = monotonic_ns()
            block, whole, parts = self._settled.each(self._halved(batch, 0, len(batch.requests), problem))
        self._lines.mailbox.send(Ran(batch.id, block, started, merged, computed, monotonic_ns(), whole, parts))

    def _halved(self, batch: Batch, start: int, stop: int, problem: BaseException) -> list[Answer]:
        """The answers of requests [start, stop), which together failed with `problem`: a poisoned one fails alone."""
        if stop - start == 1 or self._names.stateful:
            traceback.print_exception(problem)
            return [problem] * (stop - start)
        middle = (start + stop) // 2
        return [answer for low, high in ((start, middle), (middle, stop)) for answer in self._attempt(batch, low, high)]

    def _attempt(self, batch: Batch, start: int, stop: int) -> list[Answer]:
        try:
            outputs = self._model.predict(batch.merged(start, stop), self._wanted(batch))
            return list(self._cut(outputs, batch.requests[start:stop]))
        except BaseException as problem:  # noqa: BLE001 - as above
            return self._halved(batch, start, stop, problem)

    def _cut(self, outputs: Arrays, requests: Sequence[Request]) -> Iterator[Arrays]:
        """The rows of each request.

        Raises:
            ModelFailed: there are not as many as went in: nobody can tell whose they are.
        """
        if not self._names.batches:
            yield outputs
            return
        rows = sum(request.rows for request in requests)
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != rows:
                raise ModelFailed(
                    f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows; "
                    "a model that batches gives one row for each",
                    hint="set max_batch_size: 0 in config.pbtxt if the first dimension is not a batch",
                    output=name,
                )
        row = 0
        for request in requests:
            end = row + request.rows
            yield {name: array[row:end] for name, array in outputs.items()}
            row = end

    def _wanted(self, batch: Batch) -> Sequence[str]:
        """The outputs that somebody asked for."""
        wanted: set[str] = set()
        for request in batch.requests:
            if request.asked.outputs is None:
                return self._every
            wanted.update(request.asked.outputs)
        return [name for name in self._every if name in wanted]
