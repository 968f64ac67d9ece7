"""gzip and deflate, both ways. Large bodies are coded in a thread, so that nobody else waits for them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from taxiway.core.errors import InvalidArgument, TaxiwayError, TooLarge, Unsupported
from taxiway.server.wire.exchange import Buffer, Exchange, Headers
from taxiway.server.wire.routes import Handler

if TYPE_CHECKING:
    from taxiway.server.admission import Admission

_IN_THREAD_BYTES = 65_536
"""What is larger than this, packed or to be packed, is coded in the thread."""
_AT_ONCE_BYTES = 524_288
"""What unpacks to more than this is unpacked in the thread too: a kilobyte can stand for a megabyte."""
_WINDOW = {"gzip": 31, "deflate": 15}
_STEP = 262_144


class Coder:
    """Decodes requests and encodes answers.

    Args:
        max_bytes: what a decoded body may hold: a small body that unpacks to more is refused (a "zip bomb").
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, admission: Admission, max_bytes: int) -> None:
        self._loop = loop
        self._admission = admission
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="coding")

    def close(self) -> None:
        """Free the thread once it is done with what it holds; what waits for it is not done any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def decode(self, exchange: Exchange, handler: Handler) -> None:
        """Replace the exchange's body by what it decodes to, then call `handler`; 501 for other codings.

        Raises:
            InvalidArgument, TooLarge: as `decompress`, if it was done at once.
            Overloaded, Unavailable: one that waits for the thread is a request in flight like any other.
        """
        codings = [coding.decode("latin-1") for coding in exchange.head.encodings]
        if len(codings) > 1 or codings[0] not in _WINDOW:
            error = Unsupported(
                f"content-encoding {', '.join(codings)!r} is not supported",
                hint="send the body as it is, or with one of gzip and deflate",
            )
            exchange.reply_error(error, (("Accept-Encoding", "gzip, deflate"),))
            return
        if len(exchange.body) < _IN_THREAD_BYTES:
            at_once = min(self._max_bytes, _AT_ONCE_BYTES)
            try:
                exchange.body = decompress(exchange.body, codings[0], at_once)
            except TooLarge:
                if at_once == self._max_bytes:
                    raise
            else:
                handler(exchange)
                return
        self._admission.enter()
        job = self._loop.run_in_executor(self._threads, decompress, exchange.body, codings[0], self._max_bytes)
        job.add_done_callback(lambda done: self._decoded(done, exchange, handler))

    def _decoded(self, done: asyncio.Future[bytes], exchange: Exchange, handler: Handler) -> None:
        self._admission.leave()
        if done.cancelled():
            return
        if exchange.answer is not None or exchange.connection.transport.is_closing():
            done.exception()  # nobody is left to be told, nor to work for
            return
        try:
            exchange.body = done.result()
            self._admission.reserve_bytes(len(exchange.body))
            exchange.reserved_bytes += len(exchange.body)
            handler(exchange)
        except TaxiwayError as error:
            exchange.reply_error(error)
        except Exception as problem:  # noqa: BLE001 - the boundary of this callback
            exchange.reply_bug(problem)

    def encode(
        self, status: int, buffers: Sequence[Buffer], content_type: str, headers: Headers, exchange: Exchange
    ) -> None:
        """Answer `exchange` with the buffers, in the coding its head prefers."""
        coding = exchange.head.accepts
        headers = (*headers, ("Content-Encoding", coding))

        def send(done: asyncio.Future[bytes]) -> None:
            if done.cancelled() or exchange.answer is not None:
                return  # the server stops, and waited no longer
            try:
                exchange.reply_buffers(status, [done.result()], content_type, headers)
            except Exception as problem:  # noqa: BLE001 - the boundary of this callback
                exchange.reply_bug(problem)

        if sum(len(buffer) for buffer in buffers) < _IN_THREAD_BYTES:
            exchange.reply_buffers(status, [compress(buffers, coding)], content_type, headers)
            return
        self._loop.run_in_executor(self._threads, compress, buffers, coding).add_done_callback(send)


def decompress(data: Buffer, coding: str, max_bytes: int) -> bytes:
    """The bytes `data` stands for.

    Raises:
        InvalidArgument: not that coding, cut short, or followed by something else.
        TooLarge: more than `max_bytes`.
    """
    engine = zlib.decompressobj(_WINDOW[coding])
    parts: list[bytes] = []
    total = position = 0
    packed = memoryview(data)
    try:
        while not engine.eof:
            # In slices: the engine copies what it has left of its input, every time.
            pending = engine.unconsumed_tail or packed[position : (position := position + _STEP)]
            part = engine.decompress(pending, _STEP)
            total += len(part)
            if total > max_bytes:
                raise TooLarge(
                    f"the body unpacks to more than {max_bytes} bytes",
                    hint="limits.max_body_bytes bounds it",
                    limit=max_bytes,
                )
            parts.append(part)
            if not part and not pending:
                break
    except zlib.error as problem:
        raise InvalidArgument(f"the body is not {coding}: {problem}") from problem
    if not engine.eof or engine.unused_data or position < len(packed):
        raise InvalidArgument(f"the body is not one whole {coding} stream")
    return b"".join(parts)


def compress(buffers: Sequence[Buffer], coding: str) -> bytes:
    """The buffers, one after the other, in `coding`. Level 1: the wire is faster than the deflater."""
    engine = zlib.compressobj(1, zlib.DEFLATED, _WINDOW[coding])
    return b"".join([*(engine.compress(buffer) for buffer in buffers), engine.flush()])
