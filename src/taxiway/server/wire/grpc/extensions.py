"""Triton's extensions that are off here: traces, the log's settings. Whoever turns one on plugs in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from taxiway.core.errors import Unsupported
from taxiway.server.wire.grpc.protos import Message
from taxiway.server.wire.grpc.unary import Method, Scope


class Extensions:
    """The calls of what is off: each says so."""

    def methods(self) -> Iterator[Method]:
        """All of them, with what each needs."""
        yield Method("TraceSetting", self._no_traces, _read_or_change)
        yield Method("LogSettings", self._no_log_settings, _read_or_change)

    def _no_traces(self, _: Message) -> NoReturn:
        raise Unsupported("traces cannot be set over the network")

    def _no_log_settings(self, _: Message) -> NoReturn:
        raise Unsupported("the log cannot be set over the network", hint="start the server with other --log.* settings")


def _read_or_change(message: Message) -> Scope:
    return "admin" if message.settings else "read"
