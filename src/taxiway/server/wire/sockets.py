"""Listening sockets: TCP on IPv4 and IPv6, and Unix. Whoever opens one may hand it to another process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from taxiway.core.errors import FailedPrecondition

UNIX_MODE = 0o660
"""Of a socket's file: its owner and its group may call."""
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_SAME_PORT_TRIES = 16


def open_tcp(host: str, port: int, *, backlog: int, reuse_port: bool, section: str = "http") -> list[socket.socket]:
    """Listen on every address that `host` stands for, all on one port (0: a free one).

    `::` takes IPv4 as well. `localhost` is both families' loopback, where there are both.

    `section` says whose settings these are, for the error's hint.

    Raises:
        FailedPrecondition: the port is taken, not ours to open, or `host` is no address of this machine.
    """
    try:
        addresses = _resolve(host.strip("[]"), port)
        tries = 1 if port or len(addresses) == 1 else _SAME_PORT_TRIES
        return _listen_on_one_port(addresses, backlog, reuse_port=reuse_port, tries=tries)
    except (OSError, UnicodeError) as problem:
        raise FailedPrecondition(
            f"cannot listen on {host} port {port}: {problem}",
            hint=f"choose another: --{section}.host and --{section}.port (0 takes a free one)",
        ) from problem


@dataclass(frozen=True, slots=True)
class UnixFile:
    """The file of a Unix socket that was made here; numbers of inodes are given again, so its time tells it apart."""

    path: Path
    inode: int
    made_ns: int

    @classmethod
    def of(cls, path: Path) -> UnixFile:
        """The file that is at `path` now."""
        told = path.stat()
        return cls(path, told.st_ino, told.st_mtime_ns)

    def remove(self) -> None:
        """Remove it, unless another has taken its place."""
        with contextlib.suppress(OSError):
            if self == UnixFile.of(self.path):
                self.path.unlink()


def open_unix(path: str, *, backlog: int, section: str = "http") -> tuple[socket.socket, UnixFile]:
    """Listen on a Unix socket, made anew; one that nobody listens on any more is replaced.

    Raises:
        FailedPrecondition: somebody listens there, something else is there, or it cannot be made.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.setblocking(False)
    try:
        _remove_stale(path)
        before = os.umask(0o777 & ~UNIX_MODE)  # nobody shall get in between bind and chmod
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(backlog)
        return listening, UnixFile.of(Path(path))
    except OSError as problem:
        listening.close()
        reason = "its path is too long" if "too long" in str(problem) else problem.strerror or str(problem)
        raise FailedPrecondition(
            f"cannot listen on the Unix socket {path}: {reason}",
            hint=f"--{section}.unix-socket names a file to be made in a directory that is there",
        ) from problem


def shown_address(listening: socket.socket) -> tuple[str, int]:
    """Host and port that a TCP socket got."""
    host, port = listening.getsockname()[:2]
    return str(host), int(port)


def _resolve(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    """Family and address, each once, in the system's order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _listen_on_one_port(
    addresses: list[tuple[int, tuple[object, ...]]], backlog: int, *, reuse_port: bool, tries: int
) -> list[socket.socket]:
    """A free port of the first address may be taken on the second; then another is tried."""
    while True:
        tries -= 1
        opened: list[socket.socket] = []
        try:
            for family, address in addresses:
                port = opened[0].getsockname()[1] if opened else address[1]
                one = _listen(family, (address[0], port, *address[2:]), backlog, reuse_port=reuse_port)
                if one is not None:
                    opened.append(one)
        except OSError as problem:
            for one in opened:
                one.close()
            if problem.errno != errno.EADDRINUSE or tries <= 0:
                raise
            continue
        if not opened:
            raise OSError(errno.EADDRNOTAVAIL, "it is no address of this machine")
        return opened


def _listen(family: int, address: tuple[object, ...], backlog: int, *, reuse_port: bool) -> socket.socket | None:
    """None if this machine has no such address."""
    try:
        listening = socket.socket(family)
    except OSError as problem:
        if problem.errno in _NOT_HERE:
            return None
        raise
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listening.bind(address)
        listening.listen(backlog)
    except OSError as problem:
        listening.close()
        if problem.errno in _NOT_HERE:
            return None
        raise
    return listening


def _remove_stale(path: str) -> None:
    """Remove a socket's file that nobody listens on.

    Raises:
        OSError: somebody does, or it is no socket.
    """
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "something that is no socket is there")
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except TimeoutError:
            pass  # its queue is full, so somebody owns it
    raise OSError(errno.EADDRINUSE, "another process listens on it")
