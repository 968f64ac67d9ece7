"""From requests to a run's tensors in shared memory, and from what the model laid down to a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, NO_MORE, BatchResult, InferRequest, Notes
from taxiway.core.tensors import Datatype, Shape, TensorSpec, count_elements
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter, Block, Lease, aligned, nbytes_of, view_of
from taxiway.runtimes.hosted.frames import Asked, Laid, Part, Piece, Place, Ran, Run
from taxiway.runtimes.hosted.tensors import DTYPES, join_bytes, split_bytes
from taxiway.server.execution.processes.confusion import Confused, error_told

_COPIED_BYTES = 64 * 1024
"""Answers up to this size are copied out, so that their block is free at once."""
_BYTES_DTYPE = DTYPES[Datatype.BYTES.wire_name]


class RunWriter:
    """Lays the inputs of runs down: those of one input side by side, so that the model can take them as one array."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        reshapes: Mapping[str, Shape],
        *,
        batches: bool,
    ) -> None:
        self._inputs = [(spec.datatype.wire_name, spec.datatype is Datatype.BYTES) for spec in inputs]
        self._reshapes = [reshapes.get(spec.name) for spec in inputs]
        self._output_names = [spec.name for spec in outputs]
        self._batches = batches

    def write(self, number: int, batch: Sequence[InferRequest], flags: Sequence[int], arena: ArenaWriter) -> Run:
        """The run of these requests, whose flags are taken, and after them the run's own, its mark.

        Raises:
            Overloaded: there is no room for it in the shared memory.
        """
        if len(batch) == 1:
            (request,) = batch
            block, alone = self._lay_alone(request, arena)
            return Run(number, block, flags[1], request.rows, (self._asked(request, flags[0], alone),))
        columns = [self._column(place, batch) for place in range(len(self._inputs))]
        block = arena.take(sum(aligned(size) for _, size in columns))
        offset = block.offset
        laid: list[list[Laid | None]] = []
        for place, (contents, size) in enumerate(columns):
            laid.append(self._lay(place, contents, batch, offset, arena))
            offset += aligned(size)
        requests = tuple(
            self._asked(request, flag, tuple(column[index] for column in laid))
            for index, (request, flag) in enumerate(zip(batch, flags, strict=False))
        )
        return Run(number, block, flags[-1], sum([request.rows for request in batch]), requests)

    def _lay_alone(self, request: InferRequest, arena: ArenaWriter) -> tuple[Block, tuple[Laid | None, ...]]:
        """As for any batch; most are of one request, and this takes half the time."""
        contents: list[tuple[Any, int]] = []
        total = 0
        for tensor, (_, is_bytes) in zip(request.inputs, self._inputs, strict=True):
            data = b"" if tensor is None else join_bytes(tensor.data) if is_bytes else tensor.data
            size = nbytes_of(data)
            contents.append((data, size))
            total += aligned(size)
        block = arena.take(total)
        offset = block.offset
        laid: list[Laid | None] = []
        for place, (tensor, (data, size)) in enumerate(zip(request.inputs, contents, strict=True)):
            if tensor is None:
                laid.append(None)
                continue
            if size:
                arena.write(offset, data)
            row = self._reshapes[place]
            shape = tuple(tensor.shape) if row is None else self._reshaped(tensor.shape, row)
            laid.append(Laid(self._inputs[place][0], shape, offset, size))
            offset += aligned(size)
        return block, tuple(laid)

    def _column(self, place: int, batch: Sequence[InferRequest]) -> tuple[list[Any], int]:
        """What each request brings for one input, and the bytes of all of it."""
        contents: list[Any] = []
        size = 0
        is_bytes = self._inputs[place][1]
        for request in batch:
            tensor = request.inputs[place]
            if tensor is None:
                contents.append(None)
                continue
            data = join_bytes(tensor.data) if is_bytes else tensor.data
            size += nbytes_of(data)
            contents.append(data)
        return contents, size

    def _lay(
        self, place: int, contents: list[Any], batch: Sequence[InferRequest], offset: int, arena: ArenaWriter
    ) -> list[Laid | None]:
        name = self._inputs[place][0]
        row = self._reshapes[place]
        laid: list[Laid | None] = []
        for request, data in zip(batch, contents, strict=True):
            tensor = request.inputs[place]
            if tensor is None:
                laid.append(None)
                continue
            size = arena.write(offset, data) if nbytes_of(data) else 0
            shape = tensor.shape if row is None else self._reshaped(tensor.shape, row)
            laid.append(Laid(name, tuple(shape), offset, size))
            offset += size
        return laid

    def _reshaped(self, shape: Shape, row: Shape) -> Shape:
        rows = shape[:1] if self._batches else ()
        free = count_elements(shape[len(rows) :]) // max(1, count_elements(tuple(dim for dim in row if dim != -1)))
        return (*rows, *(free if dim == -1 else dim for dim in row))

    def _asked(self, request: InferRequest, flag: int, inputs: tuple[Laid | None, ...]) -> Asked:
        outputs = request.outputs
        step = request.sequence
        return Asked(
            flag,
            inputs,
            None if outputs is None else tuple(self._output_names[index] for index in outputs),
            request.id,
            request.priority,
            request.timeout_ns // 1000,
            None if request.parameters is None else dict(request.parameters),
            None if step is None else Place(step.id, step.starts, step.ends),
        )


