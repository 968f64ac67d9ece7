"""TLS at the HTTP front door and the metrics port: real clients, every way of framing, and every way of failing."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from tests.flow.serving import Server, serve
from tests.support import onnx_models, slow_models
from tests.support.certificates import Authority, Pair, SecureRaw, swap_link
from tests.support.keys import write_keys
from tests.support.raw_http import PATIENCE_S, Raw, Reply, infer, request, wait_until

MIB = 1 << 20
WIDE = 2_621_440
"""Elements of 10 MiB of FP32."""
DOUBLE = infer("double", [[1, 2]], "FP32")
BINARY_ANSWER = {"binary_data_output": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    onnx_models.doubler(folder / "image.onnx", WIDE)
    slow_models.widener(folder / "wide.onnx")
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca.pem")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue(authority.path.parent / "server")


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return authority.client()


@pytest.fixture(scope="module")
def running(folder: Path, pair: Pair) -> Iterator[Server]:
    with serve(
        folder,
        tls__certificate=str(pair.certificate),
        tls__key=str(pair.key),
        limits__max_body_bytes=12 * MIB,
    ) as running:
        yield running


@pytest.fixture
def impatient(folder: Path, pair: Pair) -> Iterator[Server]:
    with serve(
        folder,
        tls__certificate=str(pair.certificate),
        tls__key=str(pair.key),
        limits__header_timeout_s=0.3,
        limits__write_timeout_s=0.3,
    ) as running:
        yield running
        wait_until(lambda: _held(running) == (0, 0), "nothing is held or open")


def _held(server: Server) -> tuple[int, int]:
    """Bytes and connections."""
    return server.plane._admission.bytes, server.plane._statistics.open_connections


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """That server, checked after each test: it owes nothing and holds nothing."""
    yield running
    wait_until(lambda: _held(running) == (0, 0), "nothing is held or open")


def _scrape(server: Server, context: ssl.SSLContext) -> dict[str, float]:
    host, port = re.fullmatch(r"https://(.+):(\d+)", server.metrics).groups()  # type: ignore[union-attr]
    with SecureRaw((host, int(port)), context) as connection:
        text = connection.send(request("GET", "/metrics")).reply().body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def _handshakes(server: Server, outcome: str) -> int:
    return server.plane._statistics.handshakes[outcome]


def _ask(server: Server, context: ssl.SSLContext, raw: bytes = DOUBLE) -> Reply:
    with SecureRaw(server.address, context) as connection:
        return connection.send(raw).reply()


# --- what works without TLS works with it ---------------------------------------------------------------


def test_the_addresses_say_so(server: Server) -> None:
    assert server.http.startswith("https://127.0.0.1:")
    assert server.metrics.startswith("https://127.0.0.1:")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian: apt-get install curl)")
def test_curl(server: Server, authority: Authority) -> None:
    command = ["curl", "-sv", "--max-time", "20", "--cacert", str(authority.path), server.url("/v2/health/ready")]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == {"ready": True}
    assert "ALPN: server accepted http/1.1" in told.stderr
    assert "TLSv1.3" in told.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_field_s_client(server: Server, authority: Authority) -> None:
    client = triton.InferenceServerClient(
        server.http.removeprefix("https://"),
        ssl=True,
        ssl_context_factory=lambda: ssl.create_default_context(cafile=authority.path),
    )
    try:
        values = np.arange(WIDE, dtype=np.float32).reshape(1, WIDE)
        given = triton.InferInput("x", [1, WIDE], "FP32")
        given.set_data_from_numpy(values)
        for _ in range(2):
            assert np.array_equal(client.infer("image", [given]).as_numpy("y"), values + values)
    finally:
        client.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_ten_megabytes_in_pieces_of_every_size(server: Server, authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.client()
    context.maximum_version = context.minimum_version = version
    values = np.arange(WIDE, dtype=np.float32)
    one = {"name": "x", "shape": [1, WIDE], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    document = json.dumps({"inputs": [one], "parameters": BINARY_ANSWER}).encode()
    length = f"Inference-Header-Content-Length: {len(document)}"
    raw = request("POST", "/v2/models/image/infer", document + values.tobytes(), length)
    with SecureRaw(server.address, context) as connection:
        for step in (16_001, 300_000, len(raw)):
            connection.send(*(raw[start : start + step] for start in range(0, len(raw), step)))
            reply = connection.reply()
            assert reply.status == 200, reply.body[:500]
            got = np.frombuffer(reply.body[int(reply.headers["inference-header-content-length"]) :], np.float32)
            assert np.array_equal(got, values + values)


def test_a_chunked_body_and_one_byte_at_a_time(server: Server, context: ssl.SSLContext) -> None:
    head, _, body = DOUBLE.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    chunked = b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""])
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with SecureRaw(server.address, context) as connection:
        assert connection.send(chunked).reply().output() == [2, 4]
        assert connection.send(*(DOUBLE[i : i + 1] for i in range(len(DOUBLE)))).reply().output() == [2, 4]


def test_pipelined_requests_are_answered_in_order(server: Server, context: ssl.SSLContext) -> None:
    """More than limits.max_pipelined, in one record and many, so that reading stops and goes on."""
    count = 300
    raw = b"".join(infer("double", [[n, n]], "FP32") for n in range(count))
    with SecureRaw(server.address, context) as connection:
        connection.send(raw)
        assert [connection.reply().output()[0] for _ in range(count)] == [2 * n for n in range(count)]


def test_a_large_body_between_small_ones_in_one_breath(server: Server, context: ssl.SSLContext) -> None:
    """The connection changes who reads in the middle of what is already decrypted."""
    large = infer("image", [[0.5] * 200_000], "FP32")
    with SecureRaw(server.address, context) as connection:
        connection.send(DOUBLE + large + DOUBLE)
        assert [connection.reply().status for _ in range(3)] == [200, 400, 200]


def test_a_slow_reader_gets_all_and_what_is_unread_counts(server: Server, context: ssl.SSLContext) -> None:
    with SecureRaw(server.address, context, receive_buffer=32_768) as connection:
        connection.send(infer("wide", [[7]], "FP32", parameters=BINARY_ANSWER))
        wait_until(lambda: _held(server)[0] > MIB, "the unread answer counts")
        assert len(connection.reply().body) > 10 * MIB
        connection.send(DOUBLE)
        assert connection.reply().output() == [2, 4]


def test_who_stops_reading_is_cut(impatient: Server, context: ssl.SSLContext) -> None:
    with SecureRaw(impatient.address, context, receive_buffer=4096) as deaf:
        deaf.send(infer("wide", [[7]], "FP32", parameters=BINARY_ANSWER))
        wait_until(lambda: _held(impatient)[0] > MIB, "the unread answer counts")
        wait_until(lambda: _held(impatient) == (0, 0), "it is cut")


def test_the_last_answer_is_followed_by_a_proper_end(server: Server, context: ssl.SSLContext) -> None:
    """A client that checks for truncation finds none: `recv` gives an end of file, not an error."""
    context.check_hostname = True
    with SecureRaw(server.address, context) as connection:
        assert connection.send(request("GET", "/v2", None, "Connection: close")).reply().status == 200
        connection.tls.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # Python's own name for it
        assert connection.tls.recv(1) == b""


def test_a_refused_sender_reads_why(server: Server, context: ssl.SSLContext) -> None:
    """Its body is still on its way when the answer comes."""
    with SecureRaw(server.address, context) as connection:
        connection.send(request("POST", "/v2/models/double/infer", None, "Content-Length: 90000000"), b"x" * 100_000)
        assert connection.reply().status == 413
        assert connection.at_end()


def test_who_says_goodbye_is_let_go(server: Server, context: ssl.SSLContext) -> None:
    with SecureRaw(server.address, context) as connection:
        connection.send(DOUBLE).reply()
        assert connection.tls.unwrap() is not None  # raises unless the other side says goodbye too


# --- handshakes ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(server: Server, authority: Authority) -> None:
    before = _handshakes(server, "failed")
    context = authority.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        SecureRaw(server.address, context)
    wait_until(lambda: _handshakes(server, "failed") == before + 1, "it is counted")


@pytest.mark.parametrize("ciphers", ["AES256-GCM-SHA384", "ECDHE+AES+SHA256:ECDHE+AES+SHA384", "DHE"])
def test_weak_ciphers_are_refused(server: Server, authority: Authority, ciphers: str) -> None:
    """No forward secrecy, no authenticated encryption, slow key exchange."""
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    if ciphers.startswith("ECDHE"):
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA")
    with pytest.raises(ssl.SSLError):
        SecureRaw(server.address, context)


def test_plain_http_is_told_so(server: Server) -> None:
    with Raw(server.address) as connection:
        reply = connection.send(DOUBLE).reply()
        assert reply.status == 400
        assert "HTTPS" in reply.json()["error"]
        assert connection.at_end()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_an_unfinished_handshake_ends_in_time(impatient: Server, said: bytes) -> None:
    with Raw(impatient.address) as connection:
        connection.send(said)
        assert connection.at_end()
    assert _handshakes(impatient, "late") == 1


def test_a_client_that_goes_during_the_handshake_is_counted(server: Server) -> None:
    before = _handshakes(server, "gone")
    connection = socket.create_connection(server.address)
    connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    wait_until(lambda: _handshakes(server, "gone") == before + 1, "it is counted")


def test_nonsense_is_counted_and_hurts_nobody(server: Server, context: ssl.SSLContext) -> None:
    before = _handshakes(server, "failed")
    with SecureRaw(server.address, context) as good:
        for said in (b"\x00" * 100, b"\xff" * 70_000, b"\x16\x03\x01\x00\x05hello"):
            with Raw(server.address) as connection:
                connection.send(said)
                while not connection.at_end():
                    connection._read = b""
        assert good.send(DOUBLE).reply().output() == [2, 4]
    wait_until(lambda: _handshakes(server, "failed") == before + 3, "they are counted")


def test_handshakes_count_against_the_connections(folder: Path, pair: Pair, context: ssl.SSLContext) -> None:
    with serve(
        folder, tls__certificate=str(pair.certificate), tls__key=str(pair.key), limits__max_connections=2
    ) as server:
        with Raw(server.address) as silent, SecureRaw(server.address, context) as open_one:
            wait_until(lambda: len(server.plane._fronts[0]._handshaking) == 1, "one is shaking hands")
            with pytest.raises(OSError):  # noqa: PT011 - reset or end of file, whichever is first
                SecureRaw(server.address, context)
            assert open_one.send(DOUBLE).reply().status == 200
            silent.socket.close()
        wait_until(lambda: not server.plane._fronts[0]._handshaking, "there is room again")
        assert _ask(server, context).status == 200


def test_a_server_that_leaves_waits_for_no_handshake_and_no_goodbye(
    folder: Path, pair: Pair, context: ssl.SSLContext
) -> None:
    """Idle clients of a pool do not read, so they never hear that we go."""
    with serve(folder, tls__certificate=str(pair.certificate), tls__key=str(pair.key)) as server:
        silent = Raw(server.address)
        idle = SecureRaw(server.address, context)
        idle.send(DOUBLE).reply()
        wait_until(lambda: len(server.plane._fronts[0]._handshaking) == 1, "one is shaking hands")
    for connection in (silent, idle):
        with connection:
            assert connection.at_end()


# --- client certificates ---------------------------------------------------------------------------------


def test_client_certificates_are_asked_for_and_checked(folder: Path, pair: Pair, tmp_path: Path) -> None:
    clients, strangers = Authority(tmp_path / "clients.pem"), Authority(tmp_path / "strangers.pem")
    server_ca = Authority(tmp_path / "server.pem")
    pair = server_ca.issue(tmp_path / "server")
    known, stranger = clients.issue(tmp_path / "known", "shop"), strangers.issue(tmp_path / "stranger", "shop")
    files = {"certificate": pair.certificate, "key": pair.key, "client_ca": clients.path}
    flags = {f"tls__{key}": str(path) for key, path in files.items()}
    with serve(folder, http__host="0.0.0.0", **flags) as server:  # noqa: S104
        server.http = server.http.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert _ask(server, server_ca.client(known)).status == 200
        assert _scrape(server, server_ca.client(known))["taxiway_http_open_connections"] == 0
        for shown in (None, stranger):
            assert _is_cut_off(server, server_ca.client(shown))
        wait_until(lambda: _handshakes(server, "failed") == 2, "they are counted")
        assert server.plane._statistics.accepted_connections == 1


def _is_cut_off(server: Server, context: ssl.SSLContext) -> bool:
    """Of TLS 1.3 the client's half is over before the server has looked at its certificate."""
    try:
        _ask(server, context)
    except (OSError, AssertionError):
        return True
    return False


