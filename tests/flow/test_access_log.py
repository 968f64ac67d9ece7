"""The access log: one line for each request, however it ends, and none held back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
from tests.flow.serving import Server, serve
from tests.support import onnx_models, slow_models
from tests.support.certificates import Authority, SecureRaw
from tests.support.keys import write_keys
from tests.support.raw_http import Raw, infer, request, wait_until
from tritonclient.utils import InferenceServerException

DOUBLE = infer("double", [[1, 2]], "FP32")
BODY_BYTES = len(DOUBLE.partition(b"\r\n\r\n")[2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    slow_models.sleeper(folder / "slow.onnx")
    return folder


Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What the access log holds so far."""
    caplog.set_level("INFO")

    def told() -> list[dict[str, Any]]:
        return [record.__dict__["taxiway_fields"] for record in caplog.records if record.name == "taxiway.access"]

    return told


def _send(server: Server, *raw: bytes) -> list[int]:
    with Raw(server.address) as connection:
        return [connection.send(one).reply().status for one in raw]


def test_a_line_says_who_asked_what_and_what_came_of_it(folder: Path, lines: Lines) -> None:
    with serve(folder, log__access=True) as server, Raw(server.address) as connection:
        host, port = connection.socket.getsockname()
        reply = connection.send(infer("double", [[1, 2]], "FP32", "X-Request-Id: abc-1")).reply()
        (line,) = lines()
        assert line.pop("duration_ms") > 0
        head_bytes = line.pop("bytes_out") - len(reply.body)
        assert 50 < head_bytes < 200
        assert line == {
            "peer": f"{host}:{port}",
            "method": "POST",
            "path": "/v2/models/double/infer",
            "status": 200,
            "bytes_in": BODY_BYTES,
            "model": "double",
            "request_id": "abc-1",
        }


def test_every_request_has_one_line_in_the_order_of_answers(folder: Path, lines: Lines) -> None:
    with serve(folder, log__access=True) as server:
        assert _send(server, *[DOUBLE] * 30) == [200] * 30
        _send(server, request("GET", "/v2/models/double/versions/1/config?secret=1"), request("GET", "/nowhere"))
        _send(server, request("POST", "/v2/models/double/infer", b"{"), request("PUT", "/v2"))
        server.scrape()
    assert [(line["method"], line["path"], line["status"]) for line in lines()[30:]] == [
        ("GET", "/v2/models/double/versions/1/config", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/v2/models/double/infer", 400),
        ("PUT", "/v2", 405),
        ("GET", "/metrics", 200),
    ]
    assert lines()[30]["version"] == "1"
    assert len(lines()) == 35


def test_what_is_refused_before_it_is_complete_has_a_line_too(folder: Path, lines: Lines) -> None:
    with serve(folder, log__access=True, limits__max_body_bytes=1000) as server:
        _send(server, request("POST", "/v2/models/double/infer", None, "Content-Length: 5000"))
        _send(server, b"\x16\x03\x01\x02\x00\x01")
    first, second = lines()
    assert (first["path"], first["status"], first["model"], first["bytes_in"]) == (
        "/v2/models/double/infer",
        413,
        "double",
        0,
    )
    assert (second["status"], "path" in second) == (400, False)


def test_a_client_that_went_before_its_answer_is_written_499(folder: Path, lines: Lines) -> None:
    with serve(folder, log__access=True, execution__mode="thread") as server:
        with Raw(server.address) as connection:
            connection.send(infer("slow", [[3000]], "INT64"))
            wait_until(lambda: server.plane._admission.requests == 1, "it is taken")
        wait_until(lambda: len(lines()) == 1, "it is written")
        wait_until(lambda: server.plane._admission.requests == 0, "nothing is owed")
    assert [(line["path"], line["status"], line["bytes_out"]) for line in lines()] == [
        ("/v2/models/slow/infer", 499, 0)
    ]


def test_callers_are_named_and_their_keys_are_not(folder: Path, lines: Lines, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", shop="infer")
    with serve(folder, log__access=True, auth__keys_file=str(keys)) as server:
        large = "Content-Length: 5000"
        _send(server, infer("double", [[1, 2]], "FP32", "X-API-Key: key-shop"), DOUBLE)
        _send(server, request("POST", "/v2/models/double/infer", None, "X-API-Key: key-nobody", large))
    assert [(line.get("caller"), line["path"], line["status"]) for line in lines()] == [
        ("shop", "/v2/models/double/infer", 200),
        (None, "/v2/models/double/infer", 401),
        (None, "/v2/models/double/infer", 401),
    ]
    assert "key-" not in str(lines())


def test_without_a_key_the_client_certificate_names_the_caller(folder: Path, lines: Lines, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca.pem")
    pair, client = authority.issue(tmp_path / "server"), authority.issue(tmp_path / "client", "shop")
    files = {"certificate": pair.certificate, "key": pair.key, "client_ca": authority.path}
    flags = {f"tls__{name}": str(path) for name, path in files.items()}
    with (
        serve(folder, log__access=True, **flags) as server,
        SecureRaw(server.address, authority.client(client)) as connection,
    ):
        assert connection.send(DOUBLE).reply().status == 200
    assert [line["caller"] for line in lines()] == ["shop"]


def test_it_is_off_unless_asked_for(folder: Path, lines: Lines) -> None:
    with serve(folder) as server:
        assert _send(server, DOUBLE) == [200]
    assert lines() == []


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_line_names_the_trace(folder: Path, lines: Lines) -> None:
    with serve(folder, log__access=True) as server:
        _send(server, infer("double", [[1, 2]], "FP32", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"))
        _send(server, infer("double", [[1, 2]], "FP32", "traceparent: nonsense"))
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            client.is_server_live(headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"})
        wait_until(lambda: len(lines()) == 3, "each has its line")
    assert [line.get("trace_id") for line in lines()] == [TRACE, None, TRACE]


def test_what_went_well_is_sampled_and_what_did_not_is_not(folder: Path, lines: Lines) -> None:
    with serve(folder, log__access=True, log__access_share=0.0) as server:
        _send(server, DOUBLE, infer("nobody", [[1]], "FP32"), infer("double", [[1, 2, 3]], "FP32"))
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            client.is_server_live()
            with pytest.raises(InferenceServerException):
                client.get_model_metadata("nobody")
        wait_until(lambda: len(lines()) >= 3, "those that failed have their lines")
    assert [line["status"] for line in lines()] == [404, 400, 5]


def test_what_was_slow_is_told(folder: Path, lines: Lines) -> None:
    with serve(folder, log__access=True, log__access_share=0.0, log__slow_ms=0.0) as server:
        _send(server, DOUBLE)
        wait_until(lambda: len(lines()) == 1, "it has its line")