class RunReader:
    """Makes outcomes of what a model laid down, and believes nothing: its process may have gone mad, or be hostile.

    Large tensors are not copied: their block is held while anything looks at them.

    Args:
        decoupled: each answer may have any of the outputs and any number of rows, and the last may be none at all.
    """

    def __init__(
        self,
        outputs: Sequence[TensorSpec],
        reshapes: Mapping[str, Shape],
        *,
        batches: bool,
        decoupled: bool = False,
    ) -> None:
        self._names = [spec.name for spec in outputs]
        self._dtypes = [DTYPES[spec.datatype.wire_name] for spec in outputs]
        self._reshapes = [spec.shape if spec.name in reshapes else None for spec in outputs]
        self._batches = batches
        self._decoupled = decoupled

    def outcome(self, ran: Ran, batch: Sequence[InferRequest], arena: ArenaReader) -> BatchOutcome:
        """How the run of `batch` ended; what the model did wrong is an error.

        Raises:
            Confused: the frame cannot be true.
        """
        if not 0 <= ran.started_ns <= ran.merged_ns <= ran.computed_ns <= ran.finished_ns < NEVER_NS:
            raise Confused("it told times that cannot be")
        if ran.whole is None and ran.parts is None:
            if not self._decoupled or ran.block is not None:
                raise Confused("it ended a run without an answer")
            return BatchOutcome(started_ns=ran.started_ns, finished_ns=ran.finished_ns, result=NO_MORE)
        view = BlockView(ran.block, arena)
        try:
            if ran.whole is not None:
                result = self._result(view, ran.whole, batch, sum([request.rows for request in batch]))
                outcome = BatchOutcome(started_ns=ran.started_ns, finished_ns=ran.finished_ns, result=result)
            else:
                outcome = self._outcome_of_parts(ran, batch, view)
        except ModelFailed as problem:
            outcome = BatchOutcome(started_ns=ran.started_ns, finished_ns=ran.finished_ns, error=problem)
        finally:
            view.done()
        outcome.input_ns = ran.merged_ns - ran.started_ns
        outcome.infer_ns = ran.computed_ns - ran.merged_ns
        return outcome

    def piece(self, piece: Piece, request: InferRequest, arena: ArenaReader) -> BatchResult | TaxiwayError:
        """One of several answers to `request`.

        Raises:
            Confused: the frame cannot be true.
        """
        if not self._decoupled:
            raise Confused("it sent a part of an answer, and its model is not decoupled")
        view = BlockView(piece.block, arena)
        try:
            return self._part(piece.part, request, view)
        finally:
            view.done()

    def _outcome_of_parts(self, ran: Ran, batch: Sequence[InferRequest], view: BlockView) -> BatchOutcome:
        if ran.parts is None or len(ran.parts) != len(batch):
            raise Confused(f"it answered {len(ran.parts or ())} of the {len(batch)} requests of a run")
        parts = []
        for part, request in zip(ran.parts, batch, strict=True):
            answer = self._part(part, request, view)
            told = BatchOutcome(started_ns=ran.started_ns, finished_ns=ran.finished_ns)
            if isinstance(answer, TaxiwayError):
                told.error = answer
            else:
                told.result = answer
            told.input_ns, told.infer_ns = ran.merged_ns - ran.started_ns, ran.computed_ns - ran.merged_ns
            parts.append(told)
        if len(parts) == 1:
            return parts[0]
        return BatchOutcome(started_ns=ran.started_ns, finished_ns=ran.finished_ns, parts=parts)

    def _part(self, part: Part, request: InferRequest, view: BlockView) -> BatchResult | TaxiwayError:
        if part.error is not None:
            return error_told(part.error)
        order = part.order
        try:
            if order is None and not self._decoupled:
                result = self._result(view, part.tensors, [request], request.rows)
            else:
                arrays = self._arrays(view, part.tensors)
                order = self._order(order, arrays, request.rows)
                result = BatchResult(self._names, arrays, request.rows)
        except ModelFailed as problem:
            return problem
        if order is not None or part.parameters is not None:
            result.notes = Notes(order, part.parameters)
        return result

    def _order(self, told: tuple[int, ...] | None, arrays: Sequence[Any], rows: int) -> tuple[int, ...] | None:
        """The places of the outputs that an answer has; None if it is an answer like any other."""
        given = [place for place, array in enumerate(arrays) if array is not None]
        if told is not None:
            if sorted(told) != given:
                raise Confused("it told outputs in an order that cannot be")
            return told
        is_usual = len(given) == len(arrays) and not (self._batches and any(_rows_of(one) != rows for one in arrays))
        return None if is_usual else tuple(given)

    def _result(
        self, view: BlockView, laid: Sequence[Laid | None], batch: Sequence[InferRequest], rows: int
    ) -> BatchResult:
        arrays = self._arrays(view, laid)
        for place, array in enumerate(arrays):
            if array is None:
                self._check_unasked(place, batch)
            elif self._batches and _rows_of(array) != rows:
                raise ModelFailed(
                    f"output {self._names[place]!r} has shape {list(array.shape)} for a batch of {rows} rows; "
                    "a model that batches gives one row for each",
                    hint="set max_batch_size: 0 in config.pbtxt if the first dimension is not a batch",
                    output=self._names[place],
                )
        return BatchResult(self._names, arrays, rows)

    def _arrays(self, view: BlockView, laid: Sequence[Laid | None]) -> list[Any]:
        """The outputs by place, as the callers of the model see them; None where there is none."""
        if len(laid) != len(self._names):
            raise Confused(f"it answered with {len(laid)} of the {len(self._names)} places of its outputs")
        return [
            None if tensor is None else self._reshaped(place, view.array(tensor, self._dtypes[place]))
            for place, tensor in enumerate(laid)
        ]

    def _reshaped(self, place: int, array: NDArray[Any]) -> NDArray[Any]:
        row = self._reshapes[place]
        if row is None or (self._batches and array.ndim == 0):
            return array
        try:
            return array.reshape((array.shape[0], *row) if self._batches else row)
        except ValueError:
            raise ModelFailed(
                f"output {self._names[place]!r} has shape {list(array.shape)}, which is not to be had as {list(row)}"
            ) from None

    def _check_unasked(self, place: int, batch: Sequence[InferRequest]) -> None:
        """An output may be missing that nobody asked for."""
        if any(request.outputs is None or place in request.outputs for request in batch):
            raise ModelFailed(
                f"the model gave no output {self._names[place]!r}, which was asked for",
                hint="return every output that config.pbtxt declares, or ask for those that it gives",
                output=self._names[place],
            )