def test_keys_and_tls_together(folder: Path, pair: Pair, context: ssl.SSLContext, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", a="infer")
    flags = {"tls__certificate": str(pair.certificate), "tls__key": str(pair.key), "auth__keys_file": str(keys)}
    with serve(folder, **flags) as server:
        assert _ask(server, context).status == 401
        assert _ask(server, context, infer("double", [[1, 2]], "FP32", "X-API-Key: key-a")).status == 200


# --- rotation --------------------------------------------------------------------------------------------


def _serial(server: Server, context: ssl.SSLContext) -> str:
    with SecureRaw(server.address, context) as connection:
        return str(connection.tls.getpeercert()["serialNumber"])  # type: ignore[index]


def test_a_swapped_certificate_and_authority_hold_for_new_connections(folder: Path, tmp_path: Path) -> None:
    """As cert-manager and Kubernetes do it; what is open stays open, and no session outlives its authority."""
    server_ca = Authority(tmp_path / "server-ca.pem")
    old, new = (Authority(tmp_path / f"{name}.pem") for name in ("old", "new"))
    for name, clients in (("one", old), ("two", new)):
        server_ca.issue(tmp_path / name)
        (tmp_path / name / "ca.crt").write_bytes(clients.path.read_bytes())
    live = tmp_path / "data"
    live.symlink_to(tmp_path / "one")
    flags = {
        "tls__certificate": str(live / "tls.crt"),
        "tls__key": str(live / "tls.key"),
        "tls__client_ca": str(live / "ca.crt"),
    }
    theirs, ours = (
        server_ca.client(clients.issue(tmp_path / f"client-{index}", "c")) for index, clients in enumerate((old, new))
    )
    with serve(folder, **flags) as server, SecureRaw(server.address, theirs) as veteran:
        assert veteran.send(DOUBLE).reply().status == 200
        session = veteran.tls.session
        assert _ask(server, theirs).status == 200
        swap_link(live, tmp_path / "two")
        wait_until(lambda: server.plane._tls._reloads == 1, "the files are read again")  # type: ignore[union-attr]
        assert _ask(server, ours).status == 200
        with pytest.raises(OSError), _resumed(server, theirs, session) as secured:  # noqa: PT011, PT012
            secured.sendall(DOUBLE)
            assert not secured.session_reused
            if not secured.recv(1):
                raise ConnectionResetError("the server closed it")
        assert veteran.send(DOUBLE).reply().status == 200


@contextlib.contextmanager
def _resumed(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None) -> Iterator[ssl.SSLSocket]:
    """A connection that would rather go on with an old session than show a certificate."""
    with (
        socket.create_connection(server.address, timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secured,
    ):
        yield secured


def test_a_session_may_go_on_while_its_authority_holds(server: Server, authority: Authority) -> None:
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose tickets come with the handshake
    with SecureRaw(server.address, context) as first:
        first.send(DOUBLE).reply()
        session = first.tls.session
    with _resumed(server, context, session) as secured:
        assert secured.session_reused


def test_rotation_under_load_loses_nothing(folder: Path, authority: Authority, tmp_path: Path) -> None:
    """New connections all the time, while certificates are swapped, halves are written and pairs do not match."""
    for name in ("one", "two"):
        authority.issue(tmp_path / name)
    live = tmp_path / "data"
    live.symlink_to(tmp_path / "one")
    flags = {"tls__certificate": str(live / "tls.crt"), "tls__key": str(live / "tls.key")}
    stop = threading.Event()
    answered: list[int] = []
    problems: list[BaseException] = []

    def call(server: Server) -> None:
        context = authority.client()
        try:
            with SecureRaw(server.address, context) as kept:
                while not stop.is_set():
                    answered.append(_ask(server, context).status)
                    answered.append(kept.send(DOUBLE).reply().status)
        except BaseException as problem:  # noqa: BLE001 - handed to the test
            problems.append(problem)

    with serve(folder, **flags) as server:
        files = server.plane._tls
        assert files is not None
        callers = [threading.Thread(target=call, args=(server,), daemon=True) for _ in range(3)]
        for caller in callers:
            caller.start()
        first = _serial(server, authority.client())
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "tls.crt").write_bytes((tmp_path / "two" / "tls.crt").read_bytes())
        (broken / "tls.key").write_bytes((tmp_path / "one" / "tls.key").read_bytes())
        swap_link(live, broken)
        wait_until(lambda: files._failed_reloads == 1, "the pair that does not match is refused")
        (broken / "tls.key").write_bytes((tmp_path / "two" / "tls.key").read_bytes()[:100])
        wait_until(lambda: files._failed_reloads == 2, "half a key is refused")
        assert _serial(server, authority.client()) == first
        (broken / "tls.key").write_bytes((tmp_path / "two" / "tls.key").read_bytes())
        wait_until(lambda: files._reloads == 1, "the whole pair is taken")
        assert _serial(server, authority.client()) != first
        swap_link(live, tmp_path / "one")
        wait_until(lambda: _serial(server, authority.client()) == first, "it is back")
        stop.set()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert problems == []
    assert set(answered) == {200}
    assert len(answered) > 50
