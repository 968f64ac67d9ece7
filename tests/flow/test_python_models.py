"""Triton's Python models on taxiway: what they see, say and ask, beyond what the comparison with Triton shows."""

from __future__ import annotations

import json
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flow.serving import Answer, Server, serve
from tests.support.python_models import NUMBERS, write_python_model
from tritonclient import grpc as tritonclient
from tritonclient.utils import np_to_triton_dtype

from taxiway.core.errors import InvalidModel

_PATIENCE_S = 20.0
DECOUPLED = NUMBERS + "model_transaction_policy { decoupled: true }\n"


def _ask(server: Server, model: str, numbers: Sequence[float], **more: Any) -> Answer:
    tensor = {"name": "X", "shape": [1, len(numbers)], "datatype": "FP32", "data": list(numbers)}
    return server.ask("POST", f"/v2/models/{model}/infer", {"inputs": [tensor], **more})


def _numbers(answer: Answer) -> list[float]:
    assert answer.status == 200, answer.body
    numbers: list[float] = answer.json()["outputs"][0]["data"]
    return numbers


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        threading.Event().wait(0.01)


# --- what they say ---------------------------------------------------------------------------------------

SAYING = """
class TritonPythonModel:
    def initialize(self, args):
        family = pb_utils.MetricFamily("rows_seen", "Rows, by width", pb_utils.MetricFamily.COUNTER)
        self.narrow, self.wide = family.Metric({"width": "narrow"}), family.Metric({"width": "wide"})
        self.last = pb_utils.MetricFamily("last_value", "", pb_utils.MetricFamily.GAUGE).Metric()
        sizes = pb_utils.MetricFamily("value", "Values", pb_utils.MetricFamily.HISTOGRAM)
        self.sizes = sizes.Metric({"a": "b"}, buckets=[0.5, 10])
        pb_utils.MetricFamily("nv_inference_count", "not theirs", pb_utils.MetricFamily.GAUGE).Metric().set(7)
        pb_utils.Logger.log_info("initialized")

    def execute(self, requests):
        responses = []
        for request in requests:
            x = given(request, "X").as_numpy()
            if x[0, 0] == 99:
                os.kill(os.getpid(), signal.SIGKILL)
            (self.wide if x.shape[1] > 1 else self.narrow).increment(1)
            self.last.set(float(x[0, 0]))
            self.sizes.observe(float(x[0, 0]))
            responses.append(answer("Y", x, parameters={"n": x.shape[1], "text": "é", "flag": True}))
        return responses
"""


def test_parameters_of_an_answer_reach_its_caller(tmp_path: Path) -> None:
    write_python_model(tmp_path, "saying", SAYING)
    with serve(tmp_path) as server:
        told = _ask(server, "saying", [1, 2], id="7").json()
        assert list(told) == ["id", "model_name", "model_version", "parameters", "outputs"]
        assert told["parameters"] == {"n": 2, "text": "é", "flag": True}
        with tritonclient.InferenceServerClient(server.grpc) as client:
            response = client.infer("saying", [_input([[3.0]])]).get_response()
        parameters = {name: value.WhichOneof("parameter_choice") for name, value in response.parameters.items()}
        assert parameters == {"n": "int64_param", "text": "string_param", "flag": "bool_param"}
        assert response.parameters["n"].int64_param == 1


def test_metrics_of_a_model_are_shown_and_outlive_its_process(tmp_path: Path) -> None:
    write_python_model(tmp_path, "saying", SAYING)
    with serve(tmp_path) as server:
        for numbers in ([0.25], [5, 1], [20, 1]):
            assert _ask(server, "saying", numbers).status == 200
        assert _ask(server, "saying", [99]).status == 500  # its process is gone
        assert _ask(server, "saying", [0.5]).status == 200
        shown = server.scrape()
        _wait_for(lambda: 'rows_seen{width="narrow"} 2.0' in server.scrape())
    assert "# HELP rows_seen Rows, by width" in shown
    assert 'rows_seen{width="wide"} 2.0' in shown
    assert "last_value 0.5" in shown
    assert 'value_bucket{a="b",le="0.5"} 2' in shown
    assert 'value_bucket{a="b",le="10.0"} 3' in shown
    assert 'value_count{a="b"} 4' in shown
    assert "nv_inference_count 7" not in shown


# --- answers of decoupled models -------------------------------------------------------------------------

