"""HTTP/1.1 as clients really speak it, well and badly, to a server in a process of its own."""

from __future__ import annotations

import gzip
import json
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support import onnx_models, slow_models
from tests.support.raw_http import PATIENCE_S, Process, Raw, Reply, infer, request, serve_process, wait_until

MIB = 1 << 20
LONG = 12_000
"""Steps of the slow model: a few tenths of a second."""
DOUBLE = infer("double", [[1, 2]], "FP32")
JSON_LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    onnx_models.doubler(folder / "any.onnx", "W")  # type: ignore[arg-type]  # a free dimension
    slow_models.sleeper(folder / "slow.onnx")
    slow_models.widener(folder / "wide.onnx")
    return folder


@pytest.fixture(scope="module")
def process(models: Path) -> Iterator[Process]:
    """Small limits, usual times."""
    limits = {
        "max_header_bytes": 2048,
        "max_headers": 20,
        "max_body_bytes": 12 * MIB,
        "max_json_depth": 8,
        "max_elements": 3_000_000,
        "max_chunks": 8,
        "max_pipelined": 16,
    }
    flags = {f"limits__{name}": value for name, value in limits.items()}
    with serve_process(models, execution__mode="thread", execution__instances=1, **flags) as running:
        yield running


@pytest.fixture
def server(process: Process) -> Iterator[Process]:
    """That process, checked after each test: it owes nothing and holds nothing."""
    yield process
    assert process.process.poll() is None
    _check_at_rest(process)


@pytest.fixture(scope="module")
def impatient_process(models: Path) -> Iterator[Process]:
    """Small times."""
    with serve_process(
        models,
        execution__mode="thread",
        execution__instances=1,
        limits__header_timeout_s=0.4,
        limits__body_timeout_s=1.0,
        limits__min_body_rate_bytes_s=10_000,
        limits__write_timeout_s=0.4,
        limits__idle_timeout_s=1.0,
    ) as running:
        yield running


@pytest.fixture
def impatient(impatient_process: Process) -> Iterator[Process]:
    yield impatient_process
    assert impatient_process.process.poll() is None
    _check_at_rest(impatient_process)


def _check_at_rest(process: Process) -> None:
    def at_rest() -> bool:
        now = process.metrics()
        return not (
            now["taxiway_http_requests_in_flight"]
            or now["taxiway_http_buffered_bytes"]
            or now["taxiway_http_open_connections"]
        )

    wait_until(at_rest, "nothing is in flight, held or open")


def _series(name: str, model: str = "slow", **labels: str) -> str:
    words = ",".join(f'{key}="{value}"' for key, value in {"model": model, "version": "1", **labels}.items())
    return f"{name}{{{words}}}"


def _hint(reply: Reply) -> str:
    return str(reply.json()["error"]) + " " + str(reply.json().get("hint", ""))


def _slow(steps: int, *headers: str, **members: Any) -> bytes:
    return infer("slow", [[steps]], "INT64", *headers, **members)


def _occupy(server: Process, steps: int = LONG) -> Raw:
    """A connection whose request is running for a while; everything else for that model queues behind it."""
    connection = server.connect().send(_slow(steps))

    def running() -> bool:
        now = server.metrics()
        return now["taxiway_http_requests_in_flight"] == 1 and now[_series("taxiway_queue_requests")] == 0

    wait_until(running, "the slow request runs")
    return connection


# --- framing -------------------------------------------------------------------------------------------


def _chunked(body: bytes, *sizes: int) -> bytes:
    pieces, position = [], 0
    for size in [*sizes, len(body)]:
        piece = body[position : position + size]
        position += len(piece)
        pieces += [b"%x\r\n%b\r\n" % (len(piece), piece)] if piece else []
    return b"".join([*pieces, b"0\r\n\r\n"])


