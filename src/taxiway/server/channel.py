"""Questions and answers between two processes of one server, both ways over one Unix socket.

A frame is its length, the length of its JSON, the JSON, and then whatever bytes the data holds: files of a model
travel as they are. Both sides may ask at any time; answers come in any order. Nothing is pickled: the other side
can only do what it was made with.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import orjson

from taxiway.core.errors import InternalError, InvalidArgument, Overloaded, TaxiwayError, error_from_data
from taxiway.telemetry.logs import Log

Verb = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Does one thing in this process, with plain data as words, and answers with plain data."""

_log = Log("taxiway.server")
_LENGTHS = struct.Struct("!II")
_SLACK_BYTES = 4 << 20
"""What a frame may hold beside the largest body that was taken in: names, statistics, settings."""
MAX_RUNNING = 256
"""Questions of the other side that may be worked on at the same time; more are refused."""

_Path = list[str | int]


def frame_limit(max_body_bytes: int) -> int:
    """Bytes of one frame, where requests bring at most `max_body_bytes`."""
    return max_body_bytes + _SLACK_BYTES


class Gone(Exception):
    """The process at the other end ended, or its connection did, before it answered."""


class Channel(asyncio.Protocol):
    """One end of the connection. `closed` is done when the other end is gone.

    Args:
        verbs: what the other side may ask of this one.
        max_frame_bytes: a longer frame is not sent, and not taken.
    """

    def __init__(self, verbs: Mapping[str, Verb], max_frame_bytes: int) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._verbs = verbs
        self._max_frame_bytes = max_frame_bytes
        self._transport: asyncio.Transport | None = None
        self._read = bytearray()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def connect(self, end: socket.socket) -> None:
        """Speak through `end` of a socket pair, which is ours from now on."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    async def ask(self, verb: str, words: Mapping[str, Any], timeout_s: float | None = None) -> Any:  # noqa: ANN401
        """Have the other side do `verb`, and return what it answers.

        Raises:
            TaxiwayError: the other side's error, of the same kind, code, message and hint.
            Gone: it ended before it answered.
            Overloaded: what was sent before is still unread, or this is too much to send.
            TimeoutError: it did not answer in time.
        """
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send({"ask": number, "verb": verb, "data": dict(words)})
        self._asked[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            del self._asked[number]

    def close(self) -> None:
        """Say no more; the other side sees the end."""
        if self._transport is not None:
            self._transport.close()

    # --- the transport's callbacks --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason, it is gone
        """Whoever waits for an answer is told that there will be none."""
        self._transport = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(_gone())
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take in what came: part of a frame, or several."""
        self._read += data
        try:
            while (frame := self._next_frame()) is not None:
                self._take(frame)
        except (ValueError, KeyError, IndexError, TypeError, struct.error) as problem:
            _log.error("bug", error=InternalError(f"a process of ours sent what cannot be understood: {problem!r}"))
            self.close()

    # --- frames ---------------------------------------------------------------------------------------

    def _next_frame(self) -> dict[str, Any] | None:
        if len(self._read) < _LENGTHS.size:
            return None
        size, json_size = _LENGTHS.unpack_from(self._read)
        if size > self._max_frame_bytes:
            raise ValueError(f"a frame of {size} bytes; {self._max_frame_bytes} are allowed")
        end = _LENGTHS.size + size
        if len(self._read) < end:
            return None
        content = bytes(memoryview(self._read)[_LENGTHS.size : end])
        del self._read[:end]
        return decode_frame(content, json_size)

    def _take(self, frame: dict[str, Any]) -> None:
        if "ask" in frame:
            self._begin(frame["ask"], frame["verb"], frame["data"])
            return
        answer = self._asked.get(frame["answer"])
        if answer is None or answer.done():
            return  # nobody waits any more
        if "error" in frame:
            answer.set_exception(error_from_data(frame["error"]))
        else:
            answer.set_result(frame["data"])

    def _send(self, frame: dict[str, Any]) -> None:
        if self._transport is None or self._transport.is_closing():
            raise _gone()
        buffers = encode_frame(frame)
        size = sum(len(buffer) for buffer in buffers)
        if size > self._max_frame_bytes:
            raise InvalidArgument(
                f"{size} bytes are too many to tell the server's other processes; {self._max_frame_bytes} are allowed",
                hint="limits.max_body_bytes bounds it",
            )
        if self._transport.get_write_buffer_size() + size > 2 * self._max_frame_bytes:
            raise Overloaded("a process of the server does not read what it is told")
        self._transport.writelines(buffers)

    # --- the other side's questions -------------------------------------------------------------------

    def _begin(self, number: int, verb: str, words: Mapping[str, Any]) -> None:
        if len(self._running) >= MAX_RUNNING:
            self._answer(number, Overloaded("a process of the server has too much to do"))
            return
        task = asyncio.get_running_loop().create_task(self._work(number, verb, words))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _work(self, number: int, verb: str, words: Mapping[str, Any]) -> None:
        try:
            answer = await self._verbs[verb](words)
        except TaxiwayError as error:
            self._answer(number, error)
        except Exception as problem:  # noqa: BLE001 - the boundary between processes: it is told, and logged here
            _log.error("bug", error=problem)
            self._answer(number, InternalError("internal error; the server's log has the details"))
        else:
            self._answer(number, answer)

    def _answer(self, number: int, answer: object) -> None:
        told: dict[str, Any] = {"answer": number}
        told |= {"error": answer.to_data()} if isinstance(answer, TaxiwayError) else {"data": answer}
        try:
            self._send(told)
        except Gone:
            return  # nobody is left to be told
        except TaxiwayError as error:
            self._send({"answer": number, "error": error.to_data()})


def encode_frame(frame: dict[str, Any]) -> list[bytes]:
    """The buffers of a frame whose member `data` may hold bytes anywhere."""
    blobs: list[tuple[_Path, bytes]] = []
    plain = _lifted(frame.get("data"), [], blobs)
    places = [[path, len(blob)] for path, blob in blobs]
    text = orjson.dumps({**frame, "data": plain, "places": places}, default=str)
    content = [text, *(blob for _, blob in blobs)]
    return [_LENGTHS.pack(sum(map(len, content)), len(text)), *content]


def decode_frame(content: bytes, json_size: int) -> dict[str, Any]:
    """The frame whose JSON is the first `json_size` bytes of `content`."""
    frame: dict[str, Any] = orjson.loads(content[:json_size])
    position = json_size
    for path, size in frame.pop("places"):
        place: Any = frame
        for step in ("data", *path[:-1]):
            place = place[step]
        place[path[-1]] = content[position : position + size]
        position += size
    return frame


def _lifted(data: Any, path: _Path, blobs: list[tuple[_Path, bytes]]) -> Any:  # noqa: ANN401 - plain data
    """The data with nothing where bytes were; those go to `blobs`, with their place."""
    if isinstance(data, bytes | bytearray | memoryview):
        blobs.append((path, bytes(data)))
        return None
    if isinstance(data, Mapping):
        return {key: _lifted(value, [*path, key], blobs) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_lifted(value, [*path, index], blobs) for index, value in enumerate(data)]
    return data


def _gone() -> Gone:
    return Gone("the process at the other end is gone")
