"""Bodies that come in pieces.

`FixedBody` owns memory of the whole length from the start, placed so that the binary tensors behind its JSON part begin
on a 64-byte boundary: what the kernel writes there is what the model reads, with no copy in between.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from taxiway.core.errors import MalformedHttp, TooLarge

if TYPE_CHECKING:
    from taxiway.server.wire.http1 import HttpConnection

_ALIGNMENT = 64
_MAX_CHUNK_LINE = 1024
_MAX_TRAILER = 8192


class FixedBody:
    """A body whose length was announced. `json_length` says where its binary part begins."""

    __slots__ = ("_filled", "_memory", "length", "reserved_bytes")

    def __init__(self, length: int, json_length: int) -> None:
        self.length = length
        self.reserved_bytes = 0
        self._filled = 0
        # np.empty asks the kernel for pages without touching them: an announced gigabyte costs nothing until it comes.
        block = np.empty(length + _ALIGNMENT, np.uint8)
        offset = -(block.ctypes.data + json_length) % _ALIGNMENT
        self._memory = block.data[offset : offset + length]

    @property
    def received(self) -> int:
        """Bytes that have come."""
        return self._filled

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self.length - self._filled

    @property
    def done(self) -> bool:
        """Whether all of it is here."""
        return self._filled == self.length

    def feed(self, data: bytes, position: int) -> int:
        """Take what belongs to the body from `data` at `position`; where the rest begins."""
        count = min(len(data) - position, self.missing)
        self._memory[self._filled : self._filled + count] = memoryview(data)[position : position + count]
        self._filled += count
        return position + count

    def space(self) -> memoryview:
        """Where the next byte goes, to the end."""
        return self._memory[self._filled :]

    def advance(self, count: int) -> None:
        """`count` bytes were written into `space()`."""
        self._filled += count

    def content(self) -> memoryview:
        """The whole body."""
        return self._memory


class ChunkedBody:
    """A body in chunks (RFC 9112, section 7.1), read strictly: no leniency that two readers could disagree on."""

    __slots__ = (
        "_chunks",
        "_left",
        "_limit",
        "_line",
        "_max_chunks",
        "_parts",
        "_state",
        "_trailer_left",
        "received",
        "reserved_bytes",
    )

    def __init__(self, limit: int, max_chunks: int) -> None:
        self.received = 0
        self.reserved_bytes = 0
        self._limit = limit
        self._max_chunks = max_chunks
        self._parts: list[bytes] = []
        self._chunks = 0
        self._left = 0
        self._line = b""
        self._trailer_left = _MAX_TRAILER
        self._state = "size"

    @property
    def done(self) -> bool:
        """Whether the last chunk and its trailer are here."""
        return self._state == "done"

    def content(self) -> bytes:
        """The whole body."""
        return b"".join(self._parts)

    def feed(self, data: bytes, position: int) -> int:
        """Take what belongs to the body from `data` at `position`; where the rest begins.

        Raises:
            MalformedHttp: not chunks.
            TooLarge: more bytes or more chunks than allowed.
        """
        while position < len(data) and self._state != "done":
            take = self._take_data if self._state == "data" else self._take_line
            position = take(data, position)
        return position

    def _take_data(self, data: bytes, position: int) -> int:
        part = data[position : position + self._left]
        self._parts.append(part)
        self.received += len(part)
        self._left -= len(part)
        if self._left == 0:
            self._state = "end of chunk"
        return position + len(part)

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        self._line += data[position:stop]
        limit = self._trailer_left if self._state == "trailer" else _MAX_CHUNK_LINE
        if len(self._line) > limit:
            raise MalformedHttp(f"a chunk's size line is over {_MAX_CHUNK_LINE} bytes, or the trailer {_MAX_TRAILER}")
        if end >= 0:
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n") or line.count(b"\r") > 1:
                raise MalformedHttp("a chunk's line does not end with CR LF")
            self._take_whole_line(line[:-2])
        return stop

    def _take_whole_line(self, line: bytes) -> None:
        if self._state == "end of chunk":
            if line:
                raise MalformedHttp("a chunk is longer than its size line says")
            self._state = "size"
        elif self._state == "trailer":
            self._trailer_left -= len(line) + 2
            if not line:
                self._state = "done"
        else:
            self._take_size(line.partition(b";")[0].rstrip(b" \t"))

    def _take_size(self, digits: bytes) -> None:
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise MalformedHttp(f"chunk size {digits[:40].decode('latin-1')!r} is not a hexadecimal number")
        size = int(digits, 16)
        if size == 0:
            self._state = "trailer"
            return
        self._chunks += 1
        if self._chunks > self._max_chunks:
            raise TooLarge(f"the body has more than {self._max_chunks} chunks", hint="limits.max_chunks bounds them")
        if self.received + size > self._limit:
            raise TooLarge(
                f"the request's body is over {self._limit} bytes",
                hint="limits.max_body_bytes bounds it",
                limit=self._limit,
            )
        self._left = size
        self._state = "data"


class BodyFiller(asyncio.BufferedProtocol):
    """Stands in for a connection while a large body comes: the kernel writes into the body's own memory.

    It does not hold the body: uvloop keeps the last such protocol of a connection, and would keep the memory with it.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - all the space there is, never more than the body
        """Where to read to."""
        return self._connection.body_space()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        self._connection.filler_read(nbytes)

    def eof_received(self) -> bool:
        """The client stopped in the middle of its body: nothing can be answered."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """As the connection."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """As the connection."""
        self._connection.resume_writing()
