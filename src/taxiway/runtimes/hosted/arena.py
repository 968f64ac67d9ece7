"""Memory that two processes share: one of them lays tensors down, the other looks at them where they lie.

An arena goes one way. Its writer gives out blocks; its reader holds a block as long as any array of its own looks into
it, and gives it back by clearing one byte in the arena itself, so that giving back takes neither a message nor a lock.
The file is sparse: what was never written to takes no memory, and large blocks that are given back are punched out.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import Overloaded

ALIGNMENT = 64
"""Of every tensor in a block: a cache line, and what vector instructions like."""
_FLAGS = 16384
"""Blocks that may be out at the same time; the first bytes of an arena are their flags."""
_LEAST = 1024
_LARGE = 1 << 20
_KEPT_LARGE = 2
"""Free blocks of each large size that keep their memory."""


class Block(NamedTuple):
    """A piece of an arena: where it begins, how long it is, and which flag is its own."""

    offset: int
    size: int
    flag: int


def create_file(name: str, nbytes: int) -> int:
    """An unnamed file of shared memory, sparse; what is returned is its descriptor."""
    number = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(number, nbytes)
    return number


def aligned(nbytes: int) -> int:
    """`nbytes`, rounded up so that what follows begins on a boundary."""
    return (nbytes + ALIGNMENT - 1) & -ALIGNMENT


def nbytes_of(data: Any) -> int:  # noqa: ANN401 - any contiguous buffer
    """How long a buffer is."""
    if data.__class__ is bytes:
        return len(data)
    nbytes: int = data.nbytes if hasattr(data, "nbytes") else memoryview(data).nbytes
    return nbytes


class ArenaWriter:
    """Gives out blocks of the file `number`.

    Not thread-safe: whoever writes from several threads holds a lock.
    """

    def __init__(self, number: int) -> None:
        self._size = os.fstat(number).st_size
        self.memory = mmap.mmap(number, self._size)
        self._gaps = [(_FLAGS, self._size)]
        """Where nothing was given out yet, or everything was taken back."""
        self._flags = list(range(_FLAGS - 1, -1, -1))
        self._free: dict[int, list[int]] = {}
        """By size: offsets of blocks that nobody holds."""
        self._held: list[Block] = []
        """What was given out and may be back."""

    def take(self, nbytes: int) -> Block:
        """A block of at least `nbytes`, the reader's until it gives it back.

        Raises:
            Overloaded: there is none; others have to be given back first.
        """
        size = _size_of(nbytes)
        free = self._free.get(size)
        if not free or not self._flags:
            self._collect()
            free = self._free.get(size)
        if not self._flags:
            raise Overloaded(f"{_FLAGS} blocks of shared memory are held by the model and its callers", hint="retry")
        offset = free.pop() if free else self._carve(size)
        if offset is None:
            raise Overloaded(
                f"{nbytes} bytes do not fit into the shared memory of the model, which is {self._size} bytes",
                hint="raise execution.shared_memory_bytes, or send less at a time",
            )
        block = Block(offset, size, self._flags.pop())
        self.memory[block.flag] = 1
        self._held.append(block)
        return block

    def give_up(self, block: Block) -> None:
        """Nobody was told of this block, and it is wanted no more."""
        self.memory[block.flag] = 0

    def _carve(self, size: int) -> int | None:
        """Where a new block of `size` can be; None if nowhere."""
        offset = self._carve_gap(size)
        if offset is None:  # blocks of other sizes, which nobody holds, may be in the way
            self._free.clear()
            self._gaps = _between([(block.offset, block.offset + block.size) for block in self._held], self._size)
            offset = self._carve_gap(size)
        return offset

    def _carve_gap(self, size: int) -> int | None:
        for place, (start, stop) in enumerate(self._gaps):
            if start + size <= stop:
                self._gaps[place] = (start + size, stop)
                return start
        return None

    def take_flag(self) -> int:
        """A byte of its own that both sides see, 1 at first; `drop_flag` takes it back.

        Raises:
            Overloaded: all are out.
        """
        if not self._flags:
            self._collect()
        if not self._flags:
            raise Overloaded(f"{_FLAGS} blocks and requests are with the model", hint="retry")
        flag = self._flags.pop()
        self.memory[flag] = 1
        return flag

    def drop_flag(self, flag: int) -> None:
        """Nobody looks at it any more."""
        self._flags.append(flag)

    def write(self, offset: int, data: Any) -> int:  # noqa: ANN401 - any contiguous buffer
        """Lay `data` down at `offset`, within a block that was taken; how many bytes it was."""
        size = nbytes_of(data)
        self.memory[offset : offset + size] = data
        return size

    def _collect(self) -> None:
        """Take back what the reader has given back."""
        held = []
        for block in self._held:
            if self.memory[block.flag]:
                held.append(block)
                continue
            free = self._free.setdefault(block.size, [])
            free.append(block.offset)
            self._flags.append(block.flag)
            if block.size >= _LARGE and len(free) > _KEPT_LARGE:
                self._punch(block)
        self._held = held

    def _punch(self, block: Block) -> None:
        start = -(-block.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (block.offset + block.size) // mmap.PAGESIZE * mmap.PAGESIZE
        with contextlib.suppress(OSError):  # the memory is only kept a while longer
            self.memory.madvise(mmap.MADV_REMOVE, start, stop - start)


def _size_of(nbytes: int) -> int:
    """The size of the block for so many bytes: few different ones, and a quarter too much at most where it matters."""
    if nbytes <= _LEAST:
        return _LEAST
    size = 1 << (nbytes - 1).bit_length()
    if nbytes > _LARGE:
        step = size >> 3
        return -(-nbytes // step) * step
    return size


def _between(taken: list[tuple[int, int]], end: int) -> list[tuple[int, int]]:
    """What lies between the pieces that are taken, from behind the flags to the end."""
    gaps = []
    start = _FLAGS
    for piece_start, piece_stop in sorted(taken):
        if piece_start > start:
            gaps.append((start, piece_start))
        start = piece_stop
    return [*gaps, (start, end)]


class Lease(np.ndarray[Any, Any]):
    """The bytes of one block, given back when nothing looks at them any more.

    Arrays made over it keep it alive as their base; it is never handed out itself.
    """

    _memory: mmap.mmap | None = None
    _flag = 0

    def __del__(self) -> None:
        if self._memory is not None:
            self._memory[self._flag] = 0


class ArenaReader:
    """Looks at what the writer of the file `number` lays down."""

    def __init__(self, number: int) -> None:
        self.memory = mmap.mmap(number, os.fstat(number).st_size)

    def check(self, block: Block) -> None:
        """Refuse a block that is not in the arena: whoever wrote it may have gone mad.

        Raises:
            ValueError: it is not.
        """
        inside = block.offset >= _FLAGS and block.size > 0 and block.offset + block.size <= len(self.memory)
        if not inside or not 0 <= block.flag < _FLAGS:
            raise ValueError(f"{block} is not in the arena")

    def lease(self, block: Block) -> Lease:
        """The block's bytes; it is ours until they are collected as garbage."""
        lease = np.ndarray.__new__(Lease, (block.size,), np.uint8, self.memory, block.offset)
        lease._memory = self.memory
        lease._flag = block.flag
        return lease

    def give_back(self, block: Block) -> None:
        """Give a block back of which nothing was leased, or all was copied."""
        self.memory[block.flag] = 0


def view_of(lease: Lease, block: Block, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array over part of a leased block, which it keeps; `offset` counts from the start of the arena."""
    return np.ndarray(shape, dtype, lease, offset - block.offset)
