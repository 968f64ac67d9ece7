"""Sockets to listen on: TCP on IPv4 and IPv6, and Unix. Whoever opens one may hand it to another process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from taxiway.core.errors import FailedPrecondition

UNIX_MODE = 0o660
"""Of a socket's file: its owner and its group may call."""
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_SAME_PORT_TRIES = 16
_SO_ATTACH_FILTER = 26
"""socket(7); Python has no name for it."""
_DROP_BEGINNINGS = (
    (0x30, 0, 0, 13),  # load the byte of the TCP flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # else keep it whole
)
"""Classic BPF (linux/filter.h): code, jump if true, jump if false, operand."""


def bind_tcp(host: str, port: int, *, reuse_port: bool, section: str = "http") -> list[socket.socket]:
    """Take one port (0: a free one) of every address that `host` stands for; connections are refused till one listens.

    `::` takes IPv4 as well. `localhost` is both families' loopback, where there are both.

    Args:
        host: a name or an address.
        port: its number.
        reuse_port: whether other sockets may be bound to the same port likewise (SO_REUSEPORT).
        section: whose settings these are, for the error's hint.

    Raises:
        FailedPrecondition: the port is taken, not ours to open, or `host` is no address of this machine.
    """
    try:
        addresses = _resolve(host.strip("[]"), port)
        tries = 1 if port or len(addresses) == 1 else _SAME_PORT_TRIES
        return _bind_one_port(addresses, reuse_port=reuse_port, tries=tries)
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
        FailedPrecondition: as `unix_place`.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.setblocking(False)
    try:
        with unix_place(path, section=section):
            listening.bind(path)
            listening.listen(backlog)
            return listening, UnixFile.of(Path(path))
    except FailedPrecondition:
        listening.close()
        raise


@contextlib.contextmanager
def unix_place(path: str, *, section: str) -> Iterator[None]:
    """Make a Unix socket at `path` in this block: no dead one is in its way, and it is its owner's and group's only.

    Raises:
        FailedPrecondition: somebody listens there, something else is there, or it cannot be made.
    """
    try:
        _remove_stale(path)
        before = os.umask(0o777 & ~UNIX_MODE)  # nobody shall get in between bind and chmod
        try:
            yield
        finally:
            os.umask(before)
    except OSError as problem:
        reason = "its path is too long" if "too long" in str(problem) else problem.strerror or str(problem)
        raise FailedPrecondition(
            f"cannot listen on the Unix socket {path}: {reason}",
            hint=f"--{section}.unix-socket names a file to be made in a directory that is there",
        ) from problem


def url_of(bound: socket.socket, scheme: str) -> str:
    """The address at which clients on this machine reach a TCP socket."""
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Give them back."""
    for one in sockets:
        one.close()


def refuse_beginnings(listening: socket.socket) -> None:
    """Let no further connection begin, and leave those alone that have begun.

    The kernel resets what waits to be accepted when a listening socket is closed, and between the last look and the
    close more may come. So packets that ask for a connection are dropped first, by a filter in the kernel: whoever
    sent one sends it again a second later, and is then refused. Where there is no such filter the gap stays.
    """
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = b"".join(struct.pack("@HBBI", *instruction) for instruction in _DROP_BEGINNINGS)
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("@HP", len(_DROP_BEGINNINGS), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


def _resolve(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    """Family and address, each once, in the system's order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _bind_one_port(
    addresses: list[tuple[int, tuple[object, ...]]], *, reuse_port: bool, tries: int
) -> list[socket.socket]:
    """A free port of the first address may be taken on the second; then another is tried."""
    while True:
        tries -= 1
        opened: list[socket.socket] = []
        try:
            for family, address in addresses:
                port = opened[0].getsockname()[1] if opened else address[1]
                one = _bind(family, (address[0], port, *address[2:]), reuse_port=reuse_port)
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


def _bind(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket | None:
    """None if this machine has no such address."""
    try:
        bound = socket.socket(family)
    except OSError as problem:
        if problem.errno in _NOT_HERE:
            return None
        raise
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        bound.bind(address)
    except OSError as problem:
        bound.close()
        if problem.errno in _NOT_HERE:
            return None
        raise
    return bound


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
