"""Ports, taken for whoever will listen on them."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

from taxiway.core.errors import FailedPrecondition

_SO_ATTACH_FILTER = 26
"""socket(7); Python has no name for it."""
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP flags
    (0x45, 0, 1, 0x02),  # SYN, as only a beginning has it here: answers to ours have ACK too, and we send none
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # keep
)
"""Classic BPF (linux/filter.h): code, jump if true, jump if false, operand."""


def bind_port(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """A socket for each address that `host` means, bound and not listening yet: connections are refused till then.

    Args:
        host: a name or an address, IPv4 or IPv6.
        port: 0 takes a free one, the same for every address.
        reuse_port: other processes may bind the same port likewise (SO_REUSEPORT).

    Raises:
        FailedPrecondition: it is taken, not ours to open, or no address of this machine.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bound(family, (address[0], chosen, *address[2:]), reuse_port=reuse_port))
    except OSError as problem:
        close_all(sockets)
        raise cannot_listen(host, port, problem) from problem
    return sockets


def cannot_listen(host: str, port: int, problem: OSError) -> FailedPrecondition:
    """The error that tells why a port cannot be had."""
    return FailedPrecondition(
        f"cannot listen on {host} port {port}: {problem}",
        hint="choose other ports: --http.port and --metrics.port (0 takes a free one)",
    )


def refuse_beginnings(listening: socket.socket) -> None:
    """Let no further connection begin, and leave those alone that have begun.

    The kernel resets what waits to be accepted when a listening socket is closed, and between the last look and the
    close more may come. So packets that ask for a connection are dropped first, by a filter in the kernel: whoever
    sent one sends it again a second later, and is then refused. Where there is no such filter the gap stays.
    """
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = b"".join(struct.pack("@HBBI", *instruction) for instruction in _DROP_SYN)
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


def close_all(sockets: list[socket.socket]) -> None:
    """Give them back."""
    for one in sockets:
        one.close()


def url_of(bound: socket.socket, scheme: str = "http") -> str:
    """The address at which a client on this machine reaches a port."""
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]


def _bound(family: socket.AddressFamily, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A server that has just ended must not keep the next from its port, and only a listening one can.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
