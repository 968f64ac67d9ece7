"""Tensors in shared memory: real Triton and taxiway read the same bytes, write the same bytes, and refuse the same."""

from __future__ import annotations

import dataclasses
import json
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from tests.oracle.compare import Difference, Exchange, differences
from tests.oracle.deviations import Deviation, declared
from tests.oracle.replies import Call, CallExchange, call_of, exchanges
from tests.oracle.requests import Request
from tests.oracle.servers import Pair

SIZE: Final = 8192
"""Bytes of each file; one is registered as a whole, of the other the first 32."""
NUMBERS: Final = struct.pack("<8f", *range(1, 9))

Asked = Request | Call
AskedT = TypeVar("AskedT", Request, Call)


class Files:
    """Two files in shared memory, one for each region: real Triton registers no file twice."""

    def __init__(self) -> None:
        self._paths = [Path("/dev/shm") / f"taxiway_oracle_{uuid.uuid4().hex[:12]}" for _ in range(2)]  # noqa: S108
        self.keys = tuple(f"/{path.name}" for path in self._paths)

    def fill(self) -> None:
        """Let both hold eight numbers, and nothing behind them."""
        for path in self._paths:
            path.write_bytes(NUMBERS + bytes(SIZE - len(NUMBERS)))

    def content(self) -> bytes:
        """What both hold."""
        return b"".join(path.read_bytes() for path in self._paths)

    def remove(self) -> None:
        """Take them away."""
        for path in self._paths:
            path.unlink()


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    made.fill()
    yield made
    made.remove()


def _http(verb: str, region: str = "", **body: Any) -> Request:
    named = f"/region/{region}" if region else ""
    sent = json.dumps(body).encode() if body else b""
    return Request("GET" if verb == "status" else "POST", f"/v2/systemsharedmemory{named}/{verb}", body=sent)


def _place(region: str, size: int, offset: int = 0) -> dict[str, Any]:
    placed: dict[str, Any] = {"shared_memory_region": region, "shared_memory_byte_size": size}
    return placed | ({"shared_memory_offset": offset} if offset else {})


def _infer(inputs: tuple[dict[str, Any], dict[str, Any]], *outputs: dict[str, Any]) -> Request:
    """add_sub over HTTP, its inputs where they are said to be."""
    tensors = [
        {"name": f"INPUT{index}", "shape": [1, 4], "datatype": "FP32", "parameters": place}
        for index, place in enumerate(inputs)
    ]
    wanted = [{"name": f"OUTPUT{index}", "parameters": place} for index, place in enumerate(outputs)]
    document = {"inputs": tensors} | ({"outputs": wanted} if wanted else {})
    return Request("POST", "/v2/models/add_sub/infer", body=json.dumps(document).encode())


def _parameters(place: dict[str, Any]) -> str:
    kinds = {str: "string_param", int: "int64_param"}
    return "".join(
        f"parameters {{ key: {json.dumps(key)} value {{ {kinds[type(value)]}: {json.dumps(value)} }} }} "
        for key, value in place.items()
    )


def _call(inputs: tuple[dict[str, Any], dict[str, Any]], *outputs: dict[str, Any]) -> Call:
    """The same over gRPC."""
    tensors = [
        f'inputs {{ name: "INPUT{index}" datatype: "FP32" shape: [1, 4] {_parameters(place)}}}'
        for index, place in enumerate(inputs)
    ]
    wanted = [f'outputs {{ name: "OUTPUT{index}" {_parameters(place)}}}' for index, place in enumerate(outputs)]
    return call_of("ModelInfer", " ".join(['model_name: "add_sub"', *tensors, *wanted]))


def _asked(key: str, other: str) -> Iterator[Asked]:
    """A story of regions: registered, used rightly and wrongly, and taken back.

    None begins behind the start of its file: real Triton adds that offset twice, and so reads and writes elsewhere.
    """
    halves = _place("r", 16), _place("r", 16, 16)
    yield from (_infer(halves), _call(halves))
    yield _http("register", "r", key=key, byte_size=SIZE)
    yield from (
        _http("register", "r", key=key, byte_size=SIZE),
        _http("register", "big", key=other, byte_size=SIZE + 1),
    )
    yield from (_http("register", "late", key=other, byte_size=1, offset=SIZE), _http("status"), _http("status", "r"))
    yield call_of("SystemSharedMemoryRegister", f'name: "r" key: "{key}" byte_size: 4')
    yield call_of("SystemSharedMemoryRegister", f'name: "tail" key: "{other}" byte_size: 32')
    yield from (call_of("SystemSharedMemoryStatus", ""), call_of("SystemSharedMemoryStatus", 'name: "tail"'))
    for form in (_infer, _call):
        yield form(halves)
        yield form(halves, _place("r", 16, 32), _place("r", 16, 48))
        yield form(halves, _place("tail", 16, 16), _place("tail", 16))
        yield form(halves, _place("tail", 16, 16))
        yield form(halves, _place("tail", 8))
        yield form(halves, _place("tail", 64))
        yield form(halves, _place("tail", 16, 24))
        yield form((_place("r", 16), _place("r", 8)))
        yield form((_place("r", 16), _place("r", 16, SIZE - 8)))
        yield form((_place("r", 16), _place("r", 16, SIZE)))
        yield form((_place("r", 16), _place("nope", 16)))
    yield call_of("SystemSharedMemoryUnregister", 'name: "tail"')
    yield from (_call(halves, _place("tail", 16)), _http("unregister", "nope"), _http("unregister", "r"))
    yield from (_infer(halves), _http("status"), _http("unregister"), call_of("SystemSharedMemoryStatus", ""))


def test_regions_are_used_alike(pair: Pair, files: Files, deviations: tuple[Deviation, ...], report: list[str]) -> None:
    count, left_over = 0, []
    for asked in _asked(*files.keys):
        exchange = _put(asked, pair, files)
        count += 1
        if exchange.differences and not declared(exchange, deviations):
            left_over.append(exchange.described())

    report.append(f"oracle: {count} questions about regions of shared memory compared, {len(left_over)} undeclared")
    assert not left_over, "\n\n".join(left_over)


def _put(asked: Asked, pair: Pair, files: Files) -> Exchange | CallExchange:
    """Ask both, each with the same bytes in the region; what it holds afterwards is part of the answer."""
    triton, other = pair.sides
    if isinstance(asked, Request):
        answer, held = triton.ask(_fresh(asked, files)), files.content()
        theirs = other.ask(_fresh(asked, files))
        found = (*differences(asked, answer, theirs), *_content(held, files.content()))
        return Exchange(asked, answer, theirs, found)
    reply, held = triton.call(_fresh(asked, files)), files.content()
    (exchange,) = exchanges(asked, reply, other.call(_fresh(asked, files)))
    return dataclasses.replace(exchange, differences=(*exchange.differences, *_content(held, files.content())))


def _fresh(asked: AskedT, files: Files) -> AskedT:
    """The same, once the region holds what it held at first."""
    files.fill()
    return asked


def _content(triton: bytes, taxiway: bytes) -> Iterator[Difference]:
    if triton != taxiway:
        yield Difference("region", "region", triton, taxiway)
