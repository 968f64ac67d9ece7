"""Where a host is found that has several addresses, or none that answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from taxiway.core.errors import TargetUnavailable
from taxiway.profile.generating.job import Door
from taxiway.profile.targets import asking
from taxiway.profile.targets.asking import Address, reach


@contextlib.contextmanager
def listening(host: str) -> Iterator[int]:
    with socket.create_server((host, 0)) as server:
        yield server.getsockname()[1]


def known_as(monkeypatch: pytest.MonkeyPatch, *ips: str) -> None:
    """Have every host's name stand for these."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 0)) for ip in ips]
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *words: Any, **named: Any) -> Any:
        return found if host == "both" else real(host, *words, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def address(port: int) -> Address:
    return Address("http", "both", port, "/v2/models/x")


@pytest.mark.parametrize("ips", [("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")])
def test_the_address_that_accepts_is_taken(monkeypatch: pytest.MonkeyPatch, ips: tuple[str, str]) -> None:
    known_as(monkeypatch, *ips)
    with listening("127.0.0.1") as port:
        assert asyncio.run(reach(address(port))) == "127.0.0.1"


def test_where_none_accepts_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    known_as(monkeypatch, "127.0.0.2", "127.0.0.3")
    with listening("127.0.0.1") as port, pytest.raises(TargetUnavailable, match=f"nobody answers at both:{port}"):
        asyncio.run(reach(address(port)))


def test_an_address_that_swallows_all_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_CONNECT_S", 0.2)
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(8):  # what waits to be accepted fills the queue; what comes then is dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))
        known_as(monkeypatch, "127.0.0.2")
        with pytest.raises(TargetUnavailable, match=r"127\.0\.0\.2 accepts no connection within 0\.2 s"):
            asyncio.run(reach(address(port)))
        stack.enter_context(socket.create_server(("127.0.0.1", port)))
        known_as(monkeypatch, "127.0.0.2", "127.0.0.1")
        assert asyncio.run(reach(address(port))) == "127.0.0.1"


def test_an_address_of_ipv6_is_bracketed() -> None:
    assert Door("::1", 8001).authority == "[::1]:8001"
    assert Door("localhost", 8001).authority == "localhost:8001"
