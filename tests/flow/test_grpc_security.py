"""Keys, TLS and the access log on the gRPC port, with the field's client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.flow.serving import Server, serve
from tests.support import onnx_models
from tests.support.certificates import Authority, Pair, swap_link
from tests.support.keys import write_keys
from tests.support.raw_http import PATIENCE_S, wait_until

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    onnx_models.doubler(folder / "other.onnx")
    return folder


@pytest.fixture
def guarded(folder: Path, tmp_path: Path) -> Iterator[Server]:
    keys = write_keys(tmp_path / "keys.yaml", caller="infer:dou*", boss="infer,read,admin")
    with serve(folder, auth__keys_file=str(keys), log__access=True) as server:
        yield server


def _client(server: Server, trusted: Authority | None = None, shown: Pair | None = None) -> Any:
    """A client with a connection of its own."""
    files = {} if shown is None else {"private_key": str(shown.key), "certificate_chain": str(shown.certificate)}
    return triton.InferenceServerClient(
        server.grpc,
        ssl=trusted is not None,
        root_certificates=None if trusted is None else str(trusted.path),
        channel_args=[("grpc.use_local_subchannel_pool", 1)],
        **files,
    )


def _double(client: Any, model: str = "double", **headers: str) -> Any:
    given = triton.InferInput("x", [1, 2], "FP32")
    given.set_data_from_numpy(np.array([[1, 2]], np.float32))
    answer = client.infer(model, [given], headers=headers or None, client_timeout=PATIENCE_S)
    return answer.as_numpy("y").tolist()


def _refused(call: Callable[[], Any]) -> str:
    with pytest.raises(triton.InferenceServerException) as told:
        call()
    return str(told.value.status()).removeprefix("StatusCode.")


def test_keys_reach_as_far_over_grpc_as_over_http(guarded: Server) -> None:
    client = _client(guarded)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("double")
    bearer, bare = {"authorization": "Bearer key-caller"}, {"x-api-key": "key-caller"}
    assert _double(client, **bearer) == [[2, 4]]
    assert _double(client, **bare) == [[2, 4]]
    assert _refused(lambda: _double(client)) == "UNAUTHENTICATED"
    assert _refused(lambda: _double(client, **{"x-api-key": "nobody"})) == "UNAUTHENTICATED"
    assert _refused(lambda: _double(client, "other", **bare)) == "PERMISSION_DENIED"
    assert _refused(lambda: client.get_model_config("double", headers=bare)) == "PERMISSION_DENIED"
    assert _refused(lambda: client.unload_model("double", headers=bare)) == "PERMISSION_DENIED"
    assert client.get_model_metadata("double", headers={"x-api-key": "key-boss"}).name == "double"
    client.close()


def test_the_log_says_from_where_a_refused_call_came(guarded: Server, caplog: pytest.LogCaptureFixture) -> None:
    client = _client(guarded)
    assert _refused(lambda: _double(client)) == "UNAUTHENTICATED"
    assert _refused(lambda: _double(client, "other", **{"x-api-key": "key-caller"})) == "PERMISSION_DENIED"
    peers = [record.__dict__["taxiway_fields"]["peer"] for record in caplog.records if record.msg == "call_refused"]
    assert [peer.rpartition(":")[0] for peer in peers] == ["127.0.0.1", "127.0.0.1"]


def test_a_message_of_nobody_is_not_waited_for(guarded: Server) -> None:
    """It is never sent, so an answer means that nobody asked for it."""
    never = threading.Event()

    def silent() -> Iterator[bytes]:
        never.wait(PATIENCE_S)
        yield b""

    with grpc.insecure_channel(guarded.grpc) as channel:
        call = channel.stream_unary(INFER, None, None)
        try:
            with pytest.raises(grpc.RpcError) as told:
                call(silent(), timeout=PATIENCE_S, metadata=(("x-api-key", "nobody"),))
        finally:
            never.set()
    assert told.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_access_log_has_a_line_for_each_call(guarded: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    client = _client(guarded)
    client.is_server_live()
    _double(client, **{"x-api-key": "key-caller", "x-request-id": "abc-1"})
    _refused(lambda: _double(client))
    _refused(lambda: _double(client, "other", **{"x-api-key": "key-caller"}))
    answers: list[Any] = []
    told = threading.Event()

    def answered(result: Any, error: Any) -> None:
        answers.append(error)
        told.set()

    client.start_stream(answered, headers={"x-api-key": "key-caller"})
    given = triton.InferInput("x", [1, 2], "FP32")
    given.set_data_from_numpy(np.array([[1, 2]], np.float32))
    client.async_stream_infer("double", [given])
    assert told.wait(PATIENCE_S)
    client.stop_stream()
    assert answers == [None]

    def lines() -> list[dict[str, Any]]:
        return [record.__dict__["taxiway_fields"] for record in caplog.records if record.name == "taxiway.access"]

    wait_until(lambda: len(lines()) == 5, "every call has ended")
    client.close()
    names = [
        (line["path"].rpartition("/")[2], line["status"], line.get("caller"), line.get("model")) for line in lines()
    ]
    assert names == [
        ("ServerLive", 0, None, None),
        ("ModelInfer", 0, "caller", "double"),
        ("ModelInfer", grpc.StatusCode.UNAUTHENTICATED.value[0], None, None),
        ("ModelInfer", grpc.StatusCode.PERMISSION_DENIED.value[0], "caller", "other"),
        ("ModelStreamInfer", 0, "caller", None),
    ]
    assert lines()[1]["request_id"] == "abc-1"
    assert lines()[1]["bytes_in"] > 20
    assert lines()[1]["bytes_out"] > 20
    assert lines()[1]["peer"].startswith("127.0.0.1:")
    assert "key-" not in str(lines())


def test_tls_with_certificates_that_are_swapped(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, clients = Authority(tmp_path / "ours.pem"), [Authority(tmp_path / f"{name}.pem") for name in ("one", "two")]
    for authority in clients:
        pair = ours.issue(tmp_path / authority.path.stem)
        (pair.key.parent / "ca.crt").write_bytes(authority.path.read_bytes())
    one, two = (authority.issue(tmp_path / f"client-{authority.path.stem}", "shop") for authority in clients)
    live = tmp_path / "data"
    live.symlink_to(tmp_path / "one")
    names = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
    flags = {f"tls__{key}": str(live / name) for key, name in names.items()}
    caplog.set_level("INFO")
    with serve(folder, log__access=True, **flags) as server:
        veteran = _client(server, ours, one)
        assert _double(veteran) == [[2, 4]]
        assert _refused(lambda: _double(_client(server, ours))) == "UNAVAILABLE"
        assert _refused(lambda: _double(_client(server, ours, two))) == "UNAVAILABLE"
        swap_link(live, tmp_path / "two")
        wait_until(lambda: server.plane.reception.tls._reloads == 1, "the files are read again")  # type: ignore[union-attr]
        assert _double(_client(server, ours, two)) == [[2, 4]]
        assert _refused(lambda: _double(_client(server, ours, one))) == "UNAVAILABLE"
        assert _double(veteran) == [[2, 4]]
        veteran.close()
    callers = {record.__dict__["taxiway_fields"]["caller"] for record in caplog.records if record.msg == "request"}
    assert callers == {"shop"}
