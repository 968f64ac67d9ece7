"""Memory that two processes share: no block is given out twice, and nothing is lost."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taxiway.core.errors import Overloaded
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter, Block, create_file, view_of

SIZE = 1 << 20


def _arena(size: int = SIZE) -> tuple[ArenaWriter, ArenaReader]:
    number = create_file("test", size)
    try:
        return ArenaWriter(number), ArenaReader(number)
    finally:
        os.close(number)


@pytest.fixture
def arena() -> Iterator[tuple[ArenaWriter, ArenaReader]]:
    yield _arena()
    gc.collect()


Arena = tuple[ArenaWriter, ArenaReader]


def test_what_is_laid_down_is_seen_where_it_lies(arena: Arena) -> None:
    writer, reader = arena
    block = writer.take(12)
    writer.write(block.offset, np.array([1, 2, 3], np.int32))
    array = view_of(reader.lease(block), block, block.offset, np.dtype("<i4"), (3,))
    assert array.tolist() == [1, 2, 3]
    writer.write(block.offset, np.array([4], np.int32))
    assert array.tolist() == [4, 2, 3]  # nothing was copied


def test_a_block_is_held_as_long_as_any_array_looks_into_it(arena: Arena) -> None:
    writer, reader = arena
    block = writer.take(SIZE // 2)
    rows = view_of(reader.lease(block), block, block.offset, np.dtype("<f4"), (4, 2))[1:3]
    with pytest.raises(Overloaded, match=r"execution\.shared_memory_bytes|shared memory"):
        writer.take(SIZE // 2)
    del rows
    assert writer.take(SIZE // 2).offset == block.offset


def test_a_block_given_back_without_a_lease_is_free(arena: Arena) -> None:
    writer, reader = arena
    block = writer.take(SIZE // 2)
    reader.give_back(block)
    assert writer.take(SIZE // 2).offset == block.offset


def test_flags_run_out_and_come_back(arena: Arena) -> None:
    writer, _ = arena
    flags = [writer.take_flag() for _ in range(1 << 14)]
    assert len(set(flags)) == len(flags)
    with pytest.raises(Overloaded):
        writer.take_flag()
    writer.drop_flag(flags.pop())
    writer.take_flag()


@pytest.mark.parametrize(
    "block", [Block(0, 64, 1), Block(SIZE, 64, 1), Block(1 << 14, SIZE, 1), Block(1 << 14, 64, -1)]
)
def test_a_block_that_is_not_in_the_arena_is_refused(arena: Arena, block: Block) -> None:
    with pytest.raises(ValueError, match="not in the arena"):
        arena[1].check(block)


def test_large_blocks_that_nobody_holds_give_their_memory_back() -> None:
    number = create_file("test", 1 << 30)
    writer, reader = ArenaWriter(number), ArenaReader(number)
    blocks = [writer.take(8 << 20) for _ in range(8)]
    for block in blocks:
        writer.write(block.offset, bytes(8 << 20))
    full = os.fstat(number).st_blocks
    for block in blocks:
        reader.give_back(block)
    writer.take(16 << 20)  # looks for one of another size, and so takes back what was given back
    assert os.fstat(number).st_blocks < full / 2
    os.close(number)


def test_what_was_of_other_sizes_is_given_out_again_once_nobody_holds_it(arena: Arena) -> None:
    writer, reader = arena
    for size in (SIZE // 2, SIZE // 4, SIZE // 8):
        reader.give_back(writer.take(size))
    halves = [writer.take(SIZE // 4) for _ in range(3)]
    assert len({block.offset for block in halves}) == 3
    with pytest.raises(Overloaded):
        writer.take(SIZE // 4)


def test_a_block_of_more_than_half_of_the_arena_is_to_be_had() -> None:
    writer, _ = _arena(64 << 20)
    assert writer.take(36 << 20).size < 42 << 20


def test_a_block_that_nobody_was_told_of_is_free_again(arena: Arena) -> None:
    writer, _ = arena
    block = writer.take(SIZE // 2)
    writer.give_up(block)
    assert writer.take(SIZE // 2).offset == block.offset


class Blocks(RuleBasedStateMachine):
    """Blocks of any size, taken and given back in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.writer, self.reader = _arena()
        self.held: list[tuple[Block, bytes]] = []
        self.count = 0

    @rule(size=st.integers(0, 40_000))
    def take(self, size: int) -> None:
        try:
            block = self.writer.take(size)
        except Overloaded:
            assert self.held
            return
        self.count += 1
        content = self.count.to_bytes(4, "little") * (block.size // 4)
        self.writer.write(block.offset, content)
        self.held.append((block, content))

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.held:
            block, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
            self.reader.give_back(block)

    @invariant()
    def nobody_wrote_into_what_is_held(self) -> None:
        for block, content in self.held:
            assert self.reader.memory[block.offset : block.offset + block.size] == content
        flags = [block.flag for block, _ in self.held]
        assert len(set(flags)) == len(flags)


TestBlocks = Blocks.TestCase
