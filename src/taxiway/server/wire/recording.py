"""Recording a workload over HTTP: begin, fetch what was kept since, end."""

from __future__ import annotations

import base64
from typing import Final

import orjson

from taxiway.core.errors import MalformedRequest, ValueOutOfRange
from taxiway.core.tensors import Datatype
from taxiway.server.recording import RecordingDesk
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.routes import Route

MOST: Final = 1_000_000
"""Requests of one recording."""


class RecordingEndpoints:
    """POST /v2/models/{model}/recording and .../fetch and .../end, for whoever may administer the model."""

    def __init__(self, desk: RecordingDesk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """All of them."""
        path = "/v2/models/{model}/recording"
        return [
            Route("POST", path, self.begin, "Keep a share of the requests to come"),
            Route("POST", f"{path}/fetch", self.fetch, "What was kept since it was last asked"),
            Route("POST", f"{path}/end", self.end, "Keep no more"),
        ]

    def begin(self, exchange: Exchange) -> None:
        """Record `share` of the requests, `most` of them, and `with_inputs` their content."""
        document = parse_json(exchange.body)
        if document.__class__ is not dict:
            raise MalformedRequest("a recording is begun with an object", hint='as {"share": 0.1, "most": 10000}')
        share, most, with_inputs = (document.get(name) for name in ("share", "most", "with_inputs"))
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueOutOfRange(f"'share' is {str(share)[:40]}; it must be above 0 and at most 1")
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST:
            raise ValueOutOfRange(f"'most' is {str(most)[:40]}; it must be a whole number within 1 and {MOST}")
        if with_inputs not in (None, True, False):
            raise MalformedRequest(f"'with_inputs' is {str(with_inputs)[:40]}; it must be true or false")
        exchange.reply_with(self._begin(_model(exchange), float(share), most, bool(with_inputs)))

    async def _begin(self, model: str, share: float, most: int, with_inputs: bool) -> bytes:
        await self._desk.begin(model, share, most, with_inputs=with_inputs)
        return b""

    def fetch(self, exchange: Exchange) -> None:
        """Requests with `arrived_ns` and tensors, whose `raw` is base64 of little-endian elements, or one per text."""
        exchange.reply_with(self._fetch(_model(exchange)))

    async def _fetch(self, model: str) -> bytes:
        told = await self._desk.fetch(model)
        for request in told["requests"]:
            for tensor in request["inputs"]:
                if "raw" in tensor:
                    tensor["raw"] = _coded(tensor["raw"], tensor["datatype"])
        return orjson.dumps(told)

    def end(self, exchange: Exchange) -> None:
        """Whether or not one runs; with `keep` what is held can still be fetched."""
        document = parse_json(exchange.body) if len(exchange.body) else {}
        keep = document.get("keep") if isinstance(document, dict) else None
        if not isinstance(document, dict) or keep not in (None, True, False):
            raise MalformedRequest("a recording is ended with an object", hint='as {"keep": true}, or an empty body')
        exchange.reply_with(self._end(_model(exchange), bool(keep)))

    async def _end(self, model: str, keep: bool) -> bytes:
        await self._desk.end(model, keep=keep)
        return b""


def _model(exchange: Exchange) -> str:
    return exchange.head.match.params["model"]


def _coded(raw: bytes, datatype: str) -> str | list[str]:
    """In base64: all elements as one, or each text."""
    if datatype != Datatype.BYTES.wire_name:
        return base64.b64encode(raw).decode()
    texts = []
    place = 0
    while place < len(raw):
        start = place + 4
        place = start + int.from_bytes(raw[place:start], "little")
        texts.append(base64.b64encode(raw[start:place]).decode())
    return texts
