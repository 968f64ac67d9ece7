"""The requests of one run as a model sees them, and its answers on their way back."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter, Block, Lease, aligned, nbytes_of, view_of
from taxiway.runtimes.hosted.frames import Asked, Declared, Laid, Learn, Part, Run
from taxiway.runtimes.hosted.tensors import DTYPES, laid_out, split_bytes

Arrays = Mapping[str, NDArray[Any]]


class Annotated(NamedTuple):
    """Outputs by name that are not what is usual, and in what.

    Attributes:
        order: places of the outputs that there are, as the model gave them; then they may have any number of rows.
            None: all of them, in the model's order.
        parameters: of the answer.
    """

    arrays: Arrays
    order: tuple[int, ...] | None = None
    parameters: dict[str, Any] | None = None


Answer = Arrays | Annotated | BaseException
"""What a model gives for one request: its outputs by name, or what went wrong."""
_BYTES = Datatype.BYTES.wire_name
_MESSAGE_CHARS = 2000
"""Of an error; the log has the rest."""


def look(lease: Lease, block: Block, laid: Laid) -> NDArray[Any]:
    """A tensor where it lies in a block; BYTES are copied out."""
    if laid.datatype == _BYTES:
        start = laid.offset - block.offset
        return split_bytes(memoryview(lease.data)[start : start + laid.nbytes], laid.shape)
    return view_of(lease, block, laid.offset, DTYPES[laid.datatype], tuple(laid.shape))


class Request:
    """One request of a run; its tensors lie where the data plane laid them, and are not copied.

    They stay as long as anything looks at them.
    """

    def __init__(self, asked: Asked, lease: Lease, block: Block, names: Sequence[Declared], inbox: ArenaReader) -> None:
        self.asked = asked
        self._lease = lease
        self._block = block
        self.names = names
        self._inbox = inbox

    @property
    def rows(self) -> int:
        """The rows of its first tensor, where the model batches."""
        first = next((laid for laid in self.asked.inputs if laid is not None), None)
        return first.shape[0] if first is not None and first.shape else 1

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its inputs by name; those that were left out are missing."""
        pairs = zip(self.names, self.asked.inputs, strict=True)
        return {spec.name: self.view(laid) for spec, laid in pairs if laid is not None}

    def view(self, laid: Laid) -> NDArray[Any]:
        """A tensor of it where it lies."""
        return look(self._lease, self._block, laid)

    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._inbox.memory[self.asked.flag] != 1


