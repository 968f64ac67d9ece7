"""Exchanges for models that were unloaded to make room: held as they came, and handed to their endpoint again."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from taxiway.core.errors import ColdModel, TaxiwayError
from taxiway.core.requests import NEVER_NS
from taxiway.server.models.cold import ColdStarts
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.routes import Handler

Hold = Callable[[Handler], Handler]
"""Makes of an endpoint one that knows what to do about a cold model."""
_PEEKED_BYTES = 1 << 20
"""JSON up to this size is looked into for its timeout while the request waits."""


class ColdDoor:
    """Holds exchanges until their model is back.

    Args:
        cold: counts and bounds them, and has the models loaded.
        peeks: whether a request's own `timeout` counts whatever its model says.
    """

    def __init__(self, cold: ColdStarts, *, peeks: bool) -> None:
        self._cold = cold
        self._peeks = peeks

    def __call__(self, handler: Handler) -> Handler:
        """`handler`, called again when the model that it did not find is back."""

        def take(exchange: Exchange) -> None:
            try:
                handler(exchange)
            except ColdModel as cold:
                self._hold(exchange, take, str(cold.facts["model"]))

        return take

    def _hold(self, exchange: Exchange, take: Handler, name: str) -> None:
        """Have it wait.

        Raises:
            TaxiwayError: it cannot be held; nothing is owed to it but this error.
        """
        admission = exchange.connection.front.admission
        nbytes = max(0, len(exchange.body) - exchange.reserved_bytes)  # a small body is not counted yet
        admission.reserve_bytes(nbytes)

        def resume(error: TaxiwayError | None) -> None:
            exchange.on_abandoned = None
            admission.release_bytes(nbytes)
            _go_on(exchange, take, error)

        def drop() -> None:
            admission.release_bytes(nbytes)
            self._cold.drop(held)

        try:
            held = self._cold.hold(name, resume, self._deadline_ns(exchange))
        except TaxiwayError:
            admission.release_bytes(nbytes)
            raise
        exchange.on_abandoned = drop

    def _deadline_ns(self, exchange: Exchange) -> int:
        limits_ns = [exchange.head.timeout_ns] if exchange.head.timeout_ns else []
        if self._peeks and (asked_ns := _peek_timeout_ns(exchange)):
            limits_ns.append(asked_ns)
        return exchange.arrived_ns + min(limits_ns) if limits_ns else NEVER_NS


def _go_on(exchange: Exchange, take: Handler, error: TaxiwayError | None) -> None:
    try:
        if error is None:
            take(exchange)
    except TaxiwayError as refusal:
        error = refusal
    except Exception as problem:  # noqa: BLE001 - the boundary: nobody above would answer this client
        exchange.reply_bug(problem)
    if error is not None:
        exchange.reply_error(error)


def _peek_timeout_ns(exchange: Exchange) -> int:
    """The request's parameter `timeout` in nanoseconds; 0 if it has none that can be read.

    What is wrong with it, the codec will tell once there is one.
    """
    length = exchange.head.json_length
    text = exchange.body if length is None else exchange.body[:length]
    if len(text) > _PEEKED_BYTES:
        return 0
    try:
        timeout_us = orjson.loads(text)["parameters"]["timeout"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return 0
    return timeout_us * 1000 if timeout_us.__class__ is int and timeout_us > 0 else 0
