"""Ports that are the server's from start to end, however often the process that listens on them is replaced."""

from __future__ import annotations

import socket

from taxiway.server.wire.binding import bind_port, close_all


class ReservedPort:
    """A port that is held, without listening, by sockets of the supervisor's own.

    Args:
        host: a name or an address.
        port: 0 takes a free one.
        shared: several workers listen on it, and the kernel spreads connections over them (SO_REUSEPORT).
        open_to_others: whether processes of other servers may listen on it as well.

    Raises:
        FailedPrecondition: somebody listens there already, or it cannot be had.
    """

    def __init__(self, host: str, port: int, *, shared: bool, open_to_others: bool = False) -> None:
        self._host = host
        self._shared = shared or open_to_others
        if self._shared and not open_to_others:
            # SO_REUSEPORT would let us in beside another server of the same user, who would get half of our clients.
            close_all(bind_port(host, port))
        self._held = bind_port(host, port, reuse_port=self._shared)
        self.number: int = self._held[0].getsockname()[1]

    def bind(self) -> list[socket.socket]:
        """Sockets for one worker to listen on; the kernel lets only the supervisor's user have them."""
        return bind_port(self._host, self.number, reuse_port=self._shared)

    def release(self) -> None:
        """Give the port back."""
        close_all(self._held)
