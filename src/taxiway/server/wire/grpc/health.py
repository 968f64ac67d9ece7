"""grpc.health.v1: whether the server and each of its models may be sent requests, now and whenever that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from taxiway.core.errors import NotFound, Overloaded, TaxiwayError
from taxiway.server.administration import Administration
from taxiway.server.wire.grpc.calls import Calls, Context, parse
from taxiway.server.wire.grpc.protos import HEALTH, INFERENCE, Message, message_class, request_class
from taxiway.server.wire.status import TRITON, Profile

_Request = request_class(HEALTH, "Check")
_Response = message_class("grpc.health.v1.HealthCheckResponse")
_SERVING: Final = _Response.SERVING
_NOT_SERVING: Final = _Response.NOT_SERVING
_UNKNOWN: Final = _Response.SERVICE_UNKNOWN


class HealthService:
    """Answers Check and Watch.

    Args:
        max_watchers: calls of Watch that may be open.
    """

    def __init__(self, administration: Administration, calls: Calls, profile: Profile, max_watchers: int) -> None:
        self._administration = administration
        self._calls = calls
        self._any_service = profile is TRITON
        """Triton tells of the server whatever service is named."""
        self._max_watchers = max_watchers
        self._watchers: set[asyncio.Event] = set()
        self._closing = False
        self._unsubscribe: Callable[[], None] = administration.on_readiness(self._changed)

    def check(self, message: Message) -> Message:
        """The status now.

        Raises:
            NotFound: no such service.
        """
        status = self._status(message.service)
        if status == _UNKNOWN:
            raise NotFound(
                f"service '{message.service[:200]}' is not served here",
                hint="services are '', MODEL and MODEL/VERSION",
            )
        return _Response(status=status)

    async def watch(self, body: bytes, context: Context) -> None:
        """The status now, and again after every change, until the client or the server ends it."""
        try:
            service = parse(_Request, body).service
            await self._tell(service, context)
        except asyncio.CancelledError:
            self._calls.statistics.ended("Watch", "CANCELLED")
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: every call ends with a status
            await self._calls.fail(context, "Watch", problem)
        self._calls.statistics.ended("Watch", "OK")

    async def _tell(self, service: str, context: Context) -> None:
        if len(self._watchers) >= self._max_watchers:
            raise _too_many(self._max_watchers)
        changed = asyncio.Event()
        self._watchers.add(changed)
        told: Any = None
        try:
            while True:
                status = self._status(service)
                if status != told:
                    await context.write(_Response(status=status).SerializeToString())
                    told = status
                    continue  # it may have changed while this was written
                if self._closing:
                    return
                await changed.wait()
                changed.clear()
        finally:
            self._watchers.discard(changed)

    def close(self) -> None:
        """Tell every watcher that nothing is served any more, and end."""
        self._closing = True
        self._unsubscribe()
        self._changed()

    def _changed(self) -> None:
        for changed in self._watchers:
            changed.set()

    def _status(self, service: str) -> Any:  # noqa: ANN401 - a number of the enum
        if self._closing:
            return _NOT_SERVING
        if not service or service == INFERENCE or self._any_service:
            return _SERVING if self._administration.is_ready() else _NOT_SERVING
        name, slash, version = service.rpartition("/")
        try:
            if slash and version.isascii() and version.isdigit():
                ready = self._administration.is_model_ready(name, version)
            else:
                ready = self._administration.is_model_ready(service, None)
        except TaxiwayError:  # no such model, or no such version of it: not yet, or, while the server stops, any more
            return _UNKNOWN if self._administration.is_accepting() else _NOT_SERVING
        return _SERVING if ready else _NOT_SERVING


def _too_many(limit: int) -> Overloaded:
    return Overloaded(
        f"{limit} calls watch already; limits.max_connections allows no more",
        hint="call Check now and then instead",
        limit="limits.max_connections",
    )
