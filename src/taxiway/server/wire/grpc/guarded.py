"""Turns away who has no key before the message is read; what a key reaches is asked by the method itself."""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeAlias, cast

import grpc

from taxiway.core.errors import TaxiwayError
from taxiway.server.guard import ANY
from taxiway.server.wire.grpc.calls import Calls, Context, authorization_of
from taxiway.server.wire.grpc.protos import INFERENCE

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_PROBES: Final = frozenset(f"/{INFERENCE}/{name}" for name in ("ServerLive", "ServerReady", "ModelReady"))


class Checks(Protocol):
    """Whoever decides who may call: `server.guard.Guard`."""

    def check(self, authorization: str | None, scope: str, model: str | None) -> object:
        """Raises Unauthenticated or PermissionDenied."""


class GuardedTable(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in its annotations only
    """Stands before another table. Health, reflection, liveness and readiness need no key."""

    def __init__(self, table: grpc.GenericRpcHandler[Any, Any], guard: Checks, calls: Calls) -> None:
        self._table = table
        self._guard = guard
        self._calls = calls

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The method's handler, or one that refuses."""
        handler = self._table.service(handler_call_details)
        path = handler_call_details.method
        if handler is None or path in _PROBES or not path.startswith(f"/{INFERENCE}/"):
            return handler
        try:
            self._guard.check(authorization_of(cast("Context", _Headers(handler_call_details))), ANY, None)
        except TaxiwayError as refusal:
            return self._refusing(path.rpartition("/")[2], refusal)
        return handler

    def _refusing(self, name: str, refusal: TaxiwayError) -> Handler:
        """A stream, whatever the method is: grpcio reads what streams are sent only when they ask."""

        async def refuse(_messages: object, context: Context) -> None:
            await self._calls.fail(context, name, refusal)

        return grpc.stream_stream_rpc_method_handler(refuse)


class _Headers:
    """The headers of a call that has no context yet."""

    def __init__(self, details: grpc.HandlerCallDetails) -> None:
        self._metadata = details.invocation_metadata

    def invocation_metadata(self) -> Any:  # noqa: ANN401 - as a context's
        """The caller's headers."""
        return self._metadata
