"""The registry's nouns as JSON can hold them, for scripts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

from taxiway.registry.canonical import time_text


def to_plain(value: object) -> Any:  # noqa: ANN401 - JSON is anything
    """Fields by their names, times in ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    return time_text(value) if isinstance(value, dt.datetime) else value
