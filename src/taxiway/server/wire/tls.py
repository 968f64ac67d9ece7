"""TLS between a socket and an HTTP connection: protocol of the one, transport of the other.

The event loop has such a layer of its own. This one lets each connection take the certificate and the authorities
that are in force when it comes, counts and bounds handshakes and knows who failed one, closes one direction as plain
TCP does, and tells how much a slow reader has left unread: the limits hold as they do without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, Protocol, cast

from taxiway.server.wire.exchange import Buffer

_READ_BYTES = 1 << 18
_JOIN_BYTES = 1 << 16
"""Answers up to this size go out as one run of records, whatever pieces they are in."""
_PIECE_BYTES = 1 << 18
"""Of a long answer so much is encrypted at a time, and then handed on."""
_LINGER_S = 2.0
"""How long whoever failed a handshake may go on sending before it is cut: closing at once could lose the alert."""
_GRACE_S = 0.05
_NOT_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 79\r\nConnection: close\r\n\r\n"
    b'{"error":"this port speaks HTTPS, and got plain HTTP","code":"malformed-http"}\n'
)


class TlsDoor(Protocol):
    """Who keeps count of handshakes: the front of a port."""

    loop: asyncio.AbstractEventLoop

    def handshake_begun(self, layer: TlsLayer) -> bool:
        """Count one in; False if there are too many connections for another."""

    def handshake_over(self, layer: TlsLayer, outcome: str, reason: str) -> None:
        """Count it out: `done`, `failed`, `late` or `gone`."""


class TlsLayer(asyncio.Transport, asyncio.Protocol):
    """One connection's TLS, on the server's side.

    Args:
        door: told of the handshake.
        context: the certificate and the authorities to make it with.
        protocol: whose transport this is once the handshake is done; it hears nothing before.
        handshake_timeout_s: how long that may take.
    """

    def __init__(
        self, door: TlsDoor, context: ssl.SSLContext, protocol: asyncio.Protocol, handshake_timeout_s: float
    ) -> None:
        super().__init__()
        self._door = door
        self._protocol: asyncio.Protocol | asyncio.BufferedProtocol = protocol
        self._handshake_timeout_s = handshake_timeout_s
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._counted = False
        """Whether a handshake is going on that the door counts."""
        self._open = False
        """Whether the handshake is done."""
        self._deaf = False
        """What comes is dropped: the handshake failed, or we have said goodbye."""
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    # --- the socket's protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's first word, or cut it off if there are too many."""
        self._raw = cast("asyncio.Transport", transport)
        if not self._door.handshake_begun(self):
            self._deaf = True
            self._raw.abort()
            return
        self._counted = True
        self._set_timer(self._handshake_timeout_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever needs to know."""
        if self._timer is not None:
            self._timer.cancel()
        self._handshake_over("gone", str(exc) if exc else "the client hung up")
        if self._open:
            self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake, or hand over what was said."""
        if self._deaf:
            return
        self._incoming.write(data)
        if not self._open:
            self._shake_hands()
        if self._open:
            self._deliver()

    def eof_received(self) -> bool:
        """The client hung up, with or without saying so in TLS: how long a body is does not depend on it."""
        if self._open and not self._deaf:
            self._protocol.eof_received()
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._open:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        if self._open:
            self._protocol.resume_writing()

    # --- the handshake ----------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as problem:
            self._fail(problem)
        else:
            self._flush()
            if self._timer is not None:
                self._timer.cancel()
            self._open = True
            self._handshake_over("done", "")
            self._protocol.connection_made(self)

    def _fail(self, problem: ssl.SSLError) -> None:
        """Say why, and let the client read it."""
        self._flush()
        if problem.reason == "HTTP_REQUEST":
            self._raw.write(_NOT_TLS)
        reason = getattr(problem, "verify_message", None) or problem.reason or str(problem)
        self._handshake_over("failed", str(reason).replace("_", " ").lower())
        self._deaf = True
        self._raw.write_eof()
        self._set_timer(_LINGER_S, self._raw.abort)

    def _late(self) -> None:
        """A loop that was held up runs its timers before it reads: what came meanwhile is heard first."""
        self._set_timer(_GRACE_S, self._too_late)

    def _too_late(self) -> None:
        self._handshake_over("late", f"it took over {self._handshake_timeout_s:g} s")
        self._raw.abort()

    def _handshake_over(self, outcome: str, reason: str) -> None:
        if self._counted:
            self._counted = False
            self._door.handshake_over(self, outcome, reason)

    def _set_timer(self, seconds: float, callback: Any) -> None:  # noqa: ANN401 - whatever call_later takes
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._door.loop.call_later(seconds, callback)

    # --- reading ----------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Decrypt and hand over what is here, until there is no more or the connection wants no more."""
        try:
            while not self._paused and not self._deaf and self._deliver_some():
                pass
        except ssl.SSLError:  # not what the other side's TLS would say: nothing more of it can be trusted
            self._deaf = True
            self._raw.abort()
            return
        if self._outgoing.pending and not self._deaf:
            self._flush()

    def _deliver_some(self) -> bool:
        """Whether more may be here, and whoever is to hear it may be another."""
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            return self._fill(self._protocol)
        self._hand_over(self._protocol)
        return False

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        """All that is here, as bytes."""
        chunks: list[bytes] = []
        while (chunk := self._read(_READ_BYTES, None)) is not None and chunk:
            chunks.append(cast("bytes", chunk))
        if chunks:
            protocol.data_received(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if chunk is not None:
            self._hear_goodbye()

    def _fill(self, protocol: asyncio.BufferedProtocol) -> bool:
        """All that is here and has room, straight into the protocol's memory; whether it is full."""
        space = cast("memoryview", protocol.get_buffer(-1))
        filled = 0
        count: int | bytes | None = None
        while filled < len(space) and (count := self._read(len(space) - filled, space[filled:])) is not None and count:
            filled += cast("int", count)
        if filled:
            protocol.buffer_updated(filled)
        if filled == len(space):
            return True
        if count is not None:
            self._hear_goodbye()
        return False

    def _read(self, size: int, into: memoryview | None) -> bytes | int | None:
        """One record's worth; None if there is none yet, and nothing (empty, 0) if there never will be."""
        if not (self._incoming.pending or self._tls.pending()):
            return None  # the same as SSLWantReadError, which costs more
        try:
            return self._tls.read(size) if into is None else self._tls.read(size, into)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return 0

    def _hear_goodbye(self) -> None:
        """The client says that no more comes, which on plain TCP would be its end of file."""
        if not self._deaf:
            self._protocol.eof_received()
            self.close()

    # --- the connection's transport ---------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as in the base class
        """The client's certificate as `peercert`; everything else is the socket's."""
        return self._tls.getpeercert() if name == "peercert" else self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who hears what comes from now on."""
        self._protocol = cast("asyncio.Protocol | asyncio.BufferedProtocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who hears what comes."""
        return self._protocol

    def pause_reading(self) -> None:
        """Hand over nothing, and read no more than is here."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Go on, with what is here first, in a turn of its own: callers are in one."""
        self._paused = False
        self._raw.resume_reading()
        if self._incoming.pending or self._tls.pending():
            self._door.loop.call_soon(self._deliver)

    def write(self, data: Buffer) -> None:
        """Encrypt and send."""
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Encrypt and send all of it, in one go: how much the socket then holds is how much is unread."""
        if self._deaf or self._raw.is_closing():
            return
        buffers = [buffer for buffer in list_of_data if len(buffer)]
        if len(buffers) > 1 and sum(len(buffer) for buffer in buffers) <= _JOIN_BYTES:
            buffers = [b"".join(buffers)]
        pieces: list[bytes] = []
        try:
            for buffer in buffers:
                self._encrypt(memoryview(buffer).cast("B"), pieces)
        except ssl.SSLError:
            self.abort()
            return
        if self._outgoing.pending:
            pieces.append(self._outgoing.read())
        self._raw.writelines(pieces)

    def _encrypt(self, data: memoryview, pieces: list[bytes]) -> None:
        position = 0
        while position < len(data):
            position += self._tls.write(data[position : position + _PIECE_BYTES])
            if self._outgoing.pending >= _PIECE_BYTES:
                pieces.append(self._outgoing.read())

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken, as they go over the line."""
        return self._raw.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """TLS and TCP both close one direction."""
        return True

    def write_eof(self) -> None:
        """Say goodbye, in TLS and in TCP; what still comes is dropped."""
        self._say_goodbye()
        self._raw.write_eof()

    def is_closing(self) -> bool:
        """Whether the socket is on its way out."""
        return self._raw.is_closing()

    def close(self) -> None:
        """Say goodbye, and go once everything is sent. The other side's goodbye is not waited for (RFC 8446, 6.1)."""
        self._say_goodbye()
        self._raw.close()

    def abort(self) -> None:
        """Go now."""
        self._deaf = True
        self._raw.abort()

    def _say_goodbye(self) -> None:
        if self._deaf or self._raw.is_closing():
            return
        self._deaf = True
        with contextlib.suppress(ssl.SSLError):  # the other side has not said it yet, or was still talking
            self._tls.unwrap()
        self._flush()
