"""A decoupled Triton `model.py` in a process of its own, from its sender to every kind of client."""

from __future__ import annotations

import json
import queue
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.flow.serving import Server, serve
from tests.support.raw_http import wait_until

_CONFIG = """\
backend: "python"
input { name: "count" data_type: TYPE_INT32 dims: [ 1 ] }
input { name: "text" data_type: TYPE_STRING dims: [ 1 ] optional: true }
output { name: "number" data_type: TYPE_INT32 dims: [ 1 ] }
output { name: "text" data_type: TYPE_STRING dims: [ 1 ] }
model_transaction_policy { decoupled: true }
"""
_MODEL = '''\
"""Answers `count` times, from a thread; after a negative count with an error among the answers; for ever from 1000."""
import itertools
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.answer, args=(request, request.get_response_sender())).start()
        return None

    def answer(self, request, sender):
        count = int(pb_utils.get_input_tensor_by_name(request, "count").as_numpy()[0])
        text = pb_utils.get_input_tensor_by_name(request, "text")
        for number in itertools.count() if count >= 1000 else range(abs(count)):
            if request.is_cancelled():
                open(CANCELLED, "a").write(request.request_id() + "\\n")
                break
            tensors = [pb_utils.Tensor("number", np.array([number], np.int32))]
            if text is not None:
                tensors.append(pb_utils.Tensor("text", text.as_numpy()))
            if count < 0 and number == 1:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("not this one")))
            else:
                sender.send(pb_utils.InferenceResponse(output_tensors=tensors))
            if count >= 1000:
                time.sleep(0.01)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
'''


@pytest.fixture(scope="module")
def cancelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model writes the ids of requests that were taken back."""
    return tmp_path_factory.mktemp("model") / "cancelled"


@pytest.fixture(scope="module")
def server(cancelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models") / "counter"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(_CONFIG)
    (folder / "1" / "model.py").write_text(f"CANCELLED = {str(cancelled)!r}\n{_MODEL}")
    with serve([folder.parent]) as server:
        yield server


def _asked(count: int, **members: Any) -> str:
    one = {"name": "count", "shape": [1], "datatype": "INT32", "data": [count]}
    return json.dumps({**members, "inputs": [one]})


def _curl(server: Server, verb: str, body: str, *flags: str) -> list[str]:
    url = server.url(f"/v2/models/counter/{verb}")
    done = subprocess.run(
        ["curl", "-sN", *flags, url, "-d", body], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.splitlines()


def test_curl_reads_events(server: Server) -> None:
    lines = [line.removeprefix("data: ") for line in _curl(server, "infer_stream", _asked(3)) if line]
    assert [json.loads(line)["outputs"][0]["data"] for line in lines] == [[0], [1], [2]]


def test_curl_reads_lines(server: Server) -> None:
    lines = _curl(server, "infer_stream", _asked(-3), "-H", "Accept: application/x-ndjson")
    told = [json.loads(line) for line in lines]
    assert [one.get("error") or one["outputs"][0]["data"] for one in told] == [[0], "not this one", [2]]


def test_curl_reads_generated_texts(server: Server) -> None:
    lines = [line for line in _curl(server, "generate_stream", '{"count": 2, "text": "hi"}') if line]
    named = '"model_name":"counter","model_version":"1"'
    assert lines == [f'data: {{{named},"number":{number},"text":"hi"}}' for number in (0, 1)]


def test_one_answer_answers_a_unary_call(server: Server) -> None:
    assert server.ask("POST", "/v2/models/counter/infer", _asked(1).encode()).json()["outputs"][0]["data"] == [0]
    assert server.ask("POST", "/v2/models/counter/infer", _asked(2).encode()).status == 501
    assert server.ask("POST", "/v2/models/counter/infer", _asked(0).encode()).status == 501


def test_a_client_that_goes_is_told_to_the_model(server: Server, cancelled: Path) -> None:
    url = server.url("/v2/models/counter/infer_stream")
    with subprocess.Popen(["curl", "-sN", url, "-d", _asked(1000, id="gone")], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        assert curl.stdout.readline().startswith(b"data: ")
        curl.kill()
    wait_until(lambda: cancelled.exists() and "gone" in cancelled.read_text().split(), "the model has heard of it")


def test_triton_s_client_reads_streams(server: Server) -> None:
    with triton.InferenceServerClient(server.grpc) as client:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for identity, count in (("a", 2), ("b", -2)):
            tensor = triton.InferInput("count", [1], "INT32")
            tensor.set_data_from_numpy(np.array([count], np.int32))
            client.async_stream_infer("counter", [tensor], request_id=identity, enable_empty_final_response=True)
        got = [answers.get(timeout=20) for _ in range(6)]
        client.stop_stream()
    finals = {"a": 0, "b": 0}
    numbers = []
    for result, error in got:
        if error is not None:
            assert "not this one" in str(error)
            continue
        response = result.get_response()
        if response.parameters["triton_final_response"].bool_param:
            finals[response.id] += 1
        else:
            numbers.append((response.id, result.as_numpy("number").tolist()))
    assert finals == {"a": 1, "b": 1}
    assert sorted(numbers) == [("a", [0]), ("a", [1]), ("b", [0])]
