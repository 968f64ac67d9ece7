"""The way of a request to one version, whatever protocol brought it: counted in, handed over, counted out."""

from __future__ import annotations

from taxiway.core.errors import Overloaded, Unavailable
from taxiway.core.requests import InferRequest
from taxiway.server.admission import Admission
from taxiway.server.models.served import ServedModel


class Entrance:
    """Takes requests in for one version.

    Each request that `submit` took ends in exactly one of: its responder is called, and then calls `leave`; or
    whoever submitted it calls `abandon`.
    """

    def __init__(self, served: ServedModel, admission: Admission) -> None:
        self._admission = admission
        self._statistics = served.statistics
        self._submit = served.front.submit
        self._cancel = served.front.cancel
        self.leave = admission.leave
        """The responder was called: the request counts no longer."""

    def submit(self, request: InferRequest) -> None:
        """Hand a request over. What it is answered may come before this returns.

        Raises:
            TaxiwayError: it is refused, and counted nowhere but in the statistics.
        """
        try:
            self._admission.enter()
        except Unavailable:
            self._statistics.failed("unavailable")
            raise
        except Overloaded:
            self._statistics.failed("queue_full")
            raise
        try:
            self._submit(request)
        except Exception:
            self._admission.leave()
            raise

    def abandon(self, request: InferRequest) -> None:
        """Take a request back, its client has gone: still queued, it costs no execution."""
        self._cancel(request)
        self._admission.leave()