class Batch:
    """The requests of one run."""

    def __init__(self, run: Run, names: Learn, inbox: ArenaReader) -> None:
        self.id = run.id
        self.names = names
        lease = inbox.lease(run.block)
        self.requests = [Request(asked, lease, run.block, names.inputs, inbox) for asked in run.requests]

    def merged(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """The inputs of requests [start, stop) as whole arrays. Those of one input lie side by side: none is copied."""
        requests = self.requests[start:stop]
        if len(requests) == 1:
            return requests[0].arrays()
        merged = {}
        for place, spec in enumerate(self.names.inputs):
            pieces = [request.asked.inputs[place] for request in requests]
            laid = [piece for piece in pieces if piece is not None]
            if not laid:
                continue
            if spec.datatype == _BYTES:
                views = [request.view(piece) for request, piece in zip(requests, laid, strict=True)]
                merged[spec.name] = np.concatenate(views)
            else:
                rows = sum(piece.shape[0] for piece in laid)
                whole = Laid(laid[0].datatype, (rows, *laid[0].shape[1:]), laid[0].offset, 0)
                merged[spec.name] = requests[0].view(whole)
        return merged


class Outbox:
    """Lays answers down for the data plane. Threads of a model may use it at the same time."""

    def __init__(self, arena: ArenaWriter) -> None:
        self._arena = arena
        self._lock = threading.Lock()

    def lay(self, arrays: Sequence[NDArray[Any] | None]) -> tuple[Block | None, tuple[Laid | None, ...]]:
        """Each of these tensors, one after the other in a block; no block if there is none.

        Raises:
            ModelFailed: one of them cannot be sent.
            Overloaded: there is no room.
        """
        contents: list[tuple[Datatype, Any, int] | None] = []
        total = 0
        for array in arrays:
            if array is None:
                contents.append(None)
                continue
            datatype, data = laid_out(array)
            size = nbytes_of(data)
            contents.append((datatype, data, size))
            total += aligned(size)
        if not any(contents):
            return None, tuple(None for _ in arrays)
        with self._lock:
            block = self._arena.take(total)
        offset = block.offset
        laid: list[Laid | None] = []
        for array, content in zip(arrays, contents, strict=True):
            if array is None or content is None:
                laid.append(None)
                continue
            datatype, data, size = content
            if size:
                self._arena.write(offset, data)
            laid.append(Laid(datatype.wire_name, array.shape, offset, size))
            offset += aligned(size)
        return block, tuple(laid)

    def lay_rows(
        self, columns: Sequence[Sequence[NDArray[Any]] | None]
    ) -> tuple[Block | None, tuple[Laid | None, ...]]:
        """Each column as one tensor, whose rows are those of its pieces one after the other. Otherwise as `lay`."""
        contents = [None if column is None else [laid_out(piece) for piece in column] for column in columns]
        sizes = [0 if content is None else sum(nbytes_of(data) for _, data in content) for content in contents]
        total = sum(aligned(size) for size in sizes)
        if total == 0 and all(content is None for content in contents):
            return None, tuple(None for _ in columns)
        with self._lock:
            block = self._arena.take(total)
        offset = block.offset
        laid: list[Laid | None] = []
        for column, content, size in zip(columns, contents, sizes, strict=True):
            if column is None or content is None:
                laid.append(None)
                continue
            position = offset
            for _, data in content:
                position += self._arena.write(position, data) if nbytes_of(data) else 0
            shape = column[0].shape
            if len(column) > 1:
                shape = (sum(piece.shape[0] for piece in column), *shape[1:])
            laid.append(Laid(content[0][0].wire_name, shape, offset, size))
            offset += aligned(size)
        return block, tuple(laid)


def error_data(problem: BaseException) -> dict[str, Any]:
    """What went wrong in a model, as plain data: text that can be sent, and not more of it than anybody reads."""
    if not isinstance(problem, TaxiwayError):
        problem = ModelFailed(f"the model raised {type(problem).__name__}: {_words(problem)}")
    data = problem.to_data()
    text = data["message"]
    if len(text) > _MESSAGE_CHARS:
        text = f"{text[:_MESSAGE_CHARS]}... ({len(text)} characters)"
    data["message"] = text.encode("utf-8", "replace").decode()
    return data


def _words(problem: BaseException) -> str:
    try:
        return str(problem)
    except Exception:  # noqa: BLE001 - an exception of the model's own may do what it likes
        return "an exception that has no words"


class _Checked(NamedTuple):
    """An answer whose outputs are found to be what they must be: by place, None where there is none."""

    arrays: list[NDArray[Any] | None]
    order: tuple[int, ...] | None
    parameters: dict[str, Any] | None

    def part(self, laid: tuple[Laid | None, ...]) -> Part:
        """As it is told, once it is laid down."""
        return Part(laid, None, self.order, self.parameters)


class Settled:
    """What a run is answered: one result for all of its requests where that can be, else one for each."""

    def __init__(self, names: Learn, outbox: Outbox) -> None:
        self._names = names
        self._outbox = outbox
        self._specs = [(spec.name, spec, DTYPES[spec.datatype]) for spec in names.outputs]

    def whole(self, outputs: Arrays) -> tuple[Block | None, tuple[Laid | None, ...]]:
        """The outputs of all rows, by place.

        Raises:
            ModelFailed: one of them is of another datatype than the configuration says.
        """
        return self._outbox.lay(self._arrays(outputs))

    def each(
        self, answers: Sequence[Answer]
    ) -> tuple[Block | None, tuple[Laid | None, ...] | None, tuple[Part, ...] | None]:
        """The block; then the outputs by place of all rows, or an answer for each request."""
        checked = [self._checked(answer) for answer in answers]
        try:
            return self._laid(checked)
        except Exception:  # noqa: BLE001 - the boundary: what cannot be laid down is told, and to whom it was for
            checked = [_sendable(answer) for answer in checked]
        try:
            return self._laid(checked)
        except Exception as problem:  # noqa: BLE001 - the same; now there is no room for all of them together
            told = Part((), error_data(problem))
            return None, None, tuple(told if isinstance(answer, _Checked) else answer for answer in checked)

    def _laid(
        self, checked: Sequence[_Checked | Part]
    ) -> tuple[Block | None, tuple[Laid | None, ...] | None, tuple[Part, ...] | None]:
        good = [answer for answer in checked if isinstance(answer, _Checked)]
        plain = [answer.arrays for answer in good if answer.order is None and answer.parameters is None]
        if len(plain) == len(checked) and (len(plain) == 1 or (self._names.batches and _are_alike(plain))):
            if len(plain) == 1:
                return *self._outbox.lay(plain[0]), None
            columns = [None if column[0] is None else column for column in map(list, zip(*plain, strict=True))]
            block, laid = self._outbox.lay_rows(columns)  # alike: all have it or none
            return block, laid, None
        flat = [array for answer in good for array in answer.arrays]
        block, laid = self._outbox.lay(flat)
        places = iter(laid)
        width = len(self._specs)
        parts = tuple(
            answer.part(tuple(next(places) for _ in range(width))) if isinstance(answer, _Checked) else answer
            for answer in checked
        )
        return block, None, parts

    def piece(self, answer: Answer) -> tuple[Block | None, Part]:
        """One of several answers to a request."""
        checked = self._checked(answer)
        if isinstance(checked, Part):
            return None, checked
        block, laid = self._outbox.lay(checked.arrays)
        return block, checked.part(laid)

    def _checked(self, answer: Answer) -> _Checked | Part:
        """The answer, or the error that takes its place."""
        if isinstance(answer, BaseException):
            return Part((), error_data(answer))
        order, parameters = None, None
        if isinstance(answer, Annotated):
            answer, order, parameters = answer
        try:
            return _Checked(self._arrays(answer), order, parameters)
        except ModelFailed as problem:
            return Part((), problem.to_data())

    def _arrays(self, outputs: Arrays) -> list[NDArray[Any] | None]:
        arrays: list[NDArray[Any] | None] = []
        for name, spec, expected in self._specs:
            array = outputs.get(name)
            if array is not None and array.dtype is not expected:
                _check(spec, array, expected)
            arrays.append(array)
        return arrays


def _sendable(answer: _Checked | Part) -> _Checked | Part:
    """The same, or why it cannot be sent."""
    if isinstance(answer, Part):
        return answer
    try:
        for array in answer.arrays:
            if array is not None:
                laid_out(array)
    except Exception as problem:  # noqa: BLE001 - of one answer
        return Part((), error_data(problem))
    return answer


def _check(spec: Declared, array: NDArray[Any], expected: np.dtype[Any]) -> None:
    fits = array.dtype.kind in "OSU" if spec.datatype == _BYTES else array.dtype == expected
    if not fits:
        raise ModelFailed(
            f"output {spec.name!r} of the model is an array of {array.dtype}; its configuration says "
            f"{spec.datatype}, which is {expected}",
            hint="convert it in the model with .astype(...), or correct data_type in config.pbtxt",
            output=spec.name,
        )


def _are_alike(answers: Sequence[list[NDArray[Any] | None]]) -> bool:
    """Whether the rows of these answers can stand one after the other."""
    first = answers[0]
    return all(
        (one is None and other is None)
        or (
            one is not None
            and other is not None
            and one.ndim > 0
            and one.dtype == other.dtype
            and one.shape[1:] == other.shape[1:]
        )
        for answer in answers
        for one, other in zip(first, answer, strict=True)
    )
