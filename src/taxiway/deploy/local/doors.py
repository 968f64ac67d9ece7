"""Where the server listens, held from its start to its end, however often the process that listens is replaced.

A server that takes another one's place (succession.py) inherits what the other one holds: it listens on the same ports
beside it, and goes on with the same queues of connections.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from taxiway.config.settings import Settings
from taxiway.core.errors import FailedPrecondition
from taxiway.server.wire.sockets import UnixFile, bind_tcp, close_all, open_unix, url_of


@dataclass(frozen=True, slots=True)
class Heritage:
    """What a server holds of the outer world, for the one that takes its place.

    Attributes:
        ports: by section, as `key_of` names what its settings ask for: the numbers of the ports that are shared.
        queues: likewise: the sockets on which connections wait, as numbers of files.
        files: likewise: inode and time of a Unix socket's file.
    """

    ports: Mapping[str, int] = field(default_factory=dict)
    queues: Mapping[str, list[int]] = field(default_factory=dict)
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """As `Doors.heritage` gave it, sent through a channel."""
        return cls(data["ports"], data["queues"], {key: tuple(file) for key, file in data["files"].items()})

    def close_all_but(self, claimed: Collection[str]) -> None:
        """Close the queues that nobody has claimed: connections would wait there for ever."""
        for key, numbers in self.queues.items():
            for number in numbers:
                if key not in claimed:
                    os.close(number)


NOTHING = Heritage()
"""Of a server that takes nobody's place."""


def key_of(section: str, host: str, port: int) -> str:
    """What settings ask for, in one word: who asks for the same inherits it."""
    return f"{section} {host} {port}"


class SharedPort:
    """A port that is held, without listening, by sockets of the supervisor's own.

    The kernel spreads connections over all processes that listen on it (SO_REUSEPORT).

    Args:
        section: whose settings these are.
        host: a name or an address.
        port: 0 takes a free one.
        inherited: the number that another server holds, whose place we take.
        open_to_others: whether processes of other servers may listen on it as well.

    Raises:
        FailedPrecondition: somebody listens there already, or it cannot be had.
    """

    def __init__(
        self, section: str, host: str, port: int, *, inherited: int | None = None, open_to_others: bool = False
    ) -> None:
        self._section = section
        self._host = host
        self.asked = key_of(section, host, port)
        """What was asked for."""
        if inherited is None and not open_to_others:
            # SO_REUSEPORT would let us in beside another server of the same user, who would get half of our clients.
            close_all(bind_tcp(host, port, reuse_port=False, section=section))
        self._held = bind_tcp(host, inherited or port, reuse_port=True, section=section)
        self.number: int = self._held[0].getsockname()[1]

    def bind(self) -> list[socket.socket]:
        """Sockets for one process to listen on."""
        return bind_tcp(self._host, self.number, reuse_port=True, section=self._section)

    def url(self, scheme: str) -> str:
        """The address at which clients on this machine reach it."""
        return url_of(self._held[0], scheme)

    def release(self) -> None:
        """Give the port back."""
        close_all(self._held)


