"""One call and how it ends: its deadline, its request's messages, and errors as gRPC statuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import EOF  # type: ignore[attr-defined] # the annotations lack it

from taxiway.core.errors import InternalError, MalformedRequest, Overloaded, TaxiwayError, Unavailable
from taxiway.core.requests import NEVER_NS
from taxiway.server.totals import GrpcStatistics
from taxiway.server.wire.complaints import Complaints
from taxiway.server.wire.grpc.protos import Message, MessageClass
from taxiway.server.wire.status import Profile

__all__ = [
    "EOF",
    "Calls",
    "Context",
    "Guard",
    "authorization_of",
    "deadline_of",
    "details_of",
    "header_of",
    "parse",
    "shown_peer",
]

Metadata = tuple[tuple[str, str | bytes], ...]

_MAX_DETAILS_CHARS: Final = 2000
"""The status travels in a header block, of which clients take 8 KiB by default."""


class Context(Protocol):
    """What grpcio tells of a call, and how it is ended (grpc.aio.ServicerContext; its annotations lag behind)."""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status other than OK."""

    async def read(self) -> Any:  # noqa: ANN401
        """The next message of a stream, or `EOF`."""

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send the head of a stream's answers before the first of them, which would bring it."""

    async def write(self, message: Any) -> None:  # noqa: ANN401
        """Send a message on a stream; returns once the transport has it."""

    def invocation_metadata(self) -> Metadata | None:
        """The caller's headers."""

    def time_remaining(self) -> float | None:
        """Seconds to its deadline."""

    def set_compression(self, compression: grpc.Compression) -> None:
        """How its answers are compressed."""

    def add_done_callback(self, callback: Any) -> None:  # noqa: ANN401
        """Have `callback` called with the context once the call has ended."""

    def peer(self) -> str:
        """The caller's address."""


class Known(Protocol):
    """A caller who was let pass."""

    @property
    def name(self) -> str:
        """Of its key."""


class Guard(Protocol):
    """Whoever decides who may call."""

    def check(self, authorization: str | None, scope: str, model: str | None) -> Known:
        """Let the call pass.

        Args:
            authorization: the header of that name.
            scope: "infer", "read" or "admin".
            model: which one it concerns.

        Raises:
            Unauthenticated, PermissionDenied: it may not pass.
        """


class Calls:
    """What all calls of one port share: how they are counted, and how they fail."""

    def __init__(self, profile: Profile, statistics: GrpcStatistics, complaints: Complaints) -> None:
        self.statistics = statistics
        self.profile = profile
        self._complaints = complaints

    async def fail(
        self, context: Context, method: str, problem: Exception, model: str = "", version: str = ""
    ) -> NoReturn:
        """End a call with the status that tells `problem`; what is no TaxiwayError is a defect of ours."""
        error = self.told(problem, model, version, shown_peer(context.peer()))
        code = self.count(method, error)
        await context.abort(code, details_of(error), _trailers(error, explains=self.profile.explains))

    def told(self, problem: Exception, model: str = "", version: str = "", peer: str = "") -> TaxiwayError:
        """The error a caller is told of `problem`; the log is told what an operator should know."""
        if isinstance(problem, TaxiwayError):
            self._complaints.note(problem, {"model": model, "version": version}, peer)
            return problem
        self._complaints.report_bug(problem)
        return InternalError("internal error; the server's log has the details")

    def count(self, method: str, error: TaxiwayError) -> grpc.StatusCode:
        """Count a call that ends with `error`; its status."""
        name = self.profile.grpc_status_of(error)
        self.statistics.ended(method, name)
        return grpc.StatusCode[name]


def shown_peer(peer: str) -> str:
    """An address as grpcio tells it (`ipv6:%5B::1%5D:50`), in the words of the rest of the log."""
    kind, _, address = unquote(peer).partition(":")
    return "unix" if kind == "unix" else address


def parse(kind: MessageClass, body: bytes) -> Message:
    """The message in `body`.

    Raises:
        MalformedRequest: it is none of this kind.
    """
    try:
        return kind.FromString(body)
    except DecodeError:
        raise MalformedRequest(
            f"the call's message is not {kind.DESCRIPTOR.full_name}", hint="ask for its form by server reflection"
        ) from None


def deadline_of(context: Context, arrived_ns: int) -> int:
    """The call's deadline on the monotonic clock; NEVER_NS if it has none."""
    left_s = context.time_remaining()
    return NEVER_NS if left_s is None else arrived_ns + int(left_s * 1e9)


def header_of(context: Context, name: str) -> str | None:
    """The caller's header of this name, the first if there are several."""
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


def headers_of(context: Context) -> Callable[[bytes], bytes | None]:
    """What gives the caller's headers as bytes, by names in lower case, as HTTP's are given."""

    def header(name: bytes) -> bytes | None:
        found = header_of(context, name.decode("latin-1"))
        return None if found is None else found.encode("latin-1", "replace")

    return header


def authorization_of(context: Context) -> str | None:
    """Who the caller says it is, as the header `authorization` or a bare key in `x-api-key`."""
    key = header_of(context, "x-api-key")
    return header_of(context, "authorization") or (None if key is None else f"Bearer {key}")


def details_of(error: TaxiwayError) -> str:
    """What the status says in words."""
    text = error.message
    return text if len(text) <= _MAX_DETAILS_CHARS else text[: _MAX_DETAILS_CHARS - 3] + "..."


def _trailers(error: TaxiwayError, *, explains: bool) -> Metadata:
    """The error's code and hint, and when to come back, as gRPC's own retries read it."""
    trailers: list[tuple[str, str | bytes]] = []
    if explains:
        trailers.append(("taxiway-code", error.code))
        if error.hint:
            trailers.append(("taxiway-hint-bin", error.hint[:_MAX_DETAILS_CHARS].encode()))
    if isinstance(error, Overloaded | Unavailable):
        trailers.append(("grpc-retry-pushback-ms", str(round(error.retry_after_s * 1000))))
    return tuple(trailers)


def tells_of_a_lost_client(problem: Exception) -> bool:
    """Whether a write failed because nobody is there any more: grpcio tells so before it cancels the call.

    The exception has no public name.
    """
    return type(problem).__name__ == "ExecuteBatchError"
