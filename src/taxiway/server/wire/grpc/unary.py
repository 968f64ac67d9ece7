"""Calls of one request and one answer that are not inference: parsed, let pass, worked out, answered or failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

import grpc

from taxiway.server.wire.grpc.calls import Calls, Context, Guard, authorization_of, parse
from taxiway.server.wire.grpc.protos import Message, request_class

Scope = Literal["", "infer", "read", "admin"]
"""What a caller needs to be allowed; nothing where everybody may."""
Work = Callable[[Message], Message | Awaitable[Message]]


class Method(NamedTuple):
    """One method of a service.

    Attributes:
        scope: what a caller needs, by the request: reading settings and changing them is one method.
    """

    name: str
    work: Work
    scope: Callable[[Message], Scope]


def unary_handler(service: str, method: Method, calls: Calls, guard: Guard | None) -> grpc.RpcMethodHandler[Any, Any]:
    """What grpcio calls with the bytes of each request, to get the bytes of its answer."""
    name, work, scope_of = method
    kind = request_class(service, name)

    async def handle(body: bytes, context: Context) -> bytes:
        message: Message = None
        try:
            message = parse(kind, body)
            if guard is not None and (scope := scope_of(message)):
                guard.check(authorization_of(context), scope, _model_of(message))
            answer = work(message)
            if isinstance(answer, Awaitable):
                answer = await answer
            told = bytes(answer.SerializeToString())
        except asyncio.CancelledError:
            calls.statistics.ended(name, "CANCELLED")
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: every call ends with a status
            await calls.fail(context, name, problem, _model_of(message) or "")
        calls.statistics.ended(name, "OK")
        return told

    return grpc.unary_unary_rpc_method_handler(handle)


def always(scope: Scope) -> Callable[[Message], Scope]:
    """A method that needs the same whatever it is asked."""
    return lambda _: scope


def _model_of(message: Message) -> str | None:
    """The model that a request is about, if it is about one."""
    names = () if message is None else message.DESCRIPTOR.fields_by_name
    field = "model_name" if "model_name" in names else "name"
    regions = message is not None and "SharedMemory" in message.DESCRIPTOR.name
    return getattr(message, field) or None if field in names and not regions else None
