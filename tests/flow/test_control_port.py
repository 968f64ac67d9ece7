"""The control port in this process: certificates that change, heads that never end, bodies that are too long."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.support.certificates import Authority, SecureRaw
from tests.support.raw_http import PATIENCE_S, Raw, Reply, request

from taxiway.config.settings import TlsSettings
from taxiway.control import entrance, http_port
from taxiway.control.app import make_app
from taxiway.control.http_port import ControlPort
from taxiway.control.names import Names
from taxiway.server.tls import TlsFiles

HOST = b"Host: localhost"


async def _echo(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def _break(_request: Request) -> Response:
    raise RuntimeError("a defect")


@contextmanager
def serving(tls: TlsFiles | None = None) -> Iterator[tuple[str, int]]:
    """A port with two routes."""
    held = socket.create_server(("127.0.0.1", 0))
    address = held.getsockname()
    ready: Future[Callable[[], object]] = Future()

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        app = make_app([Route("/echo", _echo, methods=["POST"]), Route("/break", _break)], Names("::1", ()), None)
        port = ControlPort(app, tls)
        await port.open([held])
        ready.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        await port.close()

    thread = threading.Thread(target=lambda: uvloop.run(run()))
    thread.start()
    end = ready.result(PATIENCE_S)
    try:
        yield address
    finally:
        end()
        thread.join()


def post(body: bytes) -> bytes:
    return request("POST", "/echo", body).replace(b"Host: h", HOST)


def ask(address: tuple[str, int], raw: bytes) -> Reply:
    with Raw(address) as connection:
        return connection.send(raw).reply()


def test_a_certificate_that_is_replaced_holds_for_the_next_connection(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old.pem"), Authority(tmp_path / "new.pem")
    pair = old.issue(tmp_path / "served")
    files = TlsFiles(TlsSettings(certificate=str(pair.certificate), key=str(pair.key)))
    with serving(files) as address:
        with SecureRaw(address, old.client()) as connection:
            assert connection.send(post(b"12")).reply().json() == {"bytes": 2}
            new.issue(tmp_path / "served")
            files.reload()
            assert connection.send(post(b"123")).reply().json() == {"bytes": 3}
        with SecureRaw(address, new.client()) as connection:
            assert connection.send(post(b"")).reply().status == 200
        with pytest.raises(OSError, match="certificate verify failed"):
            SecureRaw(address, old.client())


def test_only_clients_of_the_authority_come_in_and_that_may_change_too(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca.pem"), Authority(tmp_path / "other.pem")
    pair = authority.issue(tmp_path / "served")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.path.read_bytes())
    settings = TlsSettings(certificate=str(pair.certificate), key=str(pair.key), client_ca=str(trusted))
    files = TlsFiles(settings)
    ours, theirs = authority.issue(tmp_path / "ours"), other.issue(tmp_path / "theirs")
    with serving(files) as address:
        assert _let_in(address, authority, ours)
        assert not _let_in(address, authority, theirs)
        trusted.write_bytes(other.path.read_bytes())
        files.reload()
        assert _let_in(address, authority, theirs)
        assert not _let_in(address, authority, ours)


def _let_in(address: tuple[str, int], authority: Authority, pair: object) -> bool:
    try:
        with SecureRaw(address, authority.client(pair)) as connection:  # type: ignore[arg-type]
            return connection.send(post(b"")).reply().status == 200
    except (OSError, AssertionError):
        return False


def test_heads_that_never_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_port, "_HEAD_S", 0.2)
    with serving() as address, Raw(address) as silent, Raw(address) as slow, Raw(address) as long:
        slow.send(b"GET /echo HTTP/1.1\r\nHo")
        assert silent.at_end()
        assert slow.at_end()
        with pytest.raises(ConnectionError):
            long.send(b"GET / HTTP/1.1\r\n" + b"x-a: b\r\n" * 1_000_000)


def test_a_body_is_bounded_in_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "READ_S", 0.2)
    with serving() as address:
        told = ask(address, post(bytes(entrance.MAX_BODY_BYTES + 1)))
        assert (told.status, told.json()["code"]) == (413, "too-large")
        unsent = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123"
        told = ask(address, unsent)
        assert (told.status, told.json()["code"]) == (408, "request-timeout")


def test_a_defect_is_told_as_one_and_the_port_goes_on() -> None:
    with serving() as address:
        told = ask(address, request("GET", "/break").replace(b"Host: h", HOST))
        assert (told.status, json.loads(told.body)["code"]) == (500, "internal")
        assert b"defect" not in told.body
        assert ask(address, post(b"1")).status == 200
