"""Real clients, unchanged: tritonclient.http, tritonclient.http.aio and perf_analyzer."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support import onnx_models
from tools.perf_analyzer import PerfAnalyzerUnavailable, ensure_perf_analyzer

CACHE = Path(__file__).resolve().parents[2] / ".cache"
http = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")


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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_perf_analyzer_profiles_over_http(server: Server, tmp_path: Path) -> None:
    try:
        command = ensure_perf_analyzer(CACHE)
    except PerfAnalyzerUnavailable as problem:
        pytest.skip(f"perf_analyzer cannot be had here: {problem}")
    report = tmp_path / "report.json"
    load = ["--concurrency-range", "4", "--measurement-mode", "count_windows", "--measurement-request-count", "200"]
    done = subprocess.run(
        [*command, "-m", "both", "-u", _address(server), "-i", "http", *load, "--profile-export-file", str(report)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Throughput" in done.stdout
    requests = json.loads(report.read_text())["experiments"][0]["requests"]
    assert len(requests) >= 200
