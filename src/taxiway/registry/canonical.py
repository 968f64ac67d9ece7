"""JSON with one spelling, so that equal values have equal digests; and times and words as they are stored."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any

from taxiway.core.errors import InvalidArgument

MAX_TEXT = 4096
"""Characters of a reason, an actor or a tag."""

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def canonical_json(value: object) -> str:
    """Sorted keys, no spaces, ASCII only, no NaN: the same text on every machine and in every database.

    Raises:
        InvalidArgument: JSON cannot hold `value`.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"a value cannot be kept as JSON: {error}", value=repr(value)[:200]) from None


def read_json(text: str) -> Any:  # noqa: ANN401 - JSON is anything
    """What `canonical_json` wrote."""
    return json.loads(text)


def digest_of(text: str) -> str:
    """`sha256:<hex>` of a text in UTF-8."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def time_text(when: dt.datetime) -> str:
    """UTC with microseconds in a fixed width: texts sort as times do, in every database.

    Raises:
        InvalidArgument: `when` has no time zone, so that nobody could say which moment it is.
    """
    if when.tzinfo is None:
        raise InvalidArgument(f"time {when.isoformat()} has no time zone", hint="write it as 2026-01-31T12:00:00Z")
    return when.astimezone(dt.UTC).strftime(_TIME)


def read_time(text: str) -> dt.datetime:
    """What `time_text` wrote."""
    return dt.datetime.fromisoformat(text)


def checked_text(field: str, value: str, *, at_most: int = MAX_TEXT, empty: bool = False) -> str:
    """`value`, if every database can hold it.

    Raises:
        InvalidArgument: it is empty, too long, or holds NUL or half a surrogate pair.
    """
    rule = ""
    if not (value.strip() or empty):
        rule = "must not be empty"
    elif len(value) > at_most:
        rule = f"must be at most {at_most} characters, not {len(value)}"
    elif "\0" in value or (not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)):
        rule = "must be text without NUL and without lone surrogates"
    if rule:
        raise InvalidArgument(f"{field} = {value[:80]!r}: {rule}", field=field)
    return value
