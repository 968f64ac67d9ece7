"""What a model process says of its answers is believed only where it can be true."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taxiway.core.errors import ModelFailed
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NO_MORE, BatchResult, InferRequest, InputTensor, Notes
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter, Block, create_file
from taxiway.runtimes.hosted.batch import Outbox
from taxiway.runtimes.hosted.frames import Laid, Part, Piece, Ran
from taxiway.server.execution.processes.confusion import Confused
from taxiway.server.execution.processes.layout import RunReader

SIZE = 1 << 20
SPECS = (TensorSpec("y", Datatype.FP32, (3,)), TensorSpec("t", Datatype.BYTES, (1,)))
ERROR = ModelFailed("no").to_data()


class _Nobody:
    def resolve(self, *_: object) -> None:
        raise AssertionError

    def reject(self, *_: object) -> None:
        raise AssertionError


def _requests(count: int, *, outputs: tuple[int, ...] | None = None) -> list[InferRequest]:
    tensor = InputTensor(b"", (1, 0))
    return [InferRequest([tensor], 1, _Nobody(), 0, outputs=outputs) for _ in range(count)]


class Sides:
    """The arena of one direction: the model's side of it, and ours."""

    def __init__(self) -> None:
        number = create_file("test", SIZE)
        self.writer, self.reader = ArenaWriter(number), ArenaReader(number)
        os.close(number)
        self.outbox = Outbox(self.writer)

    def lay(self, *arrays: Any) -> tuple[Block | None, tuple[Laid | None, ...]]:
        return self.outbox.lay([None if array is None else np.asarray(array) for array in arrays])

    def is_free(self) -> bool:
        """Whether nothing is held of it."""
        return not any(self.reader.memory[: 1 << 14])


def _reader(
    *specs: TensorSpec, decoupled: bool = False, batches: bool = True, **reshapes: tuple[int, ...]
) -> RunReader:
    return RunReader(specs or SPECS, reshapes, batches=batches, decoupled=decoupled)


def _ran(
    block: Block | None, whole: Any = None, parts: Any = None, times: tuple[int, int, int, int] = (1, 2, 3, 4)
) -> Ran:
    return Ran(7, block, *times, whole=whole, parts=parts)


ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
TEXTS = np.array([[b"a"], [b"bc"]], object)


def test_what_was_laid_down_is_the_result() -> None:
    sides = Sides()
    outcome = _reader().outcome(_ran(*sides.lay(ROWS, TEXTS)), _requests(2), sides.reader)
    assert outcome.result is not None
    assert [array.tolist() for array in outcome.result.arrays] == [ROWS.tolist(), TEXTS.tolist()]
    assert (outcome.input_ns, outcome.infer_ns) == (1, 1)
    assert sides.is_free()


