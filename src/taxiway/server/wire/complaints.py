"""What an operator should know of the errors that callers are told, whatever protocol told them."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic_ns
from typing import Protocol

from taxiway.core.errors import ModelFailed, Overloaded, PermissionDenied, TaxiwayError, Unauthenticated
from taxiway.telemetry.log_fields import LogFields
from taxiway.telemetry.logs import Log

_OVERLOADED_EVERY_NS = 1_000_000_000
"""Refusals must stay cheap: between two lines they are only counted."""


class BugReport(Protocol):
    """Where an unexpected exception goes: the log, with its traceback."""

    def __call__(self, problem: BaseException) -> None:
        """Record it; never raises."""


class Complaints:
    """Logs for one port."""

    def __init__(self, log: Log, report_bug: BugReport) -> None:
        self.report_bug = report_bug
        self._log = log
        self._overloaded = 0
        """Refusals since the last line that told of one."""
        self._overloaded_told_ns = -_OVERLOADED_EVERY_NS

    def note(self, error: TaxiwayError, named: Mapping[str, str | None], peer: str = "") -> None:
        """Log `error` if it is worth a line; `named` holds the model and version that the request named, if any."""
        if isinstance(error, ModelFailed):
            failed: LogFields = {**_asked(named), "code": error.code, "error": error}
            self._log.error("model_failed", **failed)
        elif isinstance(error, Unauthenticated | PermissionDenied):
            refused: LogFields = {**_asked(named), "code": error.code, "reason": error.message, "peer": peer}
            self._log.warning("call_refused", **refused)
        elif isinstance(error, Overloaded) and (limit := error.facts.get("limit")) is not None:
            self._overloaded += 1
            now_ns = monotonic_ns()
            if now_ns - self._overloaded_told_ns < _OVERLOADED_EVERY_NS:
                return
            fields: LogFields = {**_asked(named), "code": error.code, "count": self._overloaded}
            fields["reason"] = error.message
            if isinstance(limit, int | float):
                fields["limit"] = int(limit)
            fields["setting"] = str(error.facts.get("key", limit))
            self._overloaded, self._overloaded_told_ns = 0, now_ns
            self._log.warning("overloaded", **fields)


def _asked(named: Mapping[str, str | None]) -> LogFields:
    return {name: named[name] for name in ("model", "version") if named.get(name)}  # type: ignore[return-value]
