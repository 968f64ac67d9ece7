"""One line of the log for each request, whatever protocol it came by: who asked what, and how it was answered."""

from __future__ import annotations

import logging
from time import monotonic_ns
from typing import Unpack

from taxiway.telemetry.log_fields import LogFields
from taxiway.telemetry.logs import ACCESS_LOGGER, Log

_log = Log(ACCESS_LOGGER)
_MAX_ID_CHARS = 128


class AccessLog:
    """Writes the lines; there is one of these only if `log.access` asks for it."""

    def __init__(self) -> None:
        logging.getLogger(ACCESS_LOGGER).setLevel(
            logging.INFO
        )  # whoever asks for them gets them, whatever log.level is

    def tell(self, arrived_ns: int, **fields: Unpack[LogFields]) -> None:
        """A request that arrived then (monotonic) is answered now. Fields that say nothing are left out."""
        fields["duration_ms"] = round((monotonic_ns() - arrived_ns) / 1e6, 3)
        if "request_id" in fields:
            fields["request_id"] = fields["request_id"][:_MAX_ID_CHARS]
        said: LogFields = {name: value for name, value in fields.items() if value != ""}  # type: ignore[assignment]
        _log.info("request", **said)
