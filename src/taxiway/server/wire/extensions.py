"""Triton's extensions that change a running server over HTTP: trace settings and log settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from taxiway.core.errors import MalformedRequest
from taxiway.server.administration import Administration
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Exchange


class SettingsEndpoints:
    """GET and POST of /v2/trace/setting, /v2/models/{model}/trace/setting and /v2/logging."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def trace_settings(self, exchange: Exchange) -> None:
        """What is traced, of one model or of those without settings of their own."""
        exchange.reply(200, orjson.dumps(self._administration.trace_settings(_model(exchange))))

    def change_trace_settings(self, exchange: Exchange) -> None:
        """Change what is traced; null takes an earlier change back."""
        model = _model(exchange)
        self._administration.check_traced(model)
        words = read_trace_words(exchange.body)
        exchange.reply_with(self._change_trace_settings(model, words))

    async def _change_trace_settings(self, model: str | None, words: Mapping[str, Sequence[str] | None]) -> bytes:
        return orjson.dumps(await self._administration.change_trace_settings(model, words))

    def log_settings(self, exchange: Exchange) -> None:
        """What is logged."""
        exchange.reply(200, orjson.dumps(self._administration.log_settings()))

    def change_log_settings(self, exchange: Exchange) -> None:
        """Change what is logged."""
        exchange.reply_with(self._change_log_settings(_object(exchange.body)))

    async def _change_log_settings(self, words: Mapping[str, Any]) -> bytes:
        return orjson.dumps(await self._administration.change_log_settings(words))


def read_trace_words(body: Any) -> dict[str, Sequence[str] | None]:  # noqa: ANN401 - a buffer
    """A change of trace settings as JSON: every value a string, levels an array of them.

    Raises:
        MalformedJson, MalformedRequest: it is not that.
    """
    words: dict[str, Sequence[str] | None] = {}
    for key, value in _object(body).items():
        if value is None or key == "trace_file":
            words[key] = None
        elif key == "trace_level":
            if value.__class__ is not list or not all(level.__class__ is str for level in value):
                raise MalformedRequest(f"'{key}' is {str(value)[:40]}; it must be an array of strings")
            if value:
                words[key] = value
        elif value.__class__ is not str:
            raise MalformedRequest(f"'{key}' is {str(value)[:40]}; it must be a string")
        else:
            words[key] = [value]
    return words


def _model(exchange: Exchange) -> str | None:
    return exchange.head.match.params.get("model")


def _object(body: Any) -> dict[str, Any]:  # noqa: ANN401
    document = parse_json(body)
    if document.__class__ is not dict:
        raise MalformedRequest("the settings must be a JSON object")
    return dict(document)
