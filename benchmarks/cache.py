"""What a hit costs beside a miss, and what the cache costs a miss: `python -m benchmarks.cache`.

One model is served by one server with the response cache and by one without, over HTTP in v2 JSON. One connection asks
one request at a time: always the same (hits), never the same (misses), and never the same where nothing is cached
(plain). A burst of equal requests over many connections shows that they are run once. The bars: a hit's median takes at
most a fifth of a miss's, and a miss's median at most 5 % more than a plain one's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from benchmarks.load import percentile
from benchmarks.models import CATALOGUE, ensure_models, json_body
from benchmarks.servers import Server, ServerError, taxiway

HIT_SHARE = 0.2
MISS_OVERHEAD = 1.05
OK = 200
_WARM_UP = 50
_BURST = 64
_MAX_BYTES = 256 << 20


class Caller:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer.

        Raises:
            ServerError: it is an error.
        """
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        content = await self._reader.readexactly(length)
        if int(answer.split(b" ", 2)[1]) != OK:
            raise ServerError(content.decode(errors="replace"))
        return content


async def connect(server: Server) -> Caller:
    """A caller of this server."""
    return Caller(*await asyncio.open_connection("127.0.0.1", server.port))


def bodies(name: str) -> Callable[[int], bytes]:
    """Requests of a model by number: another parameter makes another key, and the same work."""
    document = json.loads(json_body(CATALOGUE[name]))

    def numbered(number: int) -> bytes:
        return json.dumps({**document, "parameters": {"number": number}}).encode()

    return numbered


@contextmanager
def cached(name: str) -> Iterator[Server]:
    """The model, served with the response cache."""
    ensure_models(name)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, name)
        (directory / "1").mkdir(parents=True)
        (directory / "1" / "model.onnx").symlink_to(CATALOGUE[name].path)
        (directory / "config.pbtxt").write_text("response_cache { enable: true }\n")
        with taxiway([], {0}, extra=[folder, "--cache.max-bytes", str(_MAX_BYTES)]) as server:
            yield server


async def latencies_us(server: Server, name: str, numbers: Iterator[int], seconds: float) -> list[float]:
    """Sorted microseconds of one request after the other."""
    caller, body, path = await connect(server), bodies(name), f"/v2/models/{name}/infer"
    for _ in range(_WARM_UP):
        await caller.post(path, body(next(numbers)))
    taken: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        request = body(next(numbers))
        began = time.perf_counter()
        await caller.post(path, request)
        taken.append((time.perf_counter() - began) * 1e6)
    return sorted(taken)


async def burst_runs(server: Server, name: str) -> int:
    """Runs of the model for so many equal requests at once."""
    callers = [await connect(server) for _ in range(_BURST)]
    body = bodies(name)(-1)
    before = await _runs(server, name)
    await asyncio.gather(*(caller.post(f"/v2/models/{name}/infer", body) for caller in callers))
    return await _runs(server, name) - before


async def _runs(server: Server, name: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /v2/models/{name}/stats HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    content = (await reader.read()).split(b"\r\n\r\n", 1)[1]
    writer.close()
    return int(json.loads(content)["model_stats"][0]["execution_count"])


async def measure(name: str, with_cache: Server, without: Server, seconds: float) -> bool:
    """Print what was measured; whether the bars are met."""
    fresh = itertools.count()
    medians: dict[str, float] = {}
    for kind, server, numbers in (
        ("plain", without, itertools.count()),
        ("miss", with_cache, fresh),
        ("hit", with_cache, itertools.repeat(0)),
    ):
        taken = await latencies_us(server, name, numbers, seconds)
        medians[kind] = percentile(taken, 0.5)
        print(f"{name:8} {kind:6} median {medians[kind]:9.1f} us  p99 {percentile(taken, 0.99):9.1f}  ({len(taken)})")
    runs = await burst_runs(with_cache, name)
    print(f"{name:8} {_BURST} equal requests at once: {runs} run(s)")
    hit_is_cheap = medians["hit"] <= HIT_SHARE * medians["miss"]
    miss_is_cheap = medians["miss"] <= MISS_OVERHEAD * medians["plain"]
    return hit_is_cheap and miss_is_cheap and runs == 1


def main() -> int:
    """Measure, print, and say by the exit status whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--model", choices=["minilm", "magika"], default="minilm")
    options = parser.parse_args()
    with cached(options.model) as with_cache, taxiway([options.model], {0}) as without:
        verdict = uvloop.run(measure(options.model, with_cache, without, options.seconds))
    print(f"a hit at most {HIT_SHARE:g} of a miss, a miss at most {MISS_OVERHEAD:g} of a plain one, one run: {verdict}")
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
