"""Unary calls on one gRPC channel, whose messages are rendered already; HTTP/2 carries them side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio

from taxiway.profile.generating.job import Job, Shot
from taxiway.profile.generating.record import Record
from taxiway.profile.samples import GRPC, OK, TIMED_OUT

_OPTIONS: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Calls:
    """As `Lanes`, for gRPC."""

    def __init__(self, job: Job, record: Record, ended: Callable[[], None]) -> None:
        self._job = job
        self._record = record
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        address = job.door.authority
        if job.door.tls:
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._method: Any = self._channel.unary_unary(job.door.method, None, None)

    async def open(self, count: int) -> None:  # noqa: ARG002 - one channel carries all
        """Connect.

        Raises:
            OSError: nobody answers there.
        """
        try:
            async with asyncio.timeout(self._job.timeout_s):
                await self._channel.channel_ready()
        except TimeoutError:
            raise OSError(f"no gRPC server at {self._job.door.authority}") from None

    @property
    def under_way(self) -> int:
        """Calls that have not ended."""
        return len(self._tasks)

    def send(self, due: float, number: int) -> None:
        """Call with the message of this number."""
        task = self._loop.create_task(self._call(due, time.monotonic(), self._job.shots[number]))
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def finish(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _call(self, due: float, sent: float, shot: Shot) -> None:
        ending = TIMED_OUT
        try:
            await self._method(shot.wire, timeout=self._job.timeout_s, metadata=shot.metadata)
            ending = OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            ending = TIMED_OUT if code is grpc.StatusCode.DEADLINE_EXCEEDED else GRPC + code.value[0]
            self._record.explain(ending, (error.details() or "").encode())
        finally:
            self._record.note(due, sent, time.monotonic(), ending)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended()
