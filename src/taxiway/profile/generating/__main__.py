"""One generator process: `python -m taxiway.profile.generating`, started by running.py and by nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from typing import BinaryIO, Final

import msgspec
import uvloop

from taxiway.profile.generating.job import READY, Job, Report
from taxiway.profile.generating.lanes import Lanes
from taxiway.profile.generating.pump import ClosedLoop, MakeSender, OpenLoop
from taxiway.profile.generating.record import Record

_LENGTH_BYTES: Final = 8
_OPENED_AT_FIRST: Final = 32


def main() -> int:
    """Read the job, connect, say so, read when to begin, send, write the report."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    job = msgspec.msgpack.decode(_read(source), type=Job)
    gc.disable()  # a collection would look like the server's latency
    report = uvloop.run(_run(job, source, sink))
    sink.write(msgspec.msgpack.encode(report))
    sink.flush()
    return 0


async def _run(job: Job, source: BinaryIO, sink: BinaryIO) -> Report:
    record = Record()
    make = _sender_of(job)
    loop = ClosedLoop(job, record, make) if job.concurrency else OpenLoop(job, record, make)
    try:
        await loop.sender.open(min(job.connections, job.concurrency * job.query or _OPENED_AT_FIRST))
    except OSError as error:
        loop.sender.finish()
        return Report(b"", b"", {}, 0.0, str(error))
    sink.write(READY)
    sink.flush()
    began = float(source.readline())
    threading.Thread(target=_end_with_parent, args=(source,), daemon=True).start()
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
    from taxiway.profile.generating.grpc_calls import Calls  # noqa: PLC0415 - HTTP needs no gRPC

    return Calls


def _read(source: BinaryIO) -> bytes:
    return source.read(int.from_bytes(source.read(_LENGTH_BYTES)))


def _end_with_parent(source: BinaryIO) -> None:
    """Who started us holds the other end; when that is closed nobody wants the report."""
    with contextlib.suppress(OSError, ValueError):
        os.read(source.fileno(), 1)  # not through the buffer, whose lock nobody could take any more
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
