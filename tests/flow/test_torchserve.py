"""TorchServe's archives and its front door, over a socket; no torch is needed for handlers in plain Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as tritongrpc
from tests.flow.serving import Server, serve
from tests.support.archives import CHOOSY, ECHO, write_archive
from tests.support.keys import write_keys
from tests.support.onnx_models import doubler, echo_texts
from tests.support.raw_http import Raw

from taxiway.core.errors import TaxiwayError

BATCHING = "batchSize: 8\nmaxBatchDelay: 5\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write_archive(root / "echo" / "1" / "model.mar", ECHO)
    files = {"requirements.txt": "numpy\nno-such-package>=1\n", "model-config.yaml": BATCHING}
    write_archive(root / "choosy" / "1" / "model.mar", CHOOSY, files, configFile="model-config.yaml")
    doubler(root / "doubler" / "1" / "model.onnx")
    echo_texts(root / "texts" / "1" / "model.onnx")
    with serve(root) as running:
        yield running


def predict(server: Server, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = server.ask("POST", "/predictions/echo", body, headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
    told: dict[str, Any] = answer.json()
    return told


def choose(server: Server, word: str) -> Any:
    return server.ask("POST", "/predictions/choosy", word.encode())


# --- what a handler is given


def test_each_request_has_an_id_of_its_own_as_in_torchserve(server: Server) -> None:
    """Handlers call files and caches by it."""
    ids = [predict(server, b"x")["id"] for _ in range(2)]
    assert all(ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("content_type", "body", "kind", "value"),
    [
        ("", b"raw\xff", "bytearray", "raw\xff"),
        ("image/png", b"\x89PNG", "bytearray", "\x89PNG"),
        ("application/json", b'{"a": [1, 2]}', "dict", {"a": [1, 2]}),
        ("Application/JSON; charset=utf-8", b"[1]", "list", [1]),
        ("application/json", b"{broken", "bytearray", "{broken"),
        ("text/plain", "wörter".encode(), "str", "wörter"),
        ("text/plain", b"\xff", "bytearray", "\xff"),
    ],
)
def test_a_body_is_parsed_by_its_type(server: Server, content_type: str, body: bytes, kind: str, value: Any) -> None:
    told = predict(server, body, {"Content-Type": content_type})
    assert (told["types"], told["values"]) == ({"body": kind}, {"body": value})


def test_a_forms_fields_come_by_name(server: Server) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n'
        b"Content-Type: application/json\r\n\r\n[1]\r\n"
        b'--b\r\nContent-Disposition: form-data; name="target"\r\n\r\n3\r\n--b--\r\n'
    )
    told = predict(server, body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert told["types"] == {"data": "list", "target": "bytearray"}
    assert told["values"] == {"data": [1], "target": "3"}
    told = predict(server, b"a=1&b=x+y", {"Content-Type": "application/x-www-form-urlencoded"})
    assert told["values"] == {"a": "1", "b": "x y"}


def test_headers_are_told_but_for_credentials(server: Server) -> None:
    told = predict(server, b"", {"x-word": "w", "Authorization": "Bearer secret", "X-Request-Id": "42"})
    assert (told["header"], told["secret"], told["id"]) == ("w", None, "42")


def test_a_file_may_be_put_and_a_version_named(server: Server) -> None:
    assert server.ask("PUT", "/predictions/echo/1", b"x").json()["values"] == {"body": "x"}
    answer = server.ask("POST", "/predictions/echo/7", b"x")
    assert (answer.status, answer.json()["type"]) == (404, "ModelNotFoundException")


# --- what it answers


@pytest.mark.parametrize(
    ("word", "status", "content_type", "body"),
    [
        ("hi", 200, "text/plain; charset=utf-8", b"hi of 1"),
        ("bytes", 200, "application/octet-stream", b"\x00\xff"),
        ("teapot", 418, "text/tea", b"short and stout"),
    ],
)
def test_answers_keep_their_status_and_type(
    server: Server, word: str, status: int, content_type: str, body: bytes
) -> None:
    answer = choose(server, word)
    assert (answer.status, answer.headers["content-type"], answer.body) == (status, content_type, body)


def test_a_header_of_an_answer_stays_one_header(server: Server) -> None:
    answer = choose(server, "teapot")
    assert answer.headers["x-leaves"] == "green X-Evil: 1"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    ("word", "status", "message"),
    [
        ("refuse", 422, "not that word"),
        ("raise", 500, "the handler raised ValueError: a bad word"),
        ("short", 500, "the handler returned 0 answers for 1 requests"),
        ("object", 500, "cannot be told in JSON"),
    ],
)
def test_failures_have_torchserves_form(server: Server, word: str, status: int, message: str) -> None:
    answer = choose(server, word)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    told = answer.json()
    assert (told["code"], told["type"]) == (status, "InternalServerException")
    assert message in told["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/predictions/none", 404, "ModelNotFoundException"),
        ("POST", "/predictions/doubler", 400, "BadRequestException"),
    ],
)
def test_refusals_have_it_too(server: Server, method: str, path: str, status: int, kind: str) -> None:
    answer = server.ask(method, path, b"x")
    assert (answer.status, answer.json()["code"], answer.json()["type"]) == (status, status, kind)


def test_a_malformed_form_is_the_callers_fault(server: Server) -> None:
    for model in ("echo", "texts"):
        answer = server.ask("POST", f"/predictions/{model}", b"x", {"Content-Type": "multipart/form-data; boundary=b"})
        assert (answer.status, answer.json()["type"]) == (400, "BadRequestException"), answer.body


# --- other models


def test_a_model_of_tensors_is_asked_elsewhere(server: Server) -> None:
    told = server.ask("POST", "/predictions/doubler", b"x").json()
    assert "takes tensors (x FP32[2])" in told["message"]
    assert told["hint"] == "POST /v2/models/doubler/infer takes them"


def test_any_model_of_one_text_is_served(server: Server) -> None:
    answer = server.ask("POST", "/predictions/texts", "grüße".encode())
    assert (answer.status, answer.headers["content-type"], answer.body.decode()) == (
        200,
        "text/plain; charset=utf-8",
        "grüße",
    )
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.ask("POST", "/predictions/texts", b"anything=a", form).body == b"a"
    assert server.ask("POST", "/predictions/texts", b"other=b&data=a", form).body == b"a"
    assert server.ask("POST", "/predictions/texts", b"one=b&two=a", form).status == 400


# --- the same models over the Open Inference Protocol


def test_a_handler_is_a_model_as_any(server: Server) -> None:
    tensor = {"name": "data", "shape": [3, 1], "datatype": "BYTES", "data": ["a", "b", "c"]}
    answer = server.ask("POST", "/v2/models/choosy/infer", {"inputs": [tensor]})
    outputs = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    assert outputs["output"] == ["a of 3", "b of 3", "c of 3"]
    assert outputs["status"] == [200, 200, 200]
    assert json.loads(outputs["headers"][0]) == {"content-type": "text/plain; charset=utf-8"}


def test_one_bad_row_of_a_batch_fails_its_own_request(server: Server) -> None:
    tensor = {"name": "data", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "raise"]}
    answer = server.ask("POST", "/v2/models/choosy/infer", {"inputs": [tensor]})
    assert (answer.status, answer.json()["error"]) == (500, "the handler raised ValueError: a bad word")


def test_grpc_reaches_it(server: Server) -> None:
    with tritongrpc.InferenceServerClient(server.grpc) as client:
        given = tritongrpc.InferInput("data", [1, 1], "BYTES")
        given.set_data_from_numpy(np.array([[b'{"a": 1}']], dtype=object))
        parameters = {"content_type": "application/json"}
        told = json.loads(client.infer("echo", [given], parameters=parameters).as_numpy("output")[0, 0])
    assert told["values"] == {"body": {"a": 1}}


def test_batches_are_as_large_as_the_archive_says(server: Server) -> None:
    assert server.ask("GET", "/v2/models/echo/config").json()["max_batch_size"] == 1
    config = server.ask("GET", "/v2/models/choosy/config").json()
    assert config["max_batch_size"] == 8
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 5000


def test_what_a_handler_counts_is_scraped(server: Server) -> None:
    choose(server, "teapot")
    line = next(line for line in server.scrape().splitlines() if line.startswith("pots"))
    assert line.startswith('pots{model="choosy",version="1"}')


def test_ping(server: Server) -> None:
    answer = server.ask("GET", "/ping")
    assert (answer.status, answer.json()) == (200, {"status": "Healthy"})


def test_who_may_not_ask_is_told_in_torchserves_form(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", reader="read", other="infer:elsewhere", asker="infer:text*")
    echo_texts(tmp_path / "models" / "texts" / "1" / "model.onnx")
    with serve(tmp_path / "models", auth__keys_file=str(keys)) as server:
        for key, status in (("", 401), ("key-reader", 403), ("key-other", 403)):
            answer = server.ask("POST", "/predictions/texts", b"a", {"X-API-Key": key} if key else {})
            assert (answer.status, answer.json()["code"], answer.json()["type"]) == (
                status,
                status,
                "InvalidKeyException",
            )
        with Raw(server.address) as connection:  # whose body never comes
            reply = connection.send(b"POST /predictions/texts HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n").reply()
        assert json.loads(reply.body)["type"] == "InvalidKeyException"
        assert server.ask("POST", "/predictions/texts", b"a", {"X-API-Key": "key-asker"}).body == b"a"
        assert server.ask("GET", "/ping").status == 200


# --- loading


VOUCHED = """
import hashlib, pathlib

