"""A large binary tensor is never copied on our side: not on its way in, not on its way out."""

from __future__ import annotations

import http.client
import json
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.flow.serving import Server, serve
from tests.support import onnx_models
from tests.support.engines import engine_of

from taxiway.server.wire.bodies import BodyFiller
from taxiway.server.wire.exchange import Buffer, Exchange

ELEMENTS = 2_621_440
"""10 MiB of FP32."""


class Spy:
    """Keeps what passes by: where the kernel wrote, what the model was given and gave, what went to the transport."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
        self.read: list[memoryview] = []
        self.feeds: list[NDArray[Any]] = []
        self.results: list[NDArray[Any]] = []
        self.sent: list[Buffer] = []
        model = engine_of(server.plane._models.served[0]).model
        run, get_buffer, finish = model.run, BodyFiller.get_buffer, Exchange.finish

        def spied_run(feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
            results = run(feeds, outputs)
            self.feeds += feeds.values()
            self.results += results
            return results

        def spied_get_buffer(filler: BodyFiller, hint: int) -> memoryview:
            self.read.append(get_buffer(filler, hint))
            return self.read[-1]

        def spied_finish(exchange: Exchange, buffers: Sequence[Buffer]) -> None:
            self.sent += buffers
            finish(exchange, buffers)

        monkeypatch.setattr(model, "run", spied_run)
        monkeypatch.setattr(BodyFiller, "get_buffer", spied_get_buffer)
        monkeypatch.setattr(Exchange, "finish", spied_finish)


@pytest.mark.parametrize("mode", ["inline", "thread"])
@pytest.mark.parametrize("pad", [0, 1, 6, 33])
def test_ten_megabytes_are_read_in_place_and_sent_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, pad: int
) -> None:
    values = np.arange(ELEMENTS, dtype=np.float32)
    one = {"name": "x", "shape": [1, ELEMENTS], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    document = {"inputs": [one], "parameters": {"binary_data_output": True, "pad": "x" * pad}}
    text = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    path = onnx_models.doubler(tmp_path / "double.onnx", ELEMENTS)
    with serve(path, execution__mode=mode, execution__warmup=False) as server:
        spy = Spy(monkeypatch, server)
        answer = server.ask("POST", "/v2/models/double/infer", text + values.tobytes(), headers)
    assert answer.status == 200
    np.testing.assert_array_equal(np.frombuffer(answer.body[-values.nbytes :], np.float32), values * 2)

    (given,), (result,) = spy.feeds, spy.results
    assert given.ctypes.data % 64 == 0
    assert given.nbytes == values.nbytes
    filled = [np.frombuffer(buffer, np.uint8) for buffer in spy.read]
    assert filled, "the kernel never wrote into the body's own memory"
    assert np.shares_memory(given, filled[0])
    # The first pieces came with the head and were copied; everything else the kernel wrote where the model reads.
    assert filled[0].nbytes > 0.9 * values.nbytes
    end = given.ctypes.data + given.nbytes
    assert all(buffer.ctypes.data + buffer.nbytes == end for buffer in filled)

    tensor = np.frombuffer(spy.sent[-1], np.float32)
    assert np.shares_memory(tensor, result)
    assert (tensor.ctypes.data, tensor.nbytes) == (result.ctypes.data, result.nbytes)


def test_rows_of_a_batch_are_sent_from_the_batchs_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"name": "x", "shape": [3, 2], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
    document = {"inputs": [one], "parameters": {"binary_data_output": True}}
    with serve(onnx_models.doubler(tmp_path / "double.onnx"), execution__warmup=False) as server:
        spy = Spy(monkeypatch, server)
        assert server.ask("POST", "/v2/models/double/infer", document).status == 200
    assert np.shares_memory(np.frombuffer(spy.sent[-1], np.float32), spy.results[0])


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_a_large_body_goes_with_its_request(tmp_path: Path, mode: str) -> None:
    """Nothing keeps the last body: not the connection, not the transport's protocol, not an idle thread."""
    values = np.arange(ELEMENTS, dtype=np.float32)
    one = {"name": "x", "shape": [1, ELEMENTS], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    head = json.dumps({"inputs": [one], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
    with serve(onnx_models.doubler(tmp_path / "m.onnx", ELEMENTS), execution__mode=mode) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=20)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            connection.request("POST", "/v2/models/m/infer", head + values.tobytes(), headers)
            assert connection.getresponse().read()[-4:] == np.float32(2 * values[-1]).tobytes()
            # The connection stays open; a second, small answer shows that the server is done with the first.
            connection.request("GET", "/v2/health/ready")
            connection.getresponse().read()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            connection.close()
    assert held - before < values.nbytes // 2