class QueueingPort:
    """A port on which connections wait from the start, for a process that takes them when it is there.

    Args:
        section: whose settings these are.
        host: a name or an address.
        port: 0 takes a free one.
        inherited: the sockets of another server, whose place we take, as numbers of files.

    Raises:
        FailedPrecondition: somebody listens there already, or it cannot be had.
    """

    def __init__(self, section: str, host: str, port: int, inherited: list[int] | None = None) -> None:
        self.asked = key_of(section, host, port)
        """What was asked for."""
        if inherited is not None:
            self.sockets = [socket.socket(fileno=number) for number in inherited]
            return
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

    Args:
        path: of its file.
        backlog: connections that wait.
        inherited: another server's, whose place we take: its number, and the file's inode and time.

    Raises:
        FailedPrecondition: somebody listens there, or it cannot be made.
    """

    def __init__(self, path: str, backlog: int, inherited: tuple[int, int, int] | None = None) -> None:
        self.asked = key_of("http", path, 0)
        """What was asked for."""
        self.file: UnixFile
        self.socket: socket.socket
        if inherited is not None:
            self.socket = socket.socket(fileno=inherited[0])
            self.file = UnixFile(Path(path), inherited[1], inherited[2])
            return
        self.socket, self.file = open_unix(path, backlog=backlog)

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
        self.file.remove()
        self.socket.close()


_WAITING = 64
"""Connections that wait for the control process, while it is started or too busy."""


class Doors:
    """Every front door of one server: those that the settings ask for.

    Attributes:
        grpc: None if it is off. The workers bind it themselves: grpcio takes no socket.
        metrics: of the supervisor; None if it is off.
        unix: beside HTTP's port, if there is one.
        control: of the control process; None if it is off.
        late: whether a worker is to listen only once it has loaded everything: the kernel would give it its share of
            the connections. One that is alone listens from the start, and says that it is alive.

    Raises:
        FailedPrecondition: one of them cannot be had; none is held then.
    """

    def __init__(self, settings: Settings, heritage: Heritage = NOTHING) -> None:
        self._taken_over = False
        http = settings.http
        self.late = settings.workers > 1 or http.reuse_port or heritage is not NOTHING
        with ExitStack() as held:

            def port(section: str, host: str, number: int, *, open_to_others: bool = False) -> SharedPort:
                inherited = heritage.ports.get(key_of(section, host, number))
                made = SharedPort(section, host, number, inherited=inherited, open_to_others=open_to_others)
                held.callback(made.release)
                return made

            self.http = port("http", http.host, http.port, open_to_others=http.reuse_port)
            self.grpc = port("grpc", settings.grpc.host, settings.grpc.port) if settings.grpc.enabled else None
            metrics = settings.metrics
            self.metrics = port("metrics", metrics.host, metrics.port) if metrics.enabled else None
            self.control = _control(settings, heritage, held.callback)
            self.unix = _unix(settings, heritage) if http.unix_socket else None
            held.pop_all()
        heritage.close_all_but({one.asked for one in (self.control, self.unix) if one is not None})

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

    # --- to the next one ----------------------------------------------------------------------------------

    def heritage(self) -> Heritage:
        """All of it, for the server that takes our place."""
        queues: dict[str, list[int]] = {}
        files: dict[str, tuple[int, int]] = {}
        if self.control is not None:
            queues[self.control.asked] = [one.fileno() for one in self.control.sockets]
        if self.unix is not None:
            file = self.unix.file
            queues[self.unix.asked] = [self.unix.socket.fileno()]
            files[self.unix.asked] = (file.inode, file.made_ns)
        shared = [one for one in (self.http, self.grpc, self.metrics) if one is not None]
        return Heritage({one.asked: one.number for one in shared}, queues, files)

    def leave(self) -> None:
        """Another server has taken our place: what is found by a file is its own now."""
        self._taken_over = True

    def hide(self) -> None:
        """The server is leaving: whoever looks for it by a file shall not find it."""
        if self.unix is not None and not self._taken_over:
            self.unix.release()

    def release(self) -> None:
        """Give everything back."""
        for one in (self.http, self.grpc, self.metrics, self.control):
            if one is not None:
                one.release()
        self.hide()


def _control(settings: Settings, heritage: Heritage, held: Callable[..., Any]) -> QueueingPort | None:
    control = settings.control
    if not control.enabled:
        return None
    inherited = heritage.queues.get(key_of("control", control.host, control.port))
    port = QueueingPort("control", control.host, control.port, inherited)
    held(port.release)
    return port


def _unix(settings: Settings, heritage: Heritage) -> SharedUnixSocket:
    http = settings.http
    asked = key_of("http", http.unix_socket, 0)
    if asked not in heritage.files:
        return SharedUnixSocket(http.unix_socket, http.backlog)
    return SharedUnixSocket(http.unix_socket, http.backlog, (heritage.queues[asked][0], *heritage.files[asked]))
