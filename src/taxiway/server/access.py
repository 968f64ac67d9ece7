"""One line of the log for each request, whatever protocol it came by: who asked what, and how it was answered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import random
from time import monotonic_ns
from typing import Unpack

from taxiway.server.tracing.context import read_parent
from taxiway.telemetry.log_fields import LogFields
from taxiway.telemetry.logs import ACCESS_LOGGER, Log

_log = Log(ACCESS_LOGGER)
_MAX_ID_CHARS = 128


class AccessLog:
    """Writes the lines; there is one of these only if `log.access` asks for it.

    Args:
        share: of the requests that went well and fast, of which there is a line; the others have one each.
        slow_ms: what is slow.
        chance: a number from [0, 1).
    """

    def __init__(self, share: float = 1.0, slow_ms: float = 1000.0, chance: Callable[[], float] = random) -> None:
        self._share = share
        self._slow_ms = slow_ms
        self._chance = chance
        logging.getLogger(ACCESS_LOGGER).setLevel(
            logging.INFO
        )  # whoever asks for them gets them, whatever log.level is

    def tell(self, arrived_ns: int, traceparent: str = "", **fields: Unpack[LogFields]) -> None:
        """A request that arrived then (monotonic) is answered now. Fields that say nothing are left out.

        Args:
            arrived_ns: see above.
            traceparent: its header of W3C Trace Context, if it had one.
            fields: of the line.
        """
        fields["duration_ms"] = round((monotonic_ns() - arrived_ns) / 1e6, 3)
        if self._passes_over(fields):
            return
        if "request_id" in fields:
            fields["request_id"] = fields["request_id"][:_MAX_ID_CHARS]
        parent = read_parent({"traceparent": traceparent}) if traceparent else None
        if parent is not None:
            fields["trace_id"] = f"{parent.trace_id:032x}"
        said: LogFields = {name: value for name, value in fields.items() if value != ""}  # type: ignore[assignment]
        _log.info("request", **said)

    def _passes_over(self, fields: LogFields) -> bool:
        """One that went well, and fast, unless it is one of those chosen by chance."""
        if self._share >= 1 or fields["duration_ms"] >= self._slow_ms:
            return False
        return _went_well(fields.get("status", 0)) and self._chance() >= self._share


def _went_well(status: int) -> bool:
    """By HTTP's numbers from 100 on, or gRPC's below."""
    return status == 0 or 100 <= status < 400
