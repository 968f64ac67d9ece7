"""A small server of OpenAI's protocol: streams as many tokens as asked for, one each few milliseconds."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PAUSE_S = 0.002
FIRST_S = 0.005


def _chunk(document: dict[str, Any]) -> bytes:
    data = f"data: {json.dumps(document)}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _stream(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(_chunk({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))
    await asyncio.sleep(FIRST_S)
    for number in range(body["max_tokens"]):
        key = "reasoning_content" if number == 0 else "content"
        writer.write(_chunk({"choices": [{"delta": {key: f" {number}"}}]}))
        await writer.drain()
        await asyncio.sleep(PAUSE_S)
    if body.get("stream_options", {}).get("include_usage"):
        writer.write(_chunk({"choices": [], "usage": {"completion_tokens": body["max_tokens"]}}))
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().lower().split("\r\n")
            length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)
            body = json.loads(await reader.readexactly(length) or b"{}")
            if lines[0].startswith("get /v1/models "):
                text = json.dumps({"data": [{"id": "tiny"}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            elif body.get("model") == "tiny":
                await _stream(writer, body)
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nno model")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@contextmanager
def openai_server() -> Iterator[int]:
    """Serve in a thread; gives the port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:

        async def stop() -> None:
            server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            loop.call_soon(loop.stop)

        asyncio.run_coroutine_threadsafe(stop(), loop)
        thread.join()
        loop.close()
