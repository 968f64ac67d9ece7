"""Ports, taken for whoever will listen on them."""

from __future__ import annotations

import socket

from taxiway.core.errors import FailedPrecondition


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