def handle(data, context):
    if data is None:
        return None
    packed = pathlib.Path(context.system_properties["model_dir"], "weights.bin")
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    return [str(digest in context.system_properties["trusted_pickles"]) for _ in data]
"""


@pytest.mark.parametrize("vouches", [False, True])
def test_who_vouches_for_an_archive_vouches_for_what_is_in_it(vouches: bool, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "echo" / "1" / "model.mar", VOUCHED, {"weights.bin": b"pickled"})
    digest = hashlib.sha256(archive.read_bytes() if vouches else b"another").hexdigest()
    with serve(tmp_path, models__trust=[f"sha256:{digest}"]) as server:
        assert server.ask("POST", "/predictions/echo", b"x").body == str(vouches).encode()


def test_an_unpacked_archive_is_served_as_it_lies(tmp_path: Path) -> None:
    version = tmp_path / "model" / "1"
    (version / "MAR-INF").mkdir(parents=True)
    (version / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"handler": "handler"}}')
    (version / "handler.py").write_text(ECHO)
    with serve(tmp_path) as server:
        assert server.ask("POST", "/predictions/model", b"x").json()["values"] == {"body": "x"}


@pytest.mark.parametrize(
    ("handler", "model", "reason"),
    [
        (ECHO, {"handler": ""}, "names no handler"),
        (ECHO, {"handler": "elsewhere"}, "handler 'elsewhere' is neither in the archive nor"),
        ("class One: pass", {}, "one class with such a method; it has One"),
        ("1 / 0", {}, "raised ZeroDivisionError"),
        (ECHO, {"configFile": "../../../etc/passwd"}, "outside of the archive"),
        (ECHO, {"configFile": "none.yaml"}, "cannot be read"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, handler: str, model: dict[str, str], reason: str) -> None:
    write_archive(tmp_path / "model" / "1" / "model.mar", handler, None, **model)
    with pytest.raises(TaxiwayError, match=reason), serve(tmp_path):
        pass