STREAMING = """
class TritonPythonModel:
    def initialize(self, args):
        self.open = {}
        self.cancelled = pb_utils.MetricFamily("cancelled_seen", "", pb_utils.MetricFamily.COUNTER).Metric()

    def execute(self, requests):
        for request in requests:
            x = given(request, "X").as_numpy()
            what = int(x[0, 0])
            sender = request.get_response_sender()
            if what == 1:      # stays open until another request closes it
                sender.send(answer("Y", x))
                self.open[1] = sender
            elif what == 2:
                self.open.pop(1).send(answer("Y", x), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                sender.send(answer("Y", x), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            elif what == 3:
                sender.send(answer("Y", x))  # and nobody sends the end
            elif what == 4:
                threading.Thread(target=self.until_cancelled, args=(request, sender, x)).start()

    def until_cancelled(self, request, sender, x):
        sender.send(answer("Y", x))
        while not sender.is_cancelled():
            time.sleep(0.005)
        assert request.is_cancelled()
        self.cancelled.increment(1)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


class _Stream:
    """A gRPC stream and what came on it."""

    def __init__(self, server: Server) -> None:
        self._client = tritonclient.InferenceServerClient(server.grpc)
        self.answers: list[Any] = []
        self.errors: list[str] = []
        self._client.start_stream(self._take)

    def _take(self, result: Any, error: Any) -> None:
        if error is not None:
            self.errors.append(str(error))
        else:
            self.answers.append(result.as_numpy("Y").tolist())

    def ask(self, model: str, number: float) -> None:
        self._client.async_stream_infer(model, [_input([[number]])])

    def close(self, *, cancel: bool = False) -> None:
        self._client.stop_stream(cancel_requests=cancel)
        self._client.close()


def _input(rows: list[list[float]]) -> Any:
    array = np.array(rows, dtype=np.float32)
    tensor = tritonclient.InferInput("X", list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def test_others_are_executed_while_a_stream_is_open(tmp_path: Path) -> None:
    write_python_model(tmp_path, "streaming", STREAMING, DECOUPLED)
    with serve(tmp_path) as server:
        one, other = _Stream(server), _Stream(server)
        one.ask("streaming", 1)
        _wait_for(lambda: len(one.answers) == 1)
        other.ask("streaming", 2)
        _wait_for(lambda: len(one.answers) == 2 and len(other.answers) == 1)
        one.close()
        other.close()
        assert not one.errors
        assert not other.errors


def test_a_request_that_the_model_lets_go_of_ends_with_an_error(tmp_path: Path) -> None:
    write_python_model(tmp_path, "streaming", STREAMING, DECOUPLED)
    with serve(tmp_path) as server:
        stream = _Stream(server)
        stream.ask("streaming", 3)
        _wait_for(lambda: bool(stream.errors))
        stream.close()
        assert stream.answers == [[[3.0]]]
        assert "let go of this request without a final answer" in stream.errors[0]


def test_a_model_sees_that_its_caller_is_gone(tmp_path: Path) -> None:
    write_python_model(tmp_path, "streaming", STREAMING, DECOUPLED)
    with serve(tmp_path) as server:
        stream = _Stream(server)
        stream.ask("streaming", 4)
        _wait_for(lambda: bool(stream.answers))
        stream.close(cancel=True)
        _wait_for(lambda: "cancelled_seen 1.0" in server.scrape())


# --- business logic --------------------------------------------------------------------------------------

ASKING = """
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = given(request, "X").as_numpy()
        name = {1: "asking", 2: "slow", 3: "mortal"}.get(int(x[0, 0]), "doubling")
        timeout = int(x[0, 1]) if x.shape[1] > 1 else 0
        inner = pb_utils.InferenceRequest(
            model_name=name, inputs=[pb_utils.Tensor("X", x)], requested_output_names=["Y"], timeout=timeout,
            trace=request.trace(),
        )
        response = inner.exec()
        if response.has_error():
            return pb_utils.InferenceResponse(error=response.error())
        return pb_utils.InferenceResponse(response.output_tensors())
