"""Feedback for answers: labels and ratings, which meet their answers in the control process by the request's id."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from taxiway.core.errors import MalformedRequest, TooLarge, ValueOutOfRange
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Exchange

MAX_AT_ONCE: Final = 1000
_MAX_VALUE_BYTES: Final = 4096
_KINDS: Final = ("rating", "label", "value")
AskControl = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Has the control process do something; raises Unavailable where there is none."""


class FeedbackEndpoint:
    """POST /v2/models/{model}[/versions/{version}]/feedback: 200 only when it is stored."""

    def __init__(self, ask: AskControl) -> None:
        self._ask = ask

    def __call__(self, exchange: Exchange) -> None:
        """Take in what somebody says of answers."""
        model = exchange.head.match.params["model"]
        told = read_feedback(exchange.body)
        exchange.reply_with(self._give(model, told))

    async def _give(self, model: str, told: list[dict[str, Any]]) -> bytes:
        answer = await self._ask("feedback", {"service": model, "feedback": told, "at_ns": time.time_ns()})
        return orjson.dumps(answer)


def read_feedback(body: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a buffer
    """One piece of feedback as an object, or several as `{"feedback": [...]}`; each as request, kind and value.

    Raises:
        MalformedJson, MalformedRequest, ValueOutOfRange, TooLarge: it is not that.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise MalformedRequest("feedback must be a JSON object", hint='as {"id": "order-4711", "rating": 1.0}')
    pieces = document.get("feedback", [document])
    if not isinstance(pieces, list) or not pieces:
        raise MalformedRequest("'feedback' must be a list that is not empty", hint='as {"feedback": [{"id": ...}]}')
    if len(pieces) > MAX_AT_ONCE:
        raise TooLarge(f"{len(pieces)} pieces of feedback; one call brings at most {MAX_AT_ONCE}", hint="send several")
    return [_piece(piece, place) for place, piece in enumerate(pieces)]


def _piece(piece: object, place: int) -> dict[str, Any]:
    where = f"feedback[{place}]"
    if not isinstance(piece, dict) or not isinstance(piece.get("id"), str) or not 0 < len(piece["id"]) <= 512:
        raise MalformedRequest(f"{where} needs the request's id, a text of at most 512 characters", hint="give id")
    kinds = [kind for kind in _KINDS if kind in piece]
    unknown = set(piece) - {"id", *_KINDS}
    if len(kinds) != 1 or unknown:
        raise MalformedRequest(
            f"{where} must have id and exactly one of {', '.join(_KINDS)}; it has {', '.join(map(str, piece))}",
            hint='as {"id": "order-4711", "label": 1}',
        )
    kind = kinds[0]
    value = piece[kind]
    if kind == "rating":
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueOutOfRange(f"{where}.rating is {value!r}; it must be a number from 0 to 1", hint="1 is best")
        value = float(value)
    if len(orjson.dumps(value)) > _MAX_VALUE_BYTES:
        raise TooLarge(f"{where}.{kind} is over {_MAX_VALUE_BYTES} bytes of JSON", hint="send what a score needs")
    return {"request": piece["id"], "kind": kind, "value": value}
