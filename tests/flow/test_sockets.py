"""Where a server listens beside 127.0.0.1: IPv6, Unix sockets, and sockets that somebody else opened."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.flow.serving import serve
from tests.support import onnx_models
from tests.support.certificates import Authority, SecureRaw
from tests.support.keys import write_keys
from tests.support.raw_http import PATIENCE_S, Raw, infer, request

from taxiway.core.errors import FailedPrecondition
from taxiway.server.wire.sockets import bind_tcp

DOUBLE = infer("double", [[1, 2]], "FP32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    return folder


class UnixRaw(Raw):
    """As `Raw`, over a Unix socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(path))
        self._read = b""


def test_a_unix_socket_beside_the_port(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "taxiway.sock"
    caplog.set_level("INFO")
    with serve(folder, http__unix_socket=str(path), log__access=True) as server:
        assert path.stat().st_mode & 0o777 == 0o660
        with UnixRaw(path) as connection:
            big = request("POST", "/v2/models/double/infer", b" " * 300_000)
            assert [connection.send(raw).reply().status for raw in (DOUBLE, big, DOUBLE)] == [200, 400, 200]
        with Raw(server.address) as connection:
            assert connection.send(DOUBLE).reply().status == 200
    assert not path.exists()
    peers = [record.__dict__["taxiway_fields"]["peer"] for record in caplog.records if record.name == "taxiway.access"]
    assert peers[:3] == ["unix"] * 3
    assert peers[3].startswith("127.0.0.1:")


def test_a_unix_socket_asks_for_keys_and_never_speaks_tls(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "taxiway.sock"
    pair = Authority(tmp_path / "ca.pem").issue(tmp_path / "server")
    flags = {"tls__certificate": str(pair.certificate), "tls__key": str(pair.key)}
    keys = write_keys(tmp_path / "keys.yaml", shop="infer")
    with serve(folder, http__unix_socket=str(path), auth__keys_file=str(keys), **flags), UnixRaw(path) as connection:
        assert connection.send(DOUBLE).reply().status == 401
        assert connection.send(infer("double", [[1, 2]], "FP32", "X-API-Key: key-shop")).reply().status == 200


def test_one_that_is_in_use_stops_the_start(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "taxiway.sock"
    with serve(folder, http__unix_socket=str(path)):
        with (
            pytest.raises(FailedPrecondition, match="another process listens on it"),
            serve(folder, http__unix_socket=str(path)),
        ):
            pass
        with UnixRaw(path) as connection:
            assert connection.send(DOUBLE).reply().status == 200


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class Raw6(Raw):
    """As `Raw`, over IPv6."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self._read = b""


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(folder: Path, host: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with serve(folder, http__host=host, metrics__host=host, log__access=True) as server:
        assert server.http.startswith("http://[::1]:")
        assert server.ask("POST", "/v2/models/double/infer", DOUBLE.partition(b"\r\n\r\n")[2]).status == 200
        assert "taxiway_build_info" in server.scrape()
    peer = next(r.__dict__["taxiway_fields"]["peer"] for r in caplog.records if r.name == "taxiway.access")
    assert peer.startswith("[::1]:")


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
def test_both_families_on_one_port_with_keys(folder: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", shop="infer")
    asked = infer("double", [[1, 2]], "FP32", "X-API-Key: key-shop")
    with serve(folder, http__host="::", auth__keys_file=str(keys)) as server:
        port = int(server.http.rpartition(":")[2])
        for host in ("127.0.0.1", "::1"):
            with Raw6((host, port)) as connection:
                assert connection.send(asked).reply().status == 200


def test_sockets_that_a_parent_opened(folder: Path, tmp_path: Path) -> None:
    """Two fronts may serve copies of the same socket; each closes its own copy."""
    authority = Authority(tmp_path / "ca.pem")
    pair = authority.issue(tmp_path / "server")
    (parents,) = bind_tcp("127.0.0.1", 0, reuse_port=False)
    with parents, serve(folder, tls__certificate=str(pair.certificate), tls__key=str(pair.key)) as server:
        front = server.plane._fronts[0]
        copy = socket.socket(fileno=os.dup(parents.fileno()))
        served: Any = asyncio.run_coroutine_threadsafe(front.serve(copy, backlog=8), server.loop)
        served.result(PATIENCE_S)
        with SecureRaw(parents.getsockname(), authority.client()) as connection:
            assert connection.send(DOUBLE).reply().status == 200