BLOCK = Block(1 << 14, 1024, 3)
LIES = {
    "a block outside": _ran(Block(SIZE, 1024, 3), (None, None)),
    "a block of nothing": _ran(Block(1 << 14, 0, 3), (None, None)),
    "a block whose flag is none": _ran(Block(1 << 14, 1024, 1 << 40), (None, None)),
    "a tensor without a block": _ran(None, (Laid("FP32", (2, 3), 1 << 14, 24), None)),
    "a tensor before its block": _ran(BLOCK, (Laid("FP32", (2, 3), (1 << 14) - 24, 24), None)),
    "a tensor behind its block": _ran(BLOCK, (Laid("FP32", (2, 3), (1 << 14) + 1008, 24), None)),
    "a tensor of fewer than no bytes": _ran(BLOCK, (Laid("FP32", (2, 3), 1 << 14, -24), None)),
    "a negative shape": _ran(BLOCK, (Laid("FP32", (-2, -3), 1 << 14, 24), None)),
    "a shape too large for its bytes": _ran(BLOCK, (Laid("FP32", (2, 1 << 62), 1 << 14, 24), None)),
    "a shape that overflows to its bytes": _ran(BLOCK, (Laid("FP32", (1 << 32, 1 << 32, 2, 3), 1 << 14, 24), None)),
    "an empty shape with a huge dimension": _ran(BLOCK, (Laid("FP32", (2, 0, 1 << 63), 1 << 14, 0), None)),
    "more dimensions than there can be": _ran(BLOCK, (Laid("FP32", (1,) * 100, 1 << 14, 4), None)),
    "a tensor that is not aligned": _ran(BLOCK, (Laid("FP32", (2, 3), (1 << 14) + 1, 24), None)),
    "another datatype": _ran(BLOCK, (Laid("INT64", (2, 3), 1 << 14, 48), None)),
    "a datatype that is none": _ran(BLOCK, (Laid("FP33", (2, 3), 1 << 14, 24), None)),
    "texts that are longer than their tensor": _ran(BLOCK, (None, Laid("BYTES", (2, 1), 1 << 14, 6))),
    "fewer texts than their shape": _ran(BLOCK, (None, Laid("BYTES", (2, 1), 1 << 14, 4))),
    "too few outputs": _ran(BLOCK, (Laid("FP32", (2, 3), 1 << 14, 24),)),
    "too many outputs": _ran(BLOCK, (Laid("FP32", (2, 3), 1 << 14, 24), None, None)),
    "no answer at all": _ran(None),
    "an answer to one of two": _ran(None, parts=(Part((), ERROR),)),
    "an answer to a third of two": _ran(None, parts=(Part((), ERROR),) * 3),
    "outputs in an order that is none": _ran(None, parts=(Part((None, None), None, (0,)),) * 2),
    "an output twice": _ran(BLOCK, parts=(Part((Laid("FP32", (2, 3), 1 << 14, 24), None), None, (0, 0)),) * 2),
    "an error without a message": _ran(None, parts=(Part((), {"code": "model-failed"}),) * 2),
    "an error of numbers": _ran(None, parts=(Part((), {**ERROR, "message": 3}),) * 2),
    "an error with facts that are none": _ran(None, parts=(Part((), {**ERROR, "facts": {"hint": 1}}),) * 2),
    "times that run backwards": _ran(BLOCK, (None, None), times=(4, 3, 2, 1)),
    "times before the beginning": _ran(BLOCK, (None, None), times=(-4, 3, 5, 6)),
    "times beyond the end": _ran(BLOCK, (None, None), times=(1, 2, 3, 1 << 63)),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_what_cannot_be_true_is_not_believed(lie: Ran) -> None:
    sides = Sides()
    sides.reader.memory[1 << 14] = 200  # a length that lies, where texts are told
    with pytest.raises(Confused):
        _reader().outcome(lie, _requests(2), sides.reader)


def test_parts_of_an_answer_are_refused_of_a_model_that_answers_once() -> None:
    with pytest.raises(Confused, match="not decoupled"):
        _reader().piece(Piece(7, None, Part((), ERROR)), _requests(1)[0], Sides().reader)


# --- what a model may do wrong without having gone mad ---------------------------------------------------


def test_a_batch_has_a_row_for_each_that_went_in() -> None:
    sides = Sides()
    outcome = _reader().outcome(_ran(*sides.lay(ROWS[:1], TEXTS)), _requests(2), sides.reader)
    assert isinstance(outcome.error, ModelFailed)
    assert "[1, 3] for a batch of 2 rows" in outcome.error.message
    assert sides.is_free()


def test_an_output_may_be_missing_that_nobody_asked_for() -> None:
    sides = Sides()
    told = _ran(*sides.lay(ROWS, None))
    asked = _reader().outcome(told, _requests(2), sides.reader)
    assert isinstance(asked.error, ModelFailed)
    assert _reader().outcome(told, _requests(2, outputs=(0,)), sides.reader).result is not None


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.zeros((2,), np.float32), (1,)),  # Triton's `reshape { shape: [] }`
        (np.zeros((2, 4), np.float32), (2, 2)),
        (np.zeros((2, 0), np.float32), (0, 5)),
    ],
)
def test_outputs_are_as_callers_see_them(array: np.ndarray, shape: tuple[int, ...]) -> None:
    sides = Sides()
    reader = _reader(TensorSpec("y", Datatype.FP32, shape), y=array.shape[1:])
    outcome = reader.outcome(_ran(*sides.lay(array)), _requests(2), sides.reader)
    assert outcome.result is not None
    assert outcome.result.arrays[0].shape == (2, *shape)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1)])
