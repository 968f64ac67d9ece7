"""Listening sockets: both families, one port, and Unix sockets that take nobody's place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from taxiway.core.errors import FailedPrecondition
from taxiway.server.wire.sockets import bind_tcp, open_unix


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _open(opened: ExitStack, host: str, port: int = 0, *, reuse_port: bool = False) -> list[socket.socket]:
    bound = [opened.enter_context(one) for one in bind_tcp(host, port, reuse_port=reuse_port)]
    for one in bound:
        one.listen(8)
    return bound


def _address(one: socket.socket) -> tuple[str, int]:
    host, port = one.getsockname()[:2]
    return host, port


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_one_address_is_one_socket(opened: ExitStack, host: str) -> None:
    (one,) = _open(opened, host)
    assert _address(one)[0] == host
    assert _answers(*_address(one))


@needs_ipv6
def test_brackets_are_taken_as_in_an_address(opened: ExitStack) -> None:
    (one,) = _open(opened, "[::1]")
    assert _address(one)[0] == "::1"


@needs_ipv6
def test_a_name_of_both_families_gets_one_port(opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port)), (socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    four, six = _open(opened, "localhost")
    monkeypatch.undo()
    assert _address(four)[1] == _address(six)[1]
    assert _answers("127.0.0.1", _address(four)[1])
    assert _answers("::1", _address(four)[1])


@needs_ipv6
def test_everything_means_both_families(opened: ExitStack) -> None:
    (one,) = _open(opened, "::")
    port = _address(one)[1]
    assert _answers("127.0.0.1", port)
    assert _answers("::1", port)


@needs_ipv6
def test_one_ipv6_address_is_not_ipv4_s_too(opened: ExitStack) -> None:
    (one,) = _open(opened, "::1")
    assert not _answers("127.0.0.1", _address(one)[1])


def test_a_family_that_is_not_here_is_left_out(opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, **_: object) -> list[object]:
        return [
            (socket.AF_INET6, 1, 6, "", ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    (one,) = _open(opened, "somewhere")
    assert _address(one)[0] == "127.0.0.1"


def test_ports_are_shared_only_if_told(opened: ExitStack) -> None:
    (one,) = _open(opened, "127.0.0.1", reuse_port=True)
    port = _address(one)[1]
    _open(opened, "127.0.0.1", port, reuse_port=True)
    with pytest.raises(FailedPrecondition, match=f"cannot listen on 127.0.0.1 port {port}"):
        _open(opened, "127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "\udcff", "a" * 70 + ".b"])
def test_what_is_no_address_of_this_machine_is_told_so(host: str) -> None:
    with pytest.raises(FailedPrecondition, match="cannot listen on") as told:
        bind_tcp(host, 0, reuse_port=False, section="metrics")
    assert "--metrics.port" in told.value.hint


# --- Unix ------------------------------------------------------------------------------------------------


def test_a_unix_socket_is_for_owner_and_group_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0o022)
    os.umask(before)
    listening, file = open_unix(str(path), backlog=8)
    with listening:
        assert path.stat().st_mode & 0o777 == 0o660
        mask = os.umask(before)
        assert mask == before
    file.remove()
    assert not path.exists()
    file.remove()


def test_a_stale_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, _ = open_unix(str(path), backlog=8)
    with pytest.raises(FailedPrecondition, match="another process listens on it"):
        open_unix(str(path), backlog=8)
    first.close()
    assert path.exists()
    second, _ = open_unix(str(path), backlog=8)
    with second, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_successor_s_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, file = open_unix(str(path), backlog=8)
    first.close()
    second, _ = open_unix(str(path), backlog=8)
    with second:
        file.remove()
        assert path.exists()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(FailedPrecondition, match="something that is no socket is there"):
        open_unix(str(path), backlog=8)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "words"), [("x" * 120, "its path is too long"), ("none/s", "No such file or directory")]
)
def test_where_none_can_be_made_is_told(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(FailedPrecondition, match=words) as told:
        open_unix(str(tmp_path / name), backlog=8, section="grpc")
    assert "--grpc.unix-socket" in told.value.hint
