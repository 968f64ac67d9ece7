"""API keys at the HTTP front door: who gets what, what stays open, and that nobody's body is read for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flow.serving import Server, ask, serve
from tests.support import onnx_models
from tests.support.keys import write_keys
from tests.support.raw_http import Raw, infer, request, wait_until

DOUBLE = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
INFER = "/v2/models/double/infer"
MIB = 1 << 20


def _keys(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-{name}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    onnx_models.doubler(folder / "other.onnx")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = write_keys(
        tmp_path_factory.mktemp("keys") / "keys.yaml",
        caller="infer:dou*",
        reader="read",
        boss="infer,read,admin,metrics",
        prometheus="metrics",
    )
    with serve(folder, auth__keys_file=str(keys)) as running:
        yield running


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/ready", "/v2/models/double/ready", "/v1/models/double"]
)
def test_probes_need_no_key(server: Server, path: str) -> None:
    assert server.ask("GET", path).status == 200
    assert server.ask("GET", path, headers={"Authorization": "Bearer nonsense"}).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/models"),
        ("GET", "/v2/openapi.json"),
        ("GET", "/v2/models/double"),
        ("GET", "/v2/models/double/config"),
        ("GET", "/v2/models/stats"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/double/unload"),
        ("POST", INFER),
        ("POST", "/v2/models/double/generate"),
        ("POST", "/v1/models/double:predict"),
        ("POST", "/v2/no/such/path"),
        ("PUT", INFER),
    ],
)
def test_everything_else_does(server: Server, method: str, path: str) -> None:
    answer = server.ask(method, path, DOUBLE if method == "POST" else None)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthenticated"


def test_a_key_comes_in_either_header(server: Server) -> None:
    for headers in (_keys("caller"), {"X-API-Key": "key-caller"}):
        answer = server.ask("POST", INFER, DOUBLE, headers)
        assert answer.status == 200, answer.body
        assert answer.json()["outputs"][0]["data"] == [2, 4]


def test_a_key_gets_what_its_scopes_and_models_say(server: Server) -> None:
    told = {
        (name, method, path): server.ask(method, path, DOUBLE if method == "POST" else None, _keys(name)).status
        for name in ("caller", "reader", "prometheus", "boss")
        for method, path in (
            ("POST", INFER),
            ("POST", "/v2/models/other/infer"),
            ("GET", "/v2/models/double"),
            ("POST", "/v2/repository/index"),
            ("POST", "/v2/repository/models/double/unload"),
            ("GET", "/v2"),
            ("GET", "/nowhere"),
        )
    }
    statuses = {name: [status for key, status in told.items() if key[0] == name] for name, _, _ in told}
    refused = statuses["boss"][4]
    assert refused not in (200, 401, 403)  # nothing can be unloaded here; that is no matter of keys
    assert statuses == {
        "caller": [200, 403, 403, 403, 403, 200, 404],
        "reader": [403, 403, 200, 200, 403, 200, 404],
        "prometheus": [403, 403, 403, 403, 403, 200, 404],
        "boss": [200, 200, 200, 200, refused, 200, 404],
    }


def test_a_refusal_names_the_key_the_scope_and_the_model(server: Server) -> None:
    answer = server.ask("POST", "/v2/models/other/infer", DOUBLE, _keys("caller"))
    assert answer.json()["code"] == "permission-denied"
    for word in ("'caller'", "'other'", "'infer'"):
        assert word in answer.json()["error"]


def test_metrics_ask_for_their_own_scope(server: Server) -> None:
    assert ask(server.metrics, "GET", "/metrics", None, {}).status == 401
    assert ask(server.metrics, "GET", "/metrics", None, _keys("caller")).status == 403
    scraped = ask(server.metrics, "GET", "/metrics", None, _keys("prometheus"))
    assert scraped.status == 200
    assert 'taxiway_auth_refused_total{reason="no_key"}' in scraped.body.decode()


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 50000000",),
        ("Transfer-Encoding: chunked",),
        ("Content-Length: 50000000", "Expect: 100-continue"),
    ],
)
@pytest.mark.parametrize(("key", "status"), [("nobody", 401), ("reader", 403)])
def test_a_body_that_is_not_to_be_read_is_not_waited_for(
    server: Server, headers: tuple[str, ...], key: str, status: int
) -> None:
    """Nothing of it is ever sent, so an answer means that nothing of it was asked for."""
    with Raw(server.address) as connection:
        reply = connection.send(request("POST", INFER, None, f"X-API-Key: key-{key}", *headers)).reply()
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert connection.at_end()


def test_a_body_that_comes_all_the_same_takes_no_memory(server: Server) -> None:
    body = b"x" * (4 * MIB)
    with Raw(server.address) as connection:
        connection.send(request("POST", INFER, None, f"Content-Length: {8 * MIB}"), body)
        assert connection.reply().status == 401
        text = ask(server.metrics, "GET", "/metrics", None, _keys("boss")).body.decode()
        assert "\ntaxiway_http_buffered_bytes 0\n" in text


def test_a_coded_body_of_nobody_is_not_decoded(server: Server) -> None:
    with Raw(server.address) as connection:
        reply = connection.send(request("POST", INFER, b"no gzip", "Content-Encoding: gzip")).reply()
        assert reply.status == 401


def test_requests_of_several_callers_on_one_connection(server: Server) -> None:
    """As behind a proxy; a refusal of what is all there does not cost the connection."""
    ask_double = [[1, 2]]
    with Raw(server.address) as connection:
        for _ in range(2):
            connection.send(
                infer("double", ask_double, "FP32", "X-API-Key: key-caller")
                + infer("double", ask_double, "FP32")
                + infer("double", ask_double, "FP32", "X-API-Key: key-reader")
                + infer("double", ask_double, "FP32", "X-API-Key: key-boss")
            )
            assert [connection.reply().status for _ in range(4)] == [200, 401, 403, 200]


def test_a_changed_file_reaches_connections_that_are_open(folder: Path, tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys.yaml", old="infer")
    with serve(folder, auth__keys_file=str(path)) as server, Raw(server.address) as connection:
        old, new = (infer("double", [[1, 2]], "FP32", f"X-API-Key: key-{name}") for name in ("old", "new"))

        def statuses() -> list[int]:
            return [connection.send(raw).reply().status for raw in (old, new)]

        assert statuses() == [200, 401]
        write_keys(path, old="infer", new="infer")
        wait_until(lambda: statuses() == [200, 200], "the new key is known")
        write_keys(path, new="infer")
        wait_until(lambda: statuses() == [401, 200], "the old key is gone")
        path.write_text("keys: [")
        assert statuses() == [401, 200]


def test_beyond_loopback_with_keys(folder: Path, tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys.yaml", boss="infer,metrics")
    with serve(folder, http__host="0.0.0.0", metrics__host="0.0.0.0", auth__keys_file=str(path)) as server:  # noqa: S104
        assert server.http.startswith("http://0.0.0.0:")
        assert server.ask("POST", INFER, DOUBLE).status == 401
        assert server.ask("POST", INFER, DOUBLE, _keys("boss")).status == 200


def test_no_key_is_ever_logged(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_keys(tmp_path / "keys.yaml", caller="read")
    with caplog.at_level("DEBUG"), serve(folder, auth__keys_file=str(path)) as server:
        server.ask("POST", INFER, DOUBLE, _keys("caller"))
        server.ask("POST", INFER, DOUBLE, _keys("stranger"))
    refused = [record.__dict__["taxiway_fields"] for record in caplog.records if record.msg == "call_refused"]
    assert [fields["code"] for fields in refused] == ["permission-denied", "unauthenticated"]
    assert "key-" not in json.dumps([str(record.__dict__) for record in caplog.records])
