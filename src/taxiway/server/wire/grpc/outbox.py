"""What decoupled models have answered on one call of ModelStreamInfer, on its way to the client.

Answers of different requests go out as they come; those of one request stay in their order. A client that does not read
holds up nobody but itself: what waits for it is counted, and bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

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
        self._is_shut = False

    def put(self, message: bytes) -> None:
        """Have a message written. The only one that waits may be of any size."""
        if self._is_shut:
            return
        if self._messages and self._nbytes + len(message) > self._limit:
            self.shut()
            self._fail(
                SlowReader(
                    f"{self._nbytes} bytes of answers wait to be read; limits.max_stream_buffer_bytes is {self._limit}",
                    hint="read the stream faster, ask for less on one, or raise limits.max_stream_buffer_bytes",
                )
            )
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
        """Drop what waits, and take nothing more."""
        self._is_shut = True
        if self._writer is not None:
            self._writer.cancel()
        self._messages.clear()
        self._count(-self._nbytes)

    async def _write(self) -> None:
        messages = self._messages
        try:
            while messages:
                async with self._writing:
                    await self._context.write(messages[0])
                if messages:  # it was not shut meanwhile
                    self._count(-len(messages.popleft()))
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: whoever waits for the end must hear of it
            self._fail(problem)
        finally:
            self._writer = None

    def _count(self, nbytes: int) -> None:
        self._nbytes += nbytes
        self._hold_bytes(nbytes)
