"""Credentials of a gRPC server that follow changed files: the certificate shown, and the authorities trusted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tests.support.certificates import Authority, Pair, swap_link

from taxiway.config.settings import TlsSettings
from taxiway.server.tls import TlsFiles
from taxiway.server.wire.grpc.credentials import credentials_of

PATIENCE_S = 10.0


@contextmanager
def _serving(files: TlsFiles) -> Iterator[str]:
    """A server that answers everything with what it was asked."""
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        echo = grpc.unary_unary_rpc_method_handler(lambda body, _context: body)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", {"echo": echo})])
        port = server.add_secure_port("127.0.0.1:0", credentials_of(files))
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@contextmanager
def _connected(address: str, trusted: Authority, shown: Pair | None = None) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own: grpcio shares them otherwise."""
    key, chain = (None, None) if shown is None else (shown.key.read_bytes(), shown.certificate.read_bytes())
    credentials = grpc.ssl_channel_credentials(trusted.path.read_bytes(), key, chain)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, credentials, options) as channel:
        yield channel


def _status(channel: grpc.Channel) -> grpc.StatusCode:
    try:
        assert channel.unary_unary("/test/echo", None, None)(b"hello", timeout=PATIENCE_S) == b"hello"
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _ask(address: str, trusted: Authority, shown: Pair | None = None) -> grpc.StatusCode:
    with _connected(address, trusted, shown) as channel:
        return _status(channel)


def test_new_connections_get_the_new_certificate_and_old_ones_live_on(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old.pem"), Authority(tmp_path / "new.pem")
    pair = old.issue(tmp_path / "pair")
    files = TlsFiles(TlsSettings(certificate=str(pair.certificate), key=str(pair.key)))
    with _serving(files) as address, _connected(address, old) as veteran:
        assert _status(veteran) is grpc.StatusCode.OK
        assert _ask(address, new) is grpc.StatusCode.UNAVAILABLE
        new.issue(tmp_path / "pair")
        files.reload()
        assert _ask(address, new) is grpc.StatusCode.OK
        assert _ask(address, old) is grpc.StatusCode.UNAVAILABLE
        assert _status(veteran) is grpc.StatusCode.OK


def test_new_connections_are_judged_by_the_new_authority(tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours.pem")
    clients = [Authority(tmp_path / f"{name}.pem") for name in ("one", "two")]
    for authority in clients:
        pair = ours.issue(tmp_path / authority.path.stem)
        (pair.key.parent / "ca.crt").write_bytes(authority.path.read_bytes())
    one, two = (authority.issue(tmp_path / f"client-{authority.path.stem}") for authority in clients)
    live = tmp_path / "data"
    live.symlink_to(tmp_path / "one")
    names = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
    files = TlsFiles(TlsSettings(**{key: str(live / name) for key, name in names.items()}))
    with _serving(files) as address:
        told = [_ask(address, ours, shown).name for shown in (one, two, None)]
        assert told == ["OK", "UNAVAILABLE", "UNAVAILABLE"]
        swap_link(live, tmp_path / "two")
        files.reload()
        told = [_ask(address, ours, shown).name for shown in (one, two, None)]
        assert told == ["UNAVAILABLE", "OK", "UNAVAILABLE"]


def test_a_broken_pair_leaves_what_is_in_force(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca.pem")
    pair = authority.issue(tmp_path / "pair")
    files = TlsFiles(TlsSettings(certificate=str(pair.certificate), key=str(pair.key)))
    with _serving(files) as address:
        pair.key.write_bytes(b"")
        files.reload()
        assert _ask(address, authority) is grpc.StatusCode.OK


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """The library writes refused handshakes to standard error itself."""
