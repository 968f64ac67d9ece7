"""One generator process: `python -m taxiway.profile.generating`, started by running.py and by nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from typing import BinaryIO, Final, NoReturn

import msgspec
import uvloop

from taxiway.profile.generating.job import LENGTH_BYTES, READY, Job, Report, framed
from taxiway.profile.generating.lanes import Lanes
from taxiway.profile.generating.pump import ClosedLoop, MakeSender, OpenLoop
from taxiway.profile.generating.record import Record

_SWITCH_S: Final = 2e-5


def main() -> NoReturn:
    """Read the job, connect, say so, read when to begin, send, write the report."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    job = msgspec.msgpack.decode(_read(source), type=Job)
    gc.disable()  # a collection would look like the server's latency
    report = uvloop.run(_run(job, source, sink))
    _say(sink, msgspec.msgpack.encode(report))
    _end_with_parent(source.fileno())  # asyncio's own loop loses what a process that has ended left in the pipe


async def _run(job: Job, source: BinaryIO, sink: BinaryIO) -> Report:
    record = Record()
    make = _sender_of(job)
    loop = ClosedLoop(job, record, make) if job.concurrency else OpenLoop(job, record, make)
    try:
        await loop.sender.open(min(job.connections, job.concurrency * job.query or 1))
    except OSError as error:
        loop.sender.finish()
        return Report(b"", b"", {}, 0.0, str(error))
    _say(sink, READY)
    began = float(source.readline())
    threading.Thread(target=_end_with_parent, args=(source.fileno(),), daemon=True).start()
    before = time.process_time()
    try:
        await loop.run(began)
    finally:
        loop.sender.finish()
        await asyncio.sleep(0)
    spent = time.process_time() - before
    return Report(record.rows.tobytes(), record.gaps.tobytes(), record.examples, spent)


def _sender_of(job: Job) -> MakeSender:
    if not job.door.method:
        return Lanes
    # gRPC reads in a thread of its own, which must not wait for 5 ms until a loop that does not sleep lets it.
    sys.setswitchinterval(_SWITCH_S)
    from taxiway.profile.generating.grpc_calls import Calls  # noqa: PLC0415 - HTTP needs no gRPC

    return Calls


def _read(source: BinaryIO) -> bytes:
    return source.read(int.from_bytes(source.read(LENGTH_BYTES)))


def _say(sink: BinaryIO, message: bytes) -> None:
    """Every byte: after uvloop has run, a large write to a pipe that is full may come back before it is done."""
    left = memoryview(framed(message))
    while left:
        left = left[os.write(sink.fileno(), left) :]


def _end_with_parent(source: int) -> NoReturn:
    """Who started us holds the other end; when that is closed everything was taken, or nobody wants it."""
    with contextlib.suppress(OSError):
        os.read(source, 1)  # not through the buffer, whose lock another thread may hold
    os._exit(0)


if __name__ == "__main__":
    main()
