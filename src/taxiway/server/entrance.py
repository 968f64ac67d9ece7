"""The way of a request to one version, whatever protocol brought it: counted in, handed over, counted out."""

from __future__ import annotations

from taxiway.core.errors import Overloaded, TaxiwayError, Unavailable
from taxiway.core.requests import InferRequest
from taxiway.server.admission import Admission
from taxiway.server.models.served import ServedModel
from taxiway.server.tracing.trace import NOWHERE, Origin
from taxiway.server.tracing.tracer import Originate


class Entrance:
    """Takes requests in for one version.

    Each request that `submit` took ends in exactly one of: its responder is called, and then calls `leave`; or
    whoever submitted it calls `abandon`.

    Args:
        originate: tells how a request came in, for its trace.
    """

    def __init__(self, served: ServedModel, admission: Admission, originate: Originate | None = None) -> None:
        self._admission = admission
        self._statistics = served.statistics
        self._take = self._submit = served.front.submit
        self._traces = served.traces
        self._originate = originate or _nowhere
        served.traces.follow(self._trace)
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
        if request.trace is not None:
            request.trace.cancel()

    def withdraw(self, request: InferRequest, error: TaxiwayError) -> None:
        """Take a request back while it runs; whoever calls this tells its caller `error`, and counts it out."""
        self._cancel(request)
        if request.trace is not None:
            request.trace.refuse(error)

    def _trace(self, wanted: bool) -> None:
        self._submit = self._submit_traced if wanted else self._take

    def _submit_traced(self, request: InferRequest) -> None:
        trace = self._traces.begin(request, self._originate)
        try:
            self._take(request)
        except TaxiwayError as error:
            if trace is not None:
                trace.refuse(error)
            raise


def _nowhere(_request: InferRequest) -> Origin:
    return NOWHERE