def test_shapes_of_all_kinds_cross_where_nothing_is_batched(shape: tuple[int, ...]) -> None:
    sides = Sides()
    reader = _reader(TensorSpec("y", Datatype.FP64, shape), batches=False)
    outcome = reader.outcome(_ran(*sides.lay(np.ones(shape))), _requests(1), sides.reader)
    assert outcome.result is not None
    assert outcome.result.arrays[0].shape == shape


# --- decoupled models ------------------------------------------------------------------------------------


def _piece(sides: Sides, *arrays: Any) -> BatchResult:
    block, laid = sides.lay(*arrays)
    answer = _reader(decoupled=True).piece(Piece(7, block, Part(laid, None)), _requests(1)[0], sides.reader)
    assert isinstance(answer, BatchResult)
    return answer


def test_a_part_of_an_answer_may_have_any_rows_and_any_of_the_outputs() -> None:
    assert _piece(Sides(), ROWS[:1], TEXTS[:1]).notes is None
    more = _piece(Sides(), np.concatenate([ROWS, ROWS]), TEXTS)
    assert (more.arrays[0].shape, more.notes) == ((4, 3), Notes((0, 1), None))
    fewer = _piece(Sides(), None, TEXTS[:1])
    assert fewer.notes == Notes((1,), None)


def test_so_may_the_last_one_and_there_may_be_none() -> None:
    sides, reader = Sides(), _reader(decoupled=True)
    block, laid = sides.lay(ROWS, None)
    last = reader.outcome(_ran(block, parts=(Part(laid, None),)), _requests(1), sides.reader)
    assert last.result is not None
    assert last.result.notes == Notes((0,), None)
    assert reader.outcome(_ran(None), _requests(1), sides.reader).result is NO_MORE


# --- anything at all -------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-8, 64), st.integers(1 << 14, (1 << 14) + 4096), st.integers(-(1 << 63), (1 << 64) - 1))
SHAPES = st.lists(st.one_of(st.integers(-1, 4), NUMBERS), max_size=4).map(tuple)
LAID = st.builds(Laid, st.sampled_from(["FP32", "BYTES", "INT64", "BF16", "what"]), SHAPES, NUMBERS, NUMBERS)
PLACES = st.lists(st.none() | LAID, max_size=3).map(tuple)
BLOCKS = (
    st.none()
    | st.builds(Block, NUMBERS, NUMBERS, NUMBERS)
    | st.just(Block(1 << 14, 4096, 3))
    | st.just(Block(1 << 14, 1 << 18, 3))
)
ERRORS = st.none() | st.just(ERROR) | st.dictionaries(st.sampled_from(sorted(ERROR)), st.text() | st.integers())
ORDERS = st.none() | st.lists(st.integers(-2, 3), max_size=3).map(tuple)
PARTS = st.builds(Part, PLACES, ERRORS, ORDERS, st.none())
RANS = st.builds(
    Ran,
    id=st.just(7),
    block=BLOCKS,
    started_ns=st.just(1),
    merged_ns=st.just(1),
    computed_ns=st.just(2),
    finished_ns=st.just(3),
    whole=st.none() | PLACES,
    parts=st.none() | st.lists(PARTS, max_size=3).map(tuple),
)


@settings(deadline=None, max_examples=300)
@given(ran=RANS, content=st.binary(max_size=64), decoupled=st.booleans())
@example(ran=_ran(Block(1 << 14, 4096, 3), (Laid("FP32", (2, 3), 1 << 14, 24), None)), content=b"", decoupled=False)
def test_whatever_is_said_is_an_outcome_or_not_believed_and_nothing_is_kept(
    ran: Ran, content: bytes, decoupled: bool
) -> None:
    sides = Sides()
    sides.reader.memory[1 << 14 : (1 << 14) + len(content)] = content
    sides.reader.memory[BLOCK.flag] = 1
    reader = _reader(decoupled=decoupled)
    batch = _requests(1 if decoupled else 2)
    try:
        outcome = reader.outcome(ran, batch, sides.reader)
    except Confused:
        return
    for one in _single(outcome):
        assert (one.result is None) != (one.error is None)
        if one.result is not None and one.result is not NO_MORE:
            assert len(one.result.arrays) == len(SPECS)
    del outcome, one
    if ran.block is not None and ran.block.flag == BLOCK.flag:
        assert sides.is_free()


def _single(outcome: BatchOutcome) -> list[BatchOutcome]:
    return [outcome] if outcome.parts is None else list(outcome.parts)
