"""Real clients, unchanged: tritonclient over HTTP and gRPC, perf_analyzer over both, and KServe's SDK."""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support import onnx_models
from tools.environments import EnvironmentUnavailable
from tools.kserve_environment import ensure_kserve
from tools.perf_analyzer import PerfAnalyzerUnavailable, ensure_perf_analyzer

CACHE = Path(__file__).resolve().parents[2] / ".cache"
SOURCES = CACHE.parent / "src"
http = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")
grpc = pytest.importorskip("tritonclient.grpc")
grpc_aio = pytest.importorskip("tritonclient.grpc.aio")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.two_outputs(folder / "both.onnx")
    onnx_models.echo_texts(folder / "texts.onnx")
    with serve(folder) as running:
        yield running


def _address(server: Server) -> str:
    host, port = server.address
    return f"{host}:{port}"


def _inputs(*, binary: bool) -> list[object]:
    made = []
    for name, values in (("a", [[5, 6], [7, 8]]), ("b", [[1, 2], [3, 4]])):
        one = http.InferInput(name, [2, 2], "FP32")
        one.set_data_from_numpy(np.asarray(values, np.float32), binary_data=binary)
        made.append(one)
    return made


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tritonclient_infers(server: Server, binary_in: bool, binary_out: bool) -> None:
    with http.InferenceServerClient(_address(server)) as client:
        outputs = [http.InferRequestedOutput(name, binary_data=binary_out) for name in ("SUM", "DIFFERENCE")]
        answer = client.infer("both", _inputs(binary=binary_in), outputs=outputs, request_id="q7")
        assert answer.as_numpy("SUM").tolist() == [[6, 8], [10, 12]]
        assert answer.as_numpy("DIFFERENCE").tolist() == [[4, 4], [4, 4]]
        assert answer.get_response()["id"] == "q7"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_compresses_both_ways(server: Server, algorithm: str) -> None:
    with http.InferenceServerClient(_address(server)) as client:
        answer = client.infer(
            "both",
            _inputs(binary=True),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        assert answer.as_numpy("SUM").tolist() == [[6, 8], [10, 12]]


def test_tritonclient_sends_texts(server: Server) -> None:
    with http.InferenceServerClient(_address(server)) as client:
        text = http.InferInput("x", [2, 1], "BYTES")
        text.set_data_from_numpy(np.asarray([["héllo".encode()], [b""]], dtype=object))
        assert client.infer("texts", [text]).as_numpy("y").tolist() == [["héllo".encode()], [b""]]


def test_tritonclient_manages(server: Server) -> None:
    with http.InferenceServerClient(_address(server)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("both", "1")
        assert client.get_server_metadata()["name"] == "taxiway"
        assert client.get_model_metadata("both")["inputs"][0]["name"] == "a"
        assert client.get_model_config("both")["max_batch_size"] > 0
        assert client.get_model_repository_index()[0]["state"] == "READY"
        before = client.get_inference_statistics("both")["model_stats"][0]["inference_count"]
        client.infer("both", _inputs(binary=True))
        after = client.get_inference_statistics("both")["model_stats"][0]["inference_count"]
        assert after - before == 2


def test_tritonclient_is_told_what_is_wrong(server: Server) -> None:
    with http.InferenceServerClient(_address(server)) as client:
        with pytest.raises(http.InferenceServerException, match=r"unknown model: 'nope'") as caught:
            client.infer("nope", _inputs(binary=True))
        assert caught.value.status() == "404"


def test_tritonclient_aio_infers_concurrently(server: Server) -> None:
    async def scenario() -> list[list[float]]:
        async with aio.InferenceServerClient(_address(server)) as client:
            answers = await asyncio.gather(*(client.infer("both", _inputs(binary=True)) for _ in range(32)))
            return [answer.as_numpy("SUM")[0].tolist() for answer in answers]

    assert asyncio.run(scenario()) == [[6, 8]] * 32


# --- over gRPC -----------------------------------------------------------------------------------------


def _grpc_inputs() -> list[object]:
    made = []
    for name, values in (("a", [[5, 6], [7, 8]]), ("b", [[1, 2], [3, 4]])):
        one = grpc.InferInput(name, [2, 2], "FP32")
        one.set_data_from_numpy(np.asarray(values, np.float32))
        made.append(one)
    return made


def test_tritonclient_infers_over_grpc(server: Server) -> None:
    with grpc.InferenceServerClient(server.grpc) as client:
        outputs = [grpc.InferRequestedOutput(name) for name in ("SUM", "DIFFERENCE")]
        answer = client.infer("both", _grpc_inputs(), outputs=outputs, request_id="q7", client_timeout=20)
        assert answer.as_numpy("SUM").tolist() == [[6, 8], [10, 12]]
        assert answer.as_numpy("DIFFERENCE").tolist() == [[4, 4], [4, 4]]
        assert answer.get_response().id == "q7"
        best = client.infer("both", _grpc_inputs(), outputs=[grpc.InferRequestedOutput("SUM", class_count=1)])
        assert best.as_numpy("SUM").tolist() == [[b"8.000000:1"], [b"12.000000:1"]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_compresses_over_grpc(server: Server, algorithm: str) -> None:
    with grpc.InferenceServerClient(server.grpc) as client:
        answer = client.infer("both", _grpc_inputs(), compression_algorithm=algorithm)
        assert answer.as_numpy("SUM").tolist() == [[6, 8], [10, 12]]


def test_tritonclient_sends_texts_over_grpc(server: Server) -> None:
    with grpc.InferenceServerClient(server.grpc) as client:
        text = grpc.InferInput("x", [2, 1], "BYTES")
        text.set_data_from_numpy(np.asarray([["héllo".encode()], [b""]], dtype=object))
        assert client.infer("texts", [text]).as_numpy("y").tolist() == [["héllo".encode()], [b""]]


def test_tritonclient_calls_back_over_grpc(server: Server) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        for _ in range(16):
            client.async_infer("both", _grpc_inputs(), callback=lambda result, error: answers.put((result, error)))
        for _ in range(16):
            result, error = answers.get(timeout=20)
            assert error is None
            assert result.as_numpy("SUM").tolist() == [[6, 8], [10, 12]]


def test_tritonclient_streams(server: Server) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for index in range(8):
            client.async_stream_infer("both", _grpc_inputs(), request_id=str(index))
        client.async_stream_infer("nope", _grpc_inputs(), request_id="lost")
        told = [answers.get(timeout=20) for _ in range(9)]
        client.stop_stream()
    assert [result.get_response().id for result, error in told if error is None] == [str(n) for n in range(8)]
    assert "unknown model: 'nope'" in str(told[-1][1])


def test_tritonclient_manages_over_grpc(server: Server) -> None:
    with grpc.InferenceServerClient(server.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("both", "1")
        assert client.get_server_metadata().name == "taxiway"
        assert client.get_model_metadata("both").inputs[0].name == "a"
        assert client.get_model_config("both").config.max_batch_size > 0
        assert {model.state for model in client.get_model_repository_index().models} == {"READY"}
        assert "trace_level" in client.get_trace_settings().settings
        assert "log_info" in client.get_log_settings().settings
        before = client.get_inference_statistics("both").model_stats[0].inference_count
        client.infer("both", _grpc_inputs())
        assert client.get_inference_statistics("both").model_stats[0].inference_count - before == 2
        with pytest.raises(grpc.InferenceServerException, match="NOT_FOUND"):
            client.infer("nope", _grpc_inputs())
        with pytest.raises(grpc.InferenceServerException, match="not allowed"):
            client.load_model("both")


def test_tritonclient_loads_over_grpc(tmp_path: Path) -> None:
    model = onnx_models.two_outputs(tmp_path / "models" / "both.onnx")
    with (
        serve(tmp_path / "models", models__control="explicit") as server,
        grpc.InferenceServerClient(server.grpc) as client,
    ):
        client.unload_model("both")
        assert not client.is_server_ready() or [one.state for one in client.get_model_repository_index().models] != []
        client.load_model("both")
        client.load_model("new", config="{}", files={"file:1/model.onnx": model.read_bytes()})
        for name in ("both", "new"):
            assert client.infer(name, _grpc_inputs()).as_numpy("SUM").tolist() == [[6, 8], [10, 12]]


def test_tritonclient_grpc_aio_infers_and_streams(server: Server) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for _ in range(4):
            yield {"model_name": "both", "inputs": _grpc_inputs()}

    async def scenario() -> tuple[list[list[float]], list[list[float]]]:
        async with grpc_aio.InferenceServerClient(server.grpc) as client:
            answers = await asyncio.gather(*(client.infer("both", _grpc_inputs()) for _ in range(32)))
            streamed = [result async for result, error in client.stream_infer(requests()) if error is None]
            return (
                [answer.as_numpy("SUM")[0].tolist() for answer in answers],
                [answer.as_numpy("SUM")[0].tolist() for answer in streamed],
            )

    assert asyncio.run(scenario()) == ([[6, 8]] * 32, [[6, 8]] * 4)


# --- tools ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_perf_analyzer_profiles(server: Server, tmp_path: Path, protocol: str) -> None:
    try:
        command = ensure_perf_analyzer(CACHE)
    except PerfAnalyzerUnavailable as problem:
        pytest.skip(f"perf_analyzer cannot be had here: {problem}")
    report = tmp_path / "report.json"
    address = {"http": _address(server), "grpc": server.grpc}[protocol]
    load = ["--concurrency-range", "4", "--measurement-mode", "count_windows", "--measurement-request-count", "200"]
    done = subprocess.run(
        [*command, "-m", "both", "-u", address, "-i", protocol, *load, "--profile-export-file", str(report)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Throughput" in done.stdout
    requests = json.loads(report.read_text())["experiments"][0]["requests"]
    assert len(requests) >= 200


KSERVE_SDK = """
import asyncio, sys
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

def request():
    inputs = []
    for name, values in (("a", [[5, 6], [7, 8]]), ("b", [[1, 2], [3, 4]])):
        one = InferInput(name, [2, 2], "FP32")
        one.set_data_from_numpy(np.asarray(values, np.float32), binary_data=False)
        inputs.append(one)
    return InferRequest(model_name="both", infer_inputs=inputs, request_id="k1")

async def main(http, grpc):
    rest = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
    assert await rest.is_server_ready(http)
    assert await rest.is_model_ready(http, "both")
    answer = await rest.infer(http, request(), model_name="both")
    assert [list(one.as_numpy().ravel()) for one in answer.outputs] == [[6, 8, 10, 12], [4, 4, 4, 4]], answer
    await rest.close()
    client = InferenceGRPCClient(grpc, timeout=20)
    assert await client.is_server_ready()
    assert await client.is_server_live()
    assert await client.is_model_ready("both")
    answer = await client.infer(request())
    assert [list(one.as_numpy().ravel()) for one in answer.outputs] == [[6, 8, 10, 12], [4, 4, 4, 4]], answer
    await client.close()

asyncio.run(main(sys.argv[1], sys.argv[2]))
print("both spoke")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kserves_sdk_speaks_both_protocols(server: Server) -> None:
    try:
        python = ensure_kserve(CACHE)
    except EnvironmentUnavailable as problem:
        pytest.skip(f"KServe's SDK cannot be had here: {problem}")
    done = subprocess.run(
        [str(python), "-I", "-c", KSERVE_SDK, server.http, server.grpc],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "both spoke" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", ["kserve", "taxiway"])
def test_d14_kserve_and_the_servers_messages_share_a_process(first: str) -> None:
    try:
        python = ensure_kserve(CACHE)
    except EnvironmentUnavailable as problem:
        pytest.skip(f"KServe's SDK cannot be had here: {problem}")
    ours = "from taxiway.server.wire.grpc.protos import message_class"
    theirs = "from kserve.protocol.grpc import grpc_predict_v2_pb2 as theirs"
    order = [theirs, ours] if first == "kserve" else [ours, theirs]
    script = [
        "import sys",
        f"sys.path.insert(0, {str(SOURCES)!r})",
        *order,
        'sent = message_class("inference.ModelInferRequest")(model_name="m", raw_input_contents=[b"x"])',
        "assert theirs.ModelInferRequest.FromString(sent.SerializeToString()).raw_input_contents[0] == b'x'",
    ]
    done = subprocess.run(
        [str(python), "-I", "-c", "\n".join(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
