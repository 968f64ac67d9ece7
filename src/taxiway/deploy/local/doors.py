"""Where the server listens, held from its start to its end, however often the process that listens is replaced."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from taxiway.config.settings import Settings
from taxiway.core.errors import FailedPrecondition
from taxiway.server.wire.sockets import UnixFile, bind_tcp, close_all, open_unix, url_of


class ReservedPort:
    """A port that is held, without listening, by sockets of the supervisor's own.

    Args:
        section: whose settings these are.
        host: a name or an address.
        port: 0 takes a free one.
        shared: several workers listen on it, and the kernel spreads connections over them (SO_REUSEPORT).
        open_to_others: whether processes of other servers may listen on it as well.

    Raises:
        FailedPrecondition: somebody listens there already, or it cannot be had.
    """

    def __init__(self, section: str, host: str, port: int, *, shared: bool, open_to_others: bool = False) -> None:
        self._section = section
        self._host = host
        self.shared = shared or open_to_others
        """Whether several processes may listen on it."""
        if self.shared and not open_to_others:
            # SO_REUSEPORT would let us in beside another server of the same user, who would get half of our clients.
            close_all(bind_tcp(host, port, reuse_port=False, section=section))
        self._held = bind_tcp(host, port, reuse_port=self.shared, section=section)
        self.number: int = self._held[0].getsockname()[1]

    def bind(self) -> list[socket.socket]:
        """Sockets for one worker to listen on."""
        return bind_tcp(self._host, self.number, reuse_port=self.shared, section=self._section)

    def release(self) -> None:
        """Give the port back."""
        close_all(self._held)


class QueueingPort:
    """A port on which connections wait from the start, for a process that takes them when it is there.

    Args:
        section: whose settings these are.
        host: a name or an address.
        port: 0 takes a free one.

    Raises:
        FailedPrecondition: somebody listens there already, or it cannot be had.
    """

    def __init__(self, section: str, host: str, port: int) -> None:
        self.sockets = bind_tcp(host, port, reuse_port=False, section=section)
        try:
            for one in self.sockets:
                one.listen(_WAITING)
        except OSError as problem:
            close_all(self.sockets)
            raise FailedPrecondition(
                f"cannot listen on {host} port {port}: {problem}",
                hint=f"choose another: --{section}.host and --{section}.port (0 takes a free one)",
            ) from problem

    def url(self, scheme: str) -> str:
        """The address at which clients on this machine reach it."""
        return url_of(self.sockets[0], scheme)

    def release(self) -> None:
        """Give the port back; who waits is refused."""
        close_all(self.sockets)


class SharedUnixSocket:
    """A Unix socket that listens, and that all workers accept from.

    Raises:
        FailedPrecondition: somebody listens there, or it cannot be made.
    """

    def __init__(self, path: str, backlog: int) -> None:
        self._file: UnixFile
        self.socket, self._file = open_unix(path, backlog=backlog)

    def copy(self) -> socket.socket:
        """The same socket for one worker: it stays open whatever becomes of ours.

        Raises:
            FailedPrecondition: too many files are open.
        """
        try:
            return self.socket.dup()
        except OSError as problem:
            raise FailedPrecondition(
                f"the Unix socket cannot be handed to a worker: {problem}", hint="see `ulimit -n`"
            ) from problem

    def release(self) -> None:
        """Let nobody find it any more; who is connected stays."""
        self._file.remove()
        self.socket.close()


_WAITING = 64
"""Connections that wait for the control process, while it is started or too busy."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Every front door of one server.

    Attributes:
        grpc: None if it is off. The workers bind it themselves: grpcio takes no socket.
        unix: beside HTTP's port, if there is one.
        control: of the control process; None if it is off.
    """

    http: ReservedPort
    grpc: ReservedPort | None
    unix: SharedUnixSocket | None
    control: QueueingPort | None

    @classmethod
    def of(cls, settings: Settings) -> Doors:
        """Those that the settings ask for.

        Raises:
            FailedPrecondition: one of them cannot be had; none is held then.
        """
        http, grpc, control, shared = settings.http, settings.grpc, settings.control, settings.workers > 1
        with ExitStack() as held:
            port = ReservedPort("http", http.host, http.port, shared=shared, open_to_others=http.reuse_port)
            held.callback(port.release)
            second = ReservedPort("grpc", grpc.host, grpc.port, shared=shared) if grpc.enabled else None
            if second is not None:
                held.callback(second.release)
            third = QueueingPort("control", control.host, control.port) if control.enabled else None
            if third is not None:
                held.callback(third.release)
            unix = SharedUnixSocket(http.unix_socket, http.backlog) if http.unix_socket else None
            held.pop_all()
        return cls(port, second, unix, third)

    @contextmanager
    def sockets(self) -> Iterator[list[socket.socket]]:
        """What one worker is handed: bound sockets, HTTP's port first. They are closed here when the block ends.

        Raises:
            FailedPrecondition: somebody has taken the port, or too many files are open.
        """
        bound = self.http.bind()
        try:
            if self.unix is not None:
                bound.append(self.unix.copy())
            yield bound
        finally:
            close_all(bound)

    def write_ports(self, settings: dict[str, Any]) -> None:
        """Put the numbers that were chosen into settings that are plain data."""
        settings.setdefault("http", {})["port"] = self.http.number
        if self.grpc is not None:
            settings.setdefault("grpc", {})["port"] = self.grpc.number

    def hide(self) -> None:
        """The server is leaving: whoever looks for it by a file shall not find it."""
        if self.unix is not None:
            self.unix.release()

    def release(self) -> None:
        """Give everything back."""
        self.http.release()
        if self.grpc is not None:
            self.grpc.release()
        if self.control is not None:
            self.control.release()
        self.hide()
