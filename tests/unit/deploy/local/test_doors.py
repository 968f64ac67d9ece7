"""Ports that are held while nobody listens, with real sockets on loopback."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from taxiway.config.settings import Settings
from taxiway.core.errors import FailedPrecondition
from taxiway.deploy.local.doors import Doors, SharedPort
from taxiway.server.wire.sockets import refuse_beginnings


def _settings(workers: int, **http: object) -> Settings:
    return Settings.model_validate({"workers": workers, "http": {"port": 0, **http}, "grpc": {"port": 0}})


@pytest.mark.parametrize("workers", [1, 3])
def test_a_port_is_kept_while_workers_come_and_go(workers: int) -> None:
    doors = Doors(_settings(workers))
    try:
        for _ in range(2):
            with doors.sockets() as (bound,):
                address = bound.getsockname()
                assert address[1] == doors.http.number
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address)
                bound.listen()
                socket.create_connection(address).close()
    finally:
        doors.release()


def test_several_workers_listen_on_one_port() -> None:
    doors = Doors(_settings(2))
    try:
        with doors.sockets() as (first,), doors.sockets() as (second,):
            first.listen()
            second.listen()
            assert first.getsockname() == second.getsockname()
    finally:
        doors.release()


def test_a_port_on_which_somebody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"port {port}") as refused:
            SharedPort("grpc", "127.0.0.1", port)
        assert "--grpc.port" in refused.value.hint


def test_only_who_asks_for_it_shares_a_port_with_others() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        SharedPort("http", "127.0.0.1", taken.getsockname()[1], open_to_others=True).release()


def test_the_numbers_that_were_chosen_are_told() -> None:
    doors = Doors(_settings(1))
    data: dict[str, dict[str, int]] = {}
    doors.write_ports(data)
    doors.release()
    assert doors.grpc is not None
    assert data == {"http": {"port": doors.http.number}, "grpc": {"port": doors.grpc.number}}


def test_a_unix_socket_is_shared_and_hidden_at_the_end(tmp_path: Path) -> None:
    doors = Doors(_settings(2, unix_socket=str(tmp_path / "s")))
    try:
        with doors.sockets() as (_, unix), doors.sockets() as (_, same):
            assert os.fstat(unix.fileno()).st_ino == os.fstat(same.fileno()).st_ino
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
    finally:
        doors.release()
    assert not (tmp_path / "s").exists()


def test_what_a_worker_is_being_handed_stays_open_when_the_server_leaves(tmp_path: Path) -> None:
    doors = Doors(_settings(1, unix_socket=str(tmp_path / "s")))
    try:
        with doors.sockets() as handed:
            doors.hide()
            assert all(one.fileno() >= 0 for one in handed)
    finally:
        doors.release()


def test_what_is_held_is_given_back_if_the_rest_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("no socket")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FailedPrecondition):
        Doors(_settings(1, port=port, unix_socket=str(tmp_path / "s")))
    SharedPort("http", "127.0.0.1", port).release()


def test_who_has_begun_to_connect_is_accepted_and_nobody_else_begins() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as late:
        early = socket.create_connection(listening.getsockname())
        early.sendall(b"here")
        refuse_beginnings(listening)
        late.setblocking(False)
        late.connect_ex(listening.getsockname())
        accepted, _ = listening.accept()
        assert accepted.recv(10) == b"here", "what it sends still comes through"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()
        accepted.close()
        early.close()
