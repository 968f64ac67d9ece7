"""Every method of the gRPC port: which coroutine answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import grpc

from taxiway.config.settings import GrpcSettings, LimitSettings
from taxiway.server.administration import Administration
from taxiway.server.wire.grpc import infer, stream
from taxiway.server.wire.grpc.decoupled import codec_of
from taxiway.server.wire.grpc.guarded import GuardedTable
from taxiway.server.wire.grpc.health import HealthService
from taxiway.server.wire.grpc.infer import Edge, InferEndpoint
from taxiway.server.wire.grpc.logged import CallLog, LoggedTable
from taxiway.server.wire.grpc.management import ManagementService
from taxiway.server.wire.grpc.protos import HEALTH, INFERENCE, REFLECTION, REFLECTION_ALPHA
from taxiway.server.wire.grpc.reflection import ReflectionService
from taxiway.server.wire.grpc.stream import StreamEndpoint
from taxiway.server.wire.grpc.unary import Method, always, unary_handler
from taxiway.server.wire.status import Profile

Table: TypeAlias = "grpc.GenericRpcHandler[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Services:
    """What is served, and what of it must be told when the port closes."""

    def __init__(
        self,
        edge: Edge,
        administration: Administration,
        profile: Profile,
        settings: GrpcSettings,
        limits: LimitSettings,
        log: CallLog | None = None,
    ) -> None:
        calls, guard = edge.calls, edge.guard
        self.infer = InferEndpoint(edge, codec_of)
        self.stream = StreamEndpoint(edge, self.infer, limits.max_pipelined, limits.max_stream_buffer_bytes)
        self.health = HealthService(administration, calls, profile, limits.max_connections)
        inference: dict[str, Handler] = {
            infer.METHOD: grpc.unary_unary_rpc_method_handler(self.infer.infer),
            stream.METHOD: grpc.stream_stream_rpc_method_handler(self.stream.stream),
            **{
                method.name: unary_handler(INFERENCE, method, calls, guard)
                for method in ManagementService(administration, profile).methods()
            },
        }
        check = Method("Check", self.health.check, always(""))
        health: dict[str, Handler] = {
            check.name: unary_handler(HEALTH, check, calls, guard),
            "Watch": grpc.unary_stream_rpc_method_handler(self.health.watch),
        }
        named = {INFERENCE: inference, HEALTH: health}
        if settings.reflection:
            all_names = (*named, REFLECTION, REFLECTION_ALPHA)
            for version in (REFLECTION, REFLECTION_ALPHA):
                reflection = ReflectionService(version, all_names, calls)
                named[version] = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(reflection.info)}
        self.table: Table = HandlerTable(
            {f"/{service}/{name}": handler for service, own in named.items() for name, handler in own.items()}
        )
        if guard is not None:
            self.table = GuardedTable(self.table, guard, calls)
        if log is not None:
            self.table = LoggedTable(self.table, log)


class HandlerTable(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in its annotations only
    """Finds a method's handler by its path."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of this call; None, and the call ends UNIMPLEMENTED, if there is none."""
        return self._handlers.get(handler_call_details.method)
