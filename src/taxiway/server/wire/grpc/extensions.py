"""Triton's extensions that change a running server over gRPC: trace settings and log settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taxiway.core.errors import MalformedRequest
from taxiway.server.administration import Administration
from taxiway.server.wire.grpc.protos import Message, message_class
from taxiway.server.wire.grpc.unary import Method, Scope

_Traced = message_class("inference.TraceSettingResponse")
_Logged = message_class("inference.LogSettingsResponse")


class Extensions:
    """The calls of all of them."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def methods(self) -> Iterator[Method]:
        """All of them, with what each needs."""
        yield Method("TraceSetting", self._trace_settings, _read_or_change)
        yield Method("LogSettings", self._log_settings, _read_or_change)

    async def _trace_settings(self, message: Message) -> Message:
        model = message.model_name or None
        if message.settings:
            words = {key: list(setting.value) or None for key, setting in message.settings.items()}
            told = await self._administration.change_trace_settings(model, words)
        else:
            told = self._administration.trace_settings(model)
        response = _Traced()
        for key, value in told.items():
            response.settings[key].value.extend([value] if isinstance(value, str) else value)
        return response

    async def _log_settings(self, message: Message) -> Message:
        if message.settings:
            told = await self._administration.change_log_settings(_log_words(message.settings))
        else:
            told = self._administration.log_settings()
        response = _Logged()
        for key, value in told.items():
            kind = "bool" if isinstance(value, bool) else "uint32" if isinstance(value, int) else "string"
            setattr(response.settings[key], f"{kind}_param", value)
        return response


def _log_words(settings: Mapping[str, Message]) -> dict[str, Any]:
    words: dict[str, Any] = {}
    for key, setting in settings.items():
        kind = setting.WhichOneof("parameter_choice")
        if kind is None:
            raise MalformedRequest(f"log setting '{key}' has no value")
        words[key] = getattr(setting, kind)
    return words


def _read_or_change(message: Message) -> Scope:
    return "admin" if message.settings else "read"
