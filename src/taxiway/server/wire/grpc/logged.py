"""A line of the access log for each gRPC call; a stream leaves one when it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import Any, Final, TypeAlias

import grpc

from taxiway.server.access import AccessLog
from taxiway.server.guard import Guard
from taxiway.server.wire.grpc.calls import authorization_of, header_of, shown_peer
from taxiway.server.wire.grpc.protos import INFERENCE

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
_MODEL_FIRST: Final = f"/{INFERENCE}/Model"
"""Messages of the methods that begin so begin with the model's name, their field 1."""


class LoggedTable(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in its annotations only
    """Stands before another table, and behind each of its handlers."""

    def __init__(self, table: grpc.GenericRpcHandler[Any, Any], log: CallLog) -> None:
        self._table = table
        self._log = log

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The method's handler, and the line behind it."""
        handler: Any = self._table.service(handler_call_details)
        path = handler_call_details.method
        if handler is None:
            return None
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._logged(path, handler.unary_unary))
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._logged(path, handler.unary_stream))
        return grpc.stream_stream_rpc_method_handler(self._logged(path, handler.stream_stream))

    def _logged(self, path: str, behavior: Behavior) -> Any:  # noqa: ANN401 - grpc's annotations know no coroutines
        async def behave(asked: Any, context: Any) -> Any:  # noqa: ANN401 - bytes, or a stream of them
            line = _Line(path, asked, monotonic_ns())
            try:
                line.answer = await behavior(asked, context)
            except BaseException:
                line.status = _status_of(context)
                raise
            finally:
                self._log.tell(line, context)
            return line.answer

        return behave


class CallLog:
    """Words a gRPC call as a line of the access log; `guard` knows whose key it came with."""

    def __init__(self, access: AccessLog, guard: Guard | None) -> None:
        self._access = access
        self._guard = guard

    def tell(self, line: _Line, context: Any) -> None:  # noqa: ANN401
        """A call has ended."""
        body = line.asked if isinstance(line.asked, bytes) else b""
        self._access.tell(
            line.arrived_ns,
            header_of(context, "traceparent") or "",
            peer=shown_peer(context.peer()),
            caller=self._caller_of(context),
            method="gRPC",
            path=line.path,
            status=line.status.value[0],
            bytes_in=len(body),
            bytes_out=len(line.answer) if isinstance(line.answer, bytes) else 0,
            model=_first_text(body) if line.path.startswith(_MODEL_FIRST) else "",
            request_id=header_of(context, "x-request-id") or "",
        )

    def _caller_of(self, context: Any) -> str:  # noqa: ANN401
        authorization = None if self._guard is None else authorization_of(context)
        if self._guard is not None and authorization:
            caller = self._guard.keyring.find(authorization.partition(" ")[2].strip())
            if caller is not None:
                return caller.name
        (name, *_) = context.auth_context().get("x509_common_name") or (b"",)
        return str(name, "utf-8", "replace")


class _Line:
    """What is known of one call."""

    def __init__(self, path: str, asked: object, arrived_ns: int) -> None:
        self.path = path
        self.asked = asked
        self.arrived_ns = arrived_ns
        self.answer: object = None
        self.status = grpc.StatusCode.OK


def _status_of(context: Any) -> grpc.StatusCode:  # noqa: ANN401
    """How a call ended that did not end well: by the status it was aborted with, or because nobody waited any more."""
    code = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    known: dict[object, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}
    return known.get(number, grpc.StatusCode.UNKNOWN) if number else grpc.StatusCode.CANCELLED


def _first_text(body: bytes) -> str:
    """Field 1 of a message, if that is what it begins with and it is a short text."""
    if len(body) < 2 or body[0] != 0x0A or body[1] > 0x7F:
        return ""
    return body[2 : 2 + body[1]].decode("utf-8", "replace")