class BlockView:
    """A block on its way out: copied if it is small, leased if it is not.

    Raises:
        Confused: there is no such block.
    """

    def __init__(self, block: Block | None, arena: ArenaReader) -> None:
        if block is not None:
            try:
                arena.check(block)
            except ValueError as problem:
                raise Confused(str(problem)) from problem
        self._block = block
        self._arena = arena
        self._copies = block is None or block.size <= _COPIED_BYTES
        self._lease: Lease | None = None if block is None or self._copies else arena.lease(block)

    def array(self, laid: Laid, expected: np.dtype[Any]) -> NDArray[Any]:
        """One tensor of it.

        Raises:
            Confused: it does not lie in the block, is not as long as its shape says, or holds something else.
        """
        block, shape = self._block, laid.shape
        dtype = DTYPES.get(laid.datatype)
        if block is None or dtype is None or (shape and min(shape) < 0):
            raise Confused("it described a tensor that cannot be")
        if dtype is not expected and dtype != expected:
            raise Confused(f"it laid down a tensor of {laid.datatype} where its model has one of {expected}")
        start, stop = laid.offset, laid.offset + laid.nbytes
        if not block.offset <= start <= stop <= block.offset + block.size:
            raise Confused("it laid a tensor outside of its block")
        try:
            if dtype is _BYTES_DTYPE:
                return split_bytes(self._arena.memory[start:stop], shape)
            if count_elements(shape) * dtype.itemsize != laid.nbytes or start % dtype.itemsize:
                raise Confused("it laid down a tensor that is not as long as its shape says, or not aligned")
            if self._lease is not None:
                return view_of(self._lease, block, start, dtype, shape)
            return np.ndarray(shape, dtype, self._arena.memory[start:stop])
        except (ModelFailed, ValueError, OverflowError) as problem:  # numpy refuses what has too many dimensions
            raise Confused(f"it laid down a tensor that cannot be: {problem}") from problem

    def done(self) -> None:
        """No more tensors are made of it."""
        if self._block is not None and self._lease is None:
            self._arena.give_back(self._block)
        self._lease = None


def _rows_of(array: NDArray[Any]) -> int:
    return array.shape[0] if array.ndim else -1
