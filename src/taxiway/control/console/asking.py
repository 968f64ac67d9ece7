"""What is common to the console's routes: parameters that are checked, answers in JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from taxiway.core.errors import InvalidArgument


def number(request: Request, name: str, default: float, least: float, most: float) -> float:
    """A parameter that is a number.

    Raises:
        InvalidArgument: it is none, or out of its bounds.
    """
    said = request.query_params.get(name, "")
    if not said:
        return default
    try:
        value = float(said)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidArgument(
            f"{name} = {said[:40]!r}: must be a number from {least:g} to {most:g}", hint=f"as {default:g}"
        )
    return value


def answer(told: Mapping[str, Any]) -> Response:
    """In JSON; numbers that are not finite are null."""
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return Response(orjson.dumps(told, option=option, default=str), media_type="application/json", headers=_FRESH)


def ms(at: dt.datetime) -> int:
    """UTC milliseconds."""
    return round(at.timestamp() * 1000)


_FRESH = {"Cache-Control": "no-store"}
