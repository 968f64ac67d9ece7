"""What decoupled models have answered on one call of ModelStreamInfer, on its way to the client.

Answers of different requests go out as they come; those of one request stay in their order. A client that does not read
holds up nobody but itself: what waits for it is counted, and bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import grpc.aio

from taxiway.core.errors import SlowReader
from taxiway.server.admission import Admission
from taxiway.server.wire.grpc.calls import Context


class Outbox:
    """Writes what it is given, in that order, whenever nobody else writes on the call.

    Args:
        context: the call.
        writing: held while a message is written.
        limit: bytes that may wait for the client; with more the call fails.
        fail: ends the call by an error.
    """

    def __init__(
        self,
        context: Context,
        writing: asyncio.Lock,
        admission: Admission,
        limit: int,
        fail: Callable[[Exception], None],
    ) -> None:
        self._context = context
        self._writing = writing
        self._hold_bytes = admission.hold_bytes
        self._limit = limit
        self._fail = fail
        self._messages: deque[bytes] = deque()
        self._nbytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._is_shut = self._has_begun = False

    def put(self, message: bytes) -> None:
        """Have a message written. The only one that waits may be of any size."""
        if self._is_shut:
            return
        if self._messages and self._nbytes + len(message) > self._limit:
            slow = SlowReader(
                f"{self._nbytes} bytes of answers wait to be read; limits.max_stream_buffer_bytes is {self._limit}",
                hint="read the stream faster, ask for less on one, or raise limits.max_stream_buffer_bytes",
            )
            self._drop()
            self._fail(slow)
            return
        self._messages.append(message)
        self._count(len(message))
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def written(self) -> None:
        """Return when all that was put is written."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    def shut(self) -> None:
        """Take nothing more; what waits is written."""
        self._is_shut = True

    def _drop(self) -> None:
        """Take nothing more, and drop what waits; a message that is being written is not torn."""
        self.shut()
        self._messages.clear()
        self._count(-self._nbytes)

    def close(self) -> None:
        """Drop what waits, and what is being written."""
        self._drop()
        if self._writer is not None:
            self._writer.cancel()

    async def _write(self) -> None:
        messages = self._messages
        try:
            if not self._has_begun:
                self._has_begun = True
                await self._begin()
            while messages:
                async with self._writing:
                    await self._context.write(messages[0])
                if messages:  # they were not dropped meanwhile
                    self._count(-len(messages.popleft()))
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: whoever waits for the end must hear of it
            self._fail(problem)
        finally:
            self._writer = None

    async def _begin(self) -> None:
        """Have the call's head on its way before any message: while that is stuck with one, no status can follow."""
        async with self._writing:
            with contextlib.suppress(grpc.aio.UsageError):  # somebody's first message has brought it
                await self._context.send_initial_metadata(())

    def _count(self, nbytes: int) -> None:
        self._nbytes += nbytes
        self._hold_bytes(nbytes)