_BODY = DOUBLE.partition(b"\r\n\r\n")[2]
_INFER = "/v2/models/double/infer"
FORMS = {
    "fixed": DOUBLE,
    "chunked": request("POST", _INFER, None, "Transfer-Encoding: chunked") + _chunked(_BODY, 1, 30),
    "gzip": request("POST", _INFER, gzip.compress(_BODY), "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("raw", FORMS.values(), ids=FORMS)
def test_a_request_may_be_cut_anywhere(server: Process, raw: bytes) -> None:
    with server.connect() as connection, server.connect() as other:
        for cut in range(1, len(raw)):
            connection.send(raw[:cut])
            other.send(request()).reply()  # by now the server has seen the first part
            assert connection.send(raw[cut:]).reply().output() == [2.0, 4.0], cut


@pytest.mark.parametrize("raw", FORMS.values(), ids=FORMS)
def test_a_request_may_come_byte_by_byte(server: Process, raw: bytes) -> None:
    with server.connect() as connection:
        assert connection.send(*(bytes([byte]) for byte in raw)).reply().output() == [2.0, 4.0]


def test_empty_lines_before_a_request_are_ignored(server: Process) -> None:
    with server.connect() as connection:
        for blank in (b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"):
            assert connection.send(blank + DOUBLE).reply().status == 200
        for first, rest in ((b"\r", b"\n"), (b"\r\n\r", b"\n"), (b"\r\n\r\n", b"")):
            assert connection.send(first, rest, DOUBLE).reply().status == 200


def test_head_gets_a_head(server: Process) -> None:
    with server.connect() as connection:
        head = connection.send(request("HEAD")).reply(to_head=True)
        assert head.status == 405
        assert int(head.headers["content-length"]) > 0
        assert connection.send(request()).reply().status == 200  # nothing of a body was in between


def test_targets_in_absolute_form(server: Process) -> None:
    assert server.ask(request("GET", "http://elsewhere/v2/health/live?a=b")).status == 200


@pytest.mark.parametrize("length", [None, 0], ids=["no-length", "length-0"])
@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: close"], False),
        ("1.0", [], False),
        ("1.0", ["Connection: keep-alive"], True),
    ],
)
def test_who_keeps_the_connection(
    server: Process, version: str, header: list[str], kept: bool, length: int | None
) -> None:
    with server.connect() as connection:
        raw = request("GET", "/v2", None if length is None else b"", *header, version=version)
        reply = connection.send(raw).reply()
        assert reply.status == 200
        assert (reply.headers.get("connection") == "close") is not kept
        if kept:
            assert connection.send(raw).reply().status == 200
        else:
            assert connection.at_end()


def test_nothing_behind_the_last_request_is_done(server: Process) -> None:
    """RFC 9112 9.6: after `Connection: close` no further request counts, and the answer must still arrive."""
    rows = _series("nv_inference_count")
    before = server.metrics()[rows]
    with server.connect() as connection:
        connection.send(_slow(100, "Connection: close") + _slow(1) * 3 + b"x" * 100_000)
        assert connection.reply().output() == [100]
        assert connection.at_end()
    _check_at_rest(server)
    assert server.metrics()[rows] == before + 1


def test_expect_100_continue(server: Process) -> None:
    head, _, body = infer("double", [[3, 4]], "FP32", "Expect: 100-continue").partition(b"\r\n\r\n")
    with server.connect() as connection:
        for _ in range(2):
            assert connection.send(head + b"\r\n\r\n").reply().status == 100
            assert connection.send(body).reply().output() == [6.0, 8.0]
        # Who did not wait is not told to go on.
        assert connection.send(head + b"\r\n\r\n" + body).reply().output() == [6.0, 8.0]


def test_a_body_that_is_too_large_is_not_asked_for(server: Process) -> None:
    raw = request("POST", _INFER, None, f"Content-Length: {100 * MIB}", "Expect: 100-continue")
    with server.connect() as connection:
        assert connection.send(raw).reply().status == 413
        assert connection.at_end()


# --- pipelining ----------------------------------------------------------------------------------------


def test_200_requests_in_one_write(server: Process) -> None:
    with server.connect() as connection:
        connection.send(b"".join(infer("double", [[n, -n]], "FP32", id=str(n)) for n in range(200)))
        for n in range(200):
            reply = connection.reply().json()
            assert reply["id"] == str(n)
            assert reply["outputs"][0]["data"] == [2 * n, -2 * n]


def test_mixed_with_slow_models_and_errors_answers_keep_their_order(server: Process) -> None:
    kinds = [
        (_slow(300), 200),
        (DOUBLE, 200),
        (infer("nobody", [[1]], "FP32"), 404),
        (request("POST", _INFER, b"{"), 400),
        (request("GET", "/nowhere"), 404),
        (request("DELETE", "/v2"), 405),
        (infer("double", [[1, 2, 3]], "FP32"), 400),
        (FORMS["chunked"], 200),
        (FORMS["gzip"], 200),
    ]
    with server.connect() as connection:
        connection.send(b"".join(raw for raw, _ in kinds) * 5)
        assert [connection.reply().status for _ in range(5 * len(kinds))] == [status for _, status in kinds] * 5


def test_order_survives_pieces_that_come_while_the_pipeline_is_full(server: Process) -> None:
    """What is kept back while too many answers are owed stays before what comes later."""
    count = 600
    raws = [infer("double", [[n, 0]], "FP32", id=str(n), parameters={"pad": "x" * (n % 50)}) for n in range(count)]
    stream = b"".join(raws)
    with server.connect() as connection:
        writer = threading.Thread(
            target=connection.send, args=[stream[start : start + 311] for start in range(0, len(stream), 311)]
        )
        writer.start()
        try:
            assert [connection.reply().json()["id"] for _ in range(count)] == [str(n) for n in range(count)]
        finally:
            writer.join(PATIENCE_S)


def test_no_more_than_max_pipelined_are_taken(server: Process) -> None:
    with _occupy(server) as running, server.connect() as connection:
        connection.send(_slow(0) * 40)
        in_flight = "taxiway_http_requests_in_flight"
        wait_until(lambda: server.metrics()[in_flight] == 17, "as many wait as may")
        assert server.ask(DOUBLE).status == 200  # another connection is none the worse
        assert server.metrics()[in_flight] <= 17
        assert running.reply().output() == [LONG]
        assert [connection.reply().output() for _ in range(40)] == [[0]] * 40


# --- large bodies --------------------------------------------------------------------------------------


def _binary(values: np.ndarray[Any, Any], *headers: str, chunked: bool = False) -> bytes:
    one = {
        "name": "x",
        "shape": [1, values.size],
        "datatype": "FP32",
        "parameters": {"binary_data_size": values.nbytes},
    }
    text = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    body = text + values.tobytes()
    headers = (*headers, f"{JSON_LENGTH}: {len(text)}")
    if chunked:
        return request("POST", "/v2/models/any/infer", None, *headers, "Transfer-Encoding: chunked") + _chunked(
            body, 10, len(body) // 2
        )
    return request("POST", "/v2/models/any/infer", body, *headers)


def _output(reply: Reply) -> np.ndarray[Any, Any]:
    assert reply.status == 200, reply.body[:1000]
    return np.frombuffer(reply.body[int(reply.headers[JSON_LENGTH.lower()]) :], np.float32)


@pytest.mark.parametrize("chunked", [False, True], ids=["fixed", "chunked"])
@pytest.mark.parametrize("size", [1, 16_000, 16_384, 16_500, 40_000, 131_072, 2_500_000])
def test_large_binary_bodies_and_what_follows_them(server: Process, size: int, chunked: bool) -> None:
    values = np.arange(size, dtype=np.float32)
    raw = _binary(values, chunked=chunked)
    with server.connect() as connection:
        writer = threading.Thread(target=connection.send, args=[(raw + DOUBLE) * 2])
        writer.start()
        for _ in range(2):
            np.testing.assert_array_equal(_output(connection.reply()), values * 2)
            assert connection.reply().output() == [2.0, 4.0]
        writer.join(PATIENCE_S)


def test_large_bodies_cut_around_the_point_where_reading_changes(server: Process) -> None:
    values = np.arange(40_000, dtype=np.float32)
    raw = _binary(values)
    start = raw.index(b"\r\n\r\n") + 4
    end = len(raw)
    with server.connect() as connection, server.connect() as other:
        for cut in (start - 1, start, start + 1, end - 65_537, end - 65_536, end - 65_535, end - 1):
            connection.send(raw[:cut])
            other.send(request()).reply()
            connection.send(raw[cut:] + DOUBLE)
            np.testing.assert_array_equal(_output(connection.reply()), values * 2)
            assert connection.reply().output() == [2.0, 4.0]


def test_large_compressed_bodies_both_ways(server: Process) -> None:
    values = np.zeros(1_000_000, np.float32)
    one = {"name": "x", "shape": [1, values.size], "datatype": "FP32", "data": [0] * values.size}
    raw = request(
        "POST",
        "/v2/models/any/infer",
        gzip.compress(json.dumps({"inputs": [one]}).encode()),  # 4 kB that stand for 3 MB
        "Content-Encoding: gzip",
        "Accept-Encoding: gzip",
    )
    with server.connect() as connection:
        reply = connection.send(raw + DOUBLE).reply()
        assert reply.headers["content-encoding"] == "gzip"
        assert json.loads(gzip.decompress(reply.body))["outputs"][0]["data"] == [0] * values.size
        assert connection.reply().output() == [2.0, 4.0]


def test_a_bomb_is_refused_and_the_connection_lives(server: Process) -> None:
    raw = request("POST", _INFER, gzip.compress(bytes(100 * MIB)), "Content-Encoding: gzip")
    before = server.resident_bytes()
    with server.connect() as connection:
        reply = connection.send(raw + DOUBLE).reply()
        assert reply.status == 413
        assert "limits.max_body_bytes" in _hint(reply)
        assert connection.reply().output() == [2.0, 4.0]
    assert server.resident_bytes() - before < 60 * MIB


# --- limits: the right status, the limit's name, and an answer that arrives ------------------------------


OVER = {
    "head": (request("GET", "/v2", None, "X: " + "x" * 3000), 431, "limits.max_header_bytes"),
    "endless-head": (b"GET /v2 HTTP/1.1\r\nX: " + b"x" * 3000, 431, "limits.max_header_bytes"),
    "header-lines": (request("GET", "/v2", None, *["A: b"] * 30), 431, "limits.max_headers"),
    "body": (
        request("POST", _INFER, None, f"Content-Length: {12 * MIB + 1}") + b"x" * (12 * MIB + 1),
        413,
        "limits.max_body_bytes",
    ),
    "body-of-a-get": (request("GET", "/v2", None, f"Content-Length: {99 * MIB}"), 413, "limits.max_body_bytes"),
    "chunked-body": (
        request("POST", _INFER, None, "Transfer-Encoding: chunked") + _chunked(b"x" * 13 * MIB, 100),
        413,
        "limits.max_body_bytes",
    ),
    "chunks": (
        request("POST", _INFER, None, "Transfer-Encoding: chunked") + _chunked(b"x" * 100, *[1] * 9),
        413,
        "limits.max_chunks",
    ),
}


@pytest.mark.parametrize(("raw", "status", "limit"), OVER.values(), ids=OVER)
def test_over_a_limit_of_framing(server: Process, raw: bytes, status: int, limit: str) -> None:
    with server.connect() as connection:
        reply = connection.send(DOUBLE + raw).reply()
        assert reply.status == 200  # what came before is answered first
        reply = connection.reply()
        assert reply.status == status
        assert limit in _hint(reply)
        assert reply.headers["connection"] == "close"
        assert connection.at_end()


def test_over_a_limit_of_content_keeps_the_connection(server: Process) -> None:
    with server.connect() as connection:
        deep: Any = 1.0
        for _ in range(12):
            deep = [deep]
        one = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": deep}
        many = {"name": "x", "shape": [1, 3_000_001], "datatype": "FP32", "data": []}
        for document, limit in ((one, "limits.max_json_depth"), (many, "limits.max_elements")):
            raw = request("POST", "/v2/models/any/infer", json.dumps({"inputs": [document]}).encode())
            reply = connection.send(raw).reply()
            assert reply.status in (400, 413)
            assert limit in _hint(reply)
        assert connection.send(DOUBLE).reply().status == 200


GARBAGE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "noise": bytes(range(256)),
    "words": b"hello world\r\n\r\n",
    "lower-case": b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
    "bare-line-feeds": b"GET /v2 HTTP/1.1\nHost: h\n\n",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no-host": b"GET /v2 HTTP/1.1\r\n\r\n",
    "two-lengths": b"POST /v2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
    "bad-chunk": b"POST /v2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_answered_at_once_and_costs_its_own_connection_only(server: Process, garbage: bytes) -> None:
    with server.connect() as connection, server.connect() as other:
        reply = connection.send(garbage).reply()
        assert reply.status == 400
        assert reply.json()["code"] == "malformed-http"
        assert connection.at_end()
        assert other.send(DOUBLE).reply().status == 200


def test_garbage_behind_a_slow_request_does_not_lose_its_answer(server: Process) -> None:
    with server.connect() as connection:
        connection.send(_slow(300) + b"\0garbage\r\n\r\n" + b"x" * MIB)
        assert connection.reply().output() == [300]
        assert connection.reply().status == 400
        assert connection.at_end()


def test_a_wrong_json_length_is_refused(server: Process) -> None:
    assert server.ask(infer("double", [[1, 2]], "FP32", f"{JSON_LENGTH}: -1")).status == 400
    assert server.ask(infer("double", [[1, 2]], "FP32", f"{JSON_LENGTH}: 1000000")).status == 400


# --- time ----------------------------------------------------------------------------------------------


def _dribble(connection: Raw, byte: bytes) -> None:
    """Send a byte now and then until the server says something."""
    for _ in range(int(PATIENCE_S / 0.02)):
        if select.select([connection.socket], [], [], 0.02)[0]:
            return
        connection.send(byte)
    pytest.fail("the server put up with it")


def test_a_dribbled_head_is_answered_408(impatient: Process) -> None:
    with impatient.connect() as connection:
        connection.send(b"GET /v2 HTTP/1.1\r\nX: ")
        _dribble(connection, b"x")
        reply = connection.reply()
        assert reply.status == 408
        assert "limits.header_timeout_s" in _hint(reply)
        assert connection.at_end()


@pytest.mark.parametrize("framing", ["Content-Length: 500000", "Transfer-Encoding: chunked"])
def test_a_dribbled_body_is_answered_408(models: Path, framing: str) -> None:
    """Long before `limits.body_timeout_s`."""
    flags = {"limits__header_timeout_s": 0.2, "limits__min_body_rate_bytes_s": 10_000}
    with serve(models / "double.onnx", **flags) as server, _raw(server) as connection:
        connection.send(request("POST", _INFER, None, framing) + (b"f000\r\n" if "chunked" in framing else b""))
        _dribble(connection, b"x")
        reply = connection.reply()
        assert reply.status == 408
        assert "limits.min_body_rate_bytes_s" in _hint(reply)
        assert connection.at_end()


@pytest.mark.parametrize("framing", ["Content-Length: 500000", "Transfer-Encoding: chunked"])
def test_a_body_that_stops_is_answered_408(impatient: Process, framing: str) -> None:
    with impatient.connect() as connection:
        begun = (b"f0000\r\n" if "chunked" in framing else b"") + b"x" * 100_000
        connection.send(request("POST", _INFER, None, framing) + begun)
        reply = connection.reply()
        assert reply.status == 408
        assert "limits.body_timeout_s" in _hint(reply)
        assert connection.at_end()


def test_an_idle_connection_is_closed_without_a_word(impatient: Process) -> None:
    with impatient.connect() as new, impatient.connect() as used:
        assert used.send(DOUBLE).reply().status == 200
        assert new.at_end()
        assert used.at_end()


def test_a_slow_answer_is_not_idleness(impatient: Process) -> None:
    with impatient.connect() as connection:
        assert connection.send(_slow(3 * LONG)).reply().output() == [3 * LONG]
        assert connection.send(DOUBLE).reply().status == 200


def test_who_does_not_read_is_cut_off_and_nobody_else(impatient: Process) -> None:
    wide = infer("wide", [[1]], "FP32", outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    with impatient.connect() as connection:
        assert len(connection.send(wide).reply().body) > 10 * MIB  # whoever reads gets it
    before = impatient.resident_bytes()
    with impatient.connect(receive_buffer=4096) as deaf:
        deaf.send(wide * 8)
        opened = "taxiway_http_open_connections"
        wait_until(lambda: impatient.metrics()[opened] == 1, "the request is taken")
        most = 0

        def cut_off() -> bool:
            nonlocal most
            most = max(most, impatient.resident_bytes() - before)
            assert impatient.ask(DOUBLE).status == 200
            return impatient.metrics()[opened] == 0

        wait_until(cut_off, "the connection is cut")
    assert most < 8 * 11 * MIB + 40 * MIB


def test_what_slow_readers_hold_counts_and_refuses_others(models: Path) -> None:
    wide = infer("wide", [[1]], "FP32", outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    flags = {"limits__max_body_bytes": MIB, "limits__max_buffered_bytes": 15 * MIB, "execution__mode": "thread"}
    with serve(models, **flags) as server:
        deaf = [Raw(server.address, receive_buffer=4096).send(wide) for _ in range(4)]

        def refuses() -> bool:
            with _raw(server) as other:
                reply = other.send(DOUBLE).reply()
                return reply.status == 503 and "limits.max_buffered_bytes" in _hint(reply)

        wait_until(refuses, "as much is held as may be")
        for connection in deaf:
            connection.socket.close()
        wait_until(lambda: "taxiway_http_buffered_bytes 0" in server.scrape(), "all is given back")
        with _raw(server) as other:
            assert other.send(DOUBLE).reply().status == 200


def test_a_slow_but_steady_reader_gets_everything(impatient: Process) -> None:
    """Ten megabytes may take longer than the time allowed for reading nothing."""
    wide = infer("wide", [[1]], "FP32", outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    with impatient.connect(receive_buffer=32_768) as connection:
        connection.send(wide)
        got = 0
        while got < 10 * MIB:
            select.select([], [], [], 0.002)
            part = connection.socket.recv(20_000)
            assert part, f"cut off after {got} bytes"
            got += len(part)


# --- leaving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("headers", [[], ["Connection: close"]], ids=["keep-alive", "close"])
def test_who_leaves_while_queued_costs_no_execution(server: Process, how: str, headers: list[str]) -> None:
    """D4 of the wire's defects: real Triton runs what nobody waits for."""
    before = server.metrics()
    executed, cancelled = _series("nv_inference_exec_count"), _series("nv_inference_request_failure", reason="CANCELED")
    queued = _series("taxiway_queue_requests")
    with _occupy(server) as running:
        leaving = [server.connect().send(_slow(1, *headers)) for _ in range(3)]
        wait_until(lambda: server.metrics()[queued] == 3, "three are queued")
        for connection in leaving:
            if how == "half-close":
                connection.socket.shutdown(1)
            else:
                if how == "reset":
                    connection.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of no seconds
                connection.socket.close()
        wait_until(lambda: server.metrics()[queued] == 0, "none is queued")
        assert running.silent()
        assert running.reply().output() == [LONG]
        for connection in leaving:
            connection.socket.close()
    after = server.metrics()
    assert after[executed] - before[executed] == 1
    assert after[cancelled] - before[cancelled] == 3


def test_who_leaves_in_the_middle_of_a_body_leaves_nothing(server: Process) -> None:
    for framing in ("Content-Length: 10000000", "Transfer-Encoding: chunked"):
        with server.connect() as connection:
            begun = (b"fffff\r\n" if "chunked" in framing else b"") + b"x" * 500_000
            connection.send(request("POST", _INFER, None, framing) + begun)
            wait_until(
                lambda: server.metrics()["taxiway_http_buffered_bytes"] >= 500_000, "the bytes are held and counted"
            )
    # The fixture checks that nothing is held afterwards.


# --- overload ------------------------------------------------------------------------------------------


def _raw(server: Server) -> Raw:
    return Raw(server.address)


def test_too_many_connections_are_answered_503(models: Path) -> None:
    with serve(models / "double.onnx", limits__max_connections=2) as server, _raw(server) as first, _raw(server):
        assert first.send(DOUBLE).reply().status == 200
        refused = [_raw(server) for _ in range(4)]
        for connection in refused:
            reply = connection.reply()  # without having asked anything
            assert reply.status == 503
            assert "limits.max_connections" in _hint(reply)
            assert int(reply.headers["retry-after"]) >= 1
        assert "taxiway_http_refused_connections_total 4" in server.scrape()
        assert first.send(DOUBLE).reply().status == 200
        first.socket.close()

        def admitted() -> bool:
            with _raw(server) as another:
                return another.send(DOUBLE).reply().status == 200

        wait_until(admitted, "a place is free: those refused, still connected, take none")
        for connection in refused:
            assert connection.at_end()
            connection.socket.close()


def test_too_many_requests_are_answered_503(models: Path) -> None:
    flags = {"limits__max_requests": 1, "execution__mode": "thread"}
    with serve(models / "slow.onnx", **flags) as server, _raw(server) as first, _raw(server) as second:
        first.send(_slow(LONG))
        wait_until(lambda: "taxiway_http_requests_in_flight 1" in server.scrape(), "one is in flight")
        reply = second.send(_slow(0)).reply()
        assert reply.status == 503
        assert "limits.max_requests" in _hint(reply)
        assert int(reply.headers["retry-after"]) >= 1
        assert first.silent()  # the answer was no, at once
        assert "taxiway_http_refused_requests_total 1" in server.scrape()
        assert first.reply().output() == [LONG]
        assert second.send(_slow(0)).reply().status == 200  # the connection was kept


def test_too_many_bytes_are_answered_503_and_given_back(models: Path) -> None:
    flags = {"limits__max_body_bytes": MIB, "limits__max_buffered_bytes": MIB, "execution__mode": "thread"}
    half = request("POST", _INFER, None, "Content-Length: 1000000") + b"x" * 700_000
    with serve([models / "double.onnx"], **flags) as server:
        with _raw(server) as first, _raw(server) as second:
            first.send(half)
            wait_until(lambda: "taxiway_http_buffered_bytes 700000" in server.scrape(), "the bytes are counted")
            reply = second.send(half).reply()
            assert reply.status == 503
            assert "limits.max_buffered_bytes" in _hint(reply)
            assert "retry-after" in reply.headers
            assert second.at_end()
        wait_until(lambda: "taxiway_http_buffered_bytes 0" in server.scrape(), "the bytes are given back")


# --- the end -------------------------------------------------------------------------------------------


def test_sigterm_answers_everything_that_was_taken(models: Path) -> None:
    flags = {"execution__mode": "thread", "execution__instances": 1, "batching__enabled": False}
    with serve_process(models, **flags) as server:
        running = _occupy(server, 8 * LONG)
        queued = [server.connect().send(_slow(10)) for _ in range(3)]
        pipelined = server.connect().send(_slow(10) + DOUBLE + request("GET", "/nowhere") + _slow(20))
        started = server.connect().send(DOUBLE[:-10])
        idle = server.connect()
        wait_until(lambda: server.metrics()[_series("taxiway_queue_requests")] == 5, "all are queued")
        server.process.send_signal(signal.SIGTERM)

        def refuses() -> bool:
            try:
                server.connect().socket.close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(refuses, "new connections are refused while the old ones are served")
        assert running.silent()
        assert running.reply().output() == [8 * LONG]
        assert [connection.reply().output() for connection in queued] == [[10]] * 3
        assert [pipelined.reply().status for _ in range(4)] == [200, 200, 404, 200]
        reply = started.send(DOUBLE[-10:]).reply()
        assert reply.status == 200  # it had begun to come
        assert reply.headers["connection"] == "close"
        for connection in (running, *queued, pipelined, started, idle):
            assert connection.at_end()
            connection.socket.close()
        assert server.process.wait(PATIENCE_S) == 0