"""
DOUBLING = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer("Y", given(request, "X").as_numpy() * 2) for request in requests]
"""
SLOW = """
class TritonPythonModel:
    def execute(self, requests):
        while not all(request.is_cancelled() for request in requests):
            time.sleep(0.005)
        self.seen = pb_utils.MetricFamily("inner_cancelled", "", pb_utils.MetricFamily.COUNTER).Metric()
        self.seen.increment(1)
        return [answer("Y", given(request, "X").as_numpy()) for request in requests]
"""
MORTAL = """
class TritonPythonModel:
    def execute(self, requests):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    models = {"asking": ASKING, "doubling": DOUBLING, "slow": SLOW, "mortal": MORTAL}
    for name, code in models.items():
        write_python_model(tmp_path, name, code)
    return tmp_path


def test_models_ask_models(asking: Path) -> None:
    with serve(asking) as server:
        assert _numbers(_ask(server, "asking", [5, 0])) == [10, 0]
        died = _ask(server, "asking", [3, 0])
        assert died.status == 500
        assert "the process of model 'mortal' ended while it ran this request" in died.json()["error"]
        _wait_for(lambda: 'taxiway_model_processes{model="mortal",version="1",state="ready"} 1' in server.scrape())
        # A model that waits for itself, with one instance, waits for ever; unless it says for how long.
        late = _ask(server, "asking", [1, 50_000])
        assert late.status == 503
        assert "timeout" in late.json()["error"]
        assert _numbers(_ask(server, "asking", [6, 0])) == [12, 0]


def test_a_call_is_taken_back_with_the_request_that_it_is_made_for(asking: Path) -> None:
    with serve(asking) as server:
        late = _ask(server, "asking", [2, 0], parameters={"timeout": 200_000})
        assert late.status == 504
        _wait_for(lambda: "inner_cancelled 1.0" in server.scrape())
        _wait_for(lambda: _ask(server, "asking", [5, 0]).status == 200)


# --- loading ---------------------------------------------------------------------------------------------

COMPLETING = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]})
        config.set_max_batch_size(4)
        config.set_model_transaction_policy({"decoupled": False})
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        assert pb_utils.get_output_config_by_name(config, "Y")["dims"] == [-1]
        assert not pb_utils.using_decoupled_model_transaction_policy(config)
        assert os.path.samefile(pb_utils.get_model_dir(), os.path.dirname(__file__))
        from .beside import FACTOR
        self.factor = FACTOR

    def execute(self, requests):
        return [answer("Y", given(request, "X").as_numpy() * self.factor) for request in requests]
"""


def test_a_model_completes_its_configuration_and_imports_its_neighbours(tmp_path: Path) -> None:
    folder = write_python_model(tmp_path, "completing", COMPLETING, "")
    (folder / "1" / "beside.py").write_text("FACTOR = 5\n")
    (folder / "config.pbtxt").unlink()
    with serve(tmp_path) as server:
        config = server.ask("GET", "/v2/models/completing/config").json()
        assert config["max_batch_size"] == 4
        assert _numbers(_ask(server, "completing", [1, 2])) == [5, 10]


def test_a_model_that_contradicts_its_configuration_is_not_loaded(tmp_path: Path) -> None:
    write_python_model(tmp_path, "completing", COMPLETING, "max_batch_size: 8")
    with pytest.raises(InvalidModel, match="configuration specified max_batch_size 8"), serve(tmp_path):
        pass


def _environment(folder: Path) -> Path:
    """An environment that is this one, and says that it is another."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nOF_ITS_OWN=1 exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


WHERE = """
class TritonPythonModel:
    def execute(self, requests):
        own = float(os.environ.get("OF_ITS_OWN", 0))
        return [answer("Y", np.full((1, 1), own, dtype=np.float32)) for request in requests]
"""


@pytest.mark.parametrize("packed", [False, True])
def test_a_model_brings_its_environment(tmp_path: Path, packed: bool) -> None:
    models, kept = tmp_path / "models", tmp_path / "kept"
    named = "environment.tar.gz" if packed else "environment"
    parameter = f'key: "EXECUTION_ENV_PATH" value {{ string_value: "$$TRITON_MODEL_DIRECTORY/{named}" }}'
    folder = write_python_model(models, "where", WHERE, NUMBERS + f"parameters {{ {parameter} }}\n")
    if packed:
        with tarfile.open(folder / named, "w:gz") as tar:
            tar.add(_environment(tmp_path / "made"), ".")
    else:
        _environment(folder / named)
    for _ in range(2):  # unpacked once
        with serve(models, execution__environments=str(kept)) as server:
            assert _numbers(_ask(server, "where", [0])) == [1]
    assert len(list(kept.glob("*"))) == packed


def test_an_environment_must_stay_within_itself(tmp_path: Path) -> None:
    models, kept = tmp_path / "models", tmp_path / "kept"
    parameter = 'key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/e.tar" }'
    folder = write_python_model(models, "where", WHERE, NUMBERS + f"parameters {{ {parameter} }}\n")
    with tarfile.open(folder / "e.tar", "w") as tar:
        tar.add(_environment(tmp_path / "made"), "../outside")
    with (
        pytest.raises(InvalidModel, match="not an archive that can be unpacked"),
        serve(models, execution__environments=str(kept)),
    ):
        pass
    assert not list(kept.glob("*"))
    assert not (tmp_path / "outside").exists()


def test_the_texts_of_errors_tell_no_places_unless_asked_to(tmp_path: Path) -> None:
    code = "class TritonPythonModel:\n    def execute(self, requests):\n        raise ValueError('bad')\n"
    folder = write_python_model(tmp_path, "raising", code)
    with serve(tmp_path) as server:
        error = _ask(server, "raising", [1]).json()["error"]
    assert error == "Failed to process the request(s) for model 'raising_0', message: ValueError: bad"
    with serve(tmp_path, compat="triton") as server:
        error = json.loads(_ask(server, "raising", [1]).body)["error"]
    assert error.endswith(f"message: ValueError: bad\n\nAt:\n  {folder}/1/model.py(18): execute\n")
