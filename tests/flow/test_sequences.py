"""Stateful models behind every front door: whose state it is, what rows are told, and how sequences end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tests.flow.serving import Answer, Server, serve
from tests.support import stateful_models as models
from tests.support.onnx_models import doubler
from tests.support.raw_http import wait_until

from taxiway.core.errors import InvalidConfig

PATIENCE_S = 20.0
LONG_IDLE = "max_sequence_idle_microseconds: 60000000"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stateful")
    models.accumulator(folder / "direct")
    models.accumulator(folder / "oldest", strategy="oldest { max_candidate_sequences: 8 }")
    models.accumulator(folder / "single", max_batch_size=0)
    models.told(folder / "told")
    models.texts(folder / "texts")
    models.growing(folder / "growing")
    models.accumulator(folder / "brief", more="max_sequence_idle_microseconds: 100000", max_batch_size=1)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository) as running:
        yield running


def ask(server: Server, model: str, x: float, **parameters: Any) -> Answer:
    """One step, as JSON over HTTP."""
    shape = [1] if model == "single" else [1, 1]
    tensor = {"name": "X", "shape": shape, "datatype": "FP32", "data": [x]}
    return server.ask("POST", f"/v2/models/{model}/infer", {"inputs": [tensor], "parameters": parameters})


def step(server: Server, model: str, x: float, sequence: int | str, **flags: bool) -> list[float]:
    """What a step is answered."""
    parameters = {f"sequence_{name}": flag for name, flag in flags.items()}
    answer = ask(server, model, x, sequence_id=sequence, **parameters)
    assert answer.status == 200, answer.body
    data: list[float] = answer.json()["outputs"][0]["data"]
    return data


def error(server: Server, model: str, **parameters: Any) -> str:
    """What a step that is refused is told."""
    answer = ask(server, model, 1, **parameters)
    assert answer.status == 400, answer.body
    return str(answer.json()["error"])


# --- state ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_each_sequence_has_a_state_of_its_own(server: Server, model: str) -> None:
    assert step(server, model, 1, 7, start=True) == [1]
    assert step(server, model, 10, "seven", start=True) == [10]
    assert step(server, model, 2, 7) == [3]
    assert step(server, model, 20, "seven") == [30]
    assert step(server, model, 3, 7, end=True) == [6]
    assert step(server, model, 30, "seven", end=True) == [60]
    assert step(server, model, 5, 7, start=True, end=True) == [5], "nothing is left of the one before"


def test_a_model_that_does_not_batch_has_one_sequence_at_a_time(server: Server) -> None:
    assert step(server, "single", 1, 1, start=True) == [1]
    second: Future[list[float]] = Future()
    thread = threading.Thread(target=lambda: second.set_result(step(server, "single", 5, 2, start=True, end=True)))
    thread.start()
    assert step(server, "single", 2, 1, end=True) == [3]
    assert second.result(PATIENCE_S) == [5], "it waited in the backlog until the first one was over"
    thread.join()


def test_a_start_begins_a_sequence_anew(server: Server) -> None:
    assert step(server, "direct", 1, 11, start=True) == [1]
    assert step(server, "direct", 2, 11, start=True) == [2]
    assert step(server, "direct", 3, 11, end=True) == [5]


def test_a_step_that_fails_leaves_the_state_as_it_was(server: Server) -> None:
    def grow(*data: float, **flags: bool) -> Answer:
        tensor = {"name": "X", "shape": [1, len(data)], "datatype": "FP32", "data": list(data)}
        named = {f"sequence_{name}": flag for name, flag in flags.items()}
        body = {"inputs": [tensor], "parameters": {"sequence_id": 12, **named}}
        return server.ask("POST", "/v2/models/growing/infer", body)

    assert grow(1, start=True).json()["outputs"][0]["data"] == [0, 1]
    assert grow(2, 3).json()["outputs"][0]["data"] == [0, 1, 2, 3], "the state has another shape each time"
    assert grow(1000).status == 500
    assert grow(4, end=True).json()["outputs"][0]["data"] == [0, 1, 2, 3, 4]


def test_texts_are_states_too(server: Server) -> None:
    def say(text: str, **flags: bool) -> str:
        tensor = {"name": "X", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
        named = {f"sequence_{name}": flag for name, flag in flags.items()}
        body = {"inputs": [tensor], "parameters": {"sequence_id": 13, **named}}
        answer = server.ask("POST", "/v2/models/texts/infer", body)
        assert answer.status == 200, answer.body
        return str(answer.json()["outputs"][0]["data"][0])

    assert say("b", start=True) == "Once: b", "it began with what its file says"
    assert say("c") == "Once: bc"
    assert say("d", end=True) == "Once: bcd"


# --- what rows are told --------------------------------------------------------------------------------


def test_rows_are_told_what_they_are(server: Server) -> None:
    # X, START, END, ID, ready rows, rows
    assert step(server, "told", 5, 21, start=True) == [5, 1, 0, 21, 1, 1]
    assert step(server, "told", 6, 21) == [6, 0, 0, 21, 1, 1]
    assert step(server, "told", 8, 22, start=True) == [8, 1, 0, 22, 1, 2], "the first row is there, and is not ready"
    assert step(server, "told", 7, 21, end=True) == [7, 0, 1, 21, 1, 1]
    assert step(server, "told", 9, 22, end=True) == [9, 0, 1, 22, 1, 2], "it keeps its row"


def test_an_id_must_be_one_that_the_model_can_be_told(server: Server) -> None:
    assert "sequence_id 'x' is text" in error(server, "told", sequence_id="x", sequence_start=True)
    assert "does not fit" in error(server, "told", sequence_id=2**63, sequence_start=True)


# --- refusals ------------------------------------------------------------------------------------------


def test_what_is_no_step_of_a_sequence_is_refused_in_tritons_words(server: Server) -> None:
    no_id = "inference request to model 'direct' must specify a non-zero or non-empty correlation ID"
    assert error(server, "direct") == error(server, "direct", sequence_id=0, sequence_start=True) == no_id
    assert error(server, "direct", sequence_id="") == no_id
    assert error(server, "direct", sequence_id=99) == (
        "inference request for sequence 99 to model 'direct' must specify the START flag on the first request of the "
        "sequence"
    )
    tensor = {"name": "X", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}
    body = {"inputs": [tensor], "parameters": {"sequence_id": 1, "sequence_start": True}}
    answer = server.ask("POST", "/v2/models/direct/infer", body)
    assert answer.json()["error"] == (
        "inference request to model 'direct' must specify batch-size 1 due to requirements of sequence batcher"
    )


def test_an_idle_sequence_gives_its_place_away(server: Server) -> None:
    assert step(server, "brief", 1, 31, start=True) == [1]
    assert step(server, "brief", 2, 32, start=True) == [2], "there is one place: it was waited for"
    assert "START flag" in error(server, "brief", sequence_id=31)


def test_a_deadline_in_the_backlog_ends_the_sequence(repository: Path, tmp_path: Path) -> None:
    models.accumulator(tmp_path / "full", max_batch_size=1, more="max_sequence_idle_microseconds: 1000000")
    with serve(tmp_path) as server:
        assert step(server, "full", 1, 1, start=True) == [1]
        late = ask(server, "full", 1, sequence_id=2, sequence_start=True, timeout=20_000)
        assert late.status == 504
        assert late.json()["error"] == "timeout of the corresponding sequence has been expired"
        assert step(server, "full", 2, 1, end=True) == [3]


# --- clients -------------------------------------------------------------------------------------------


def _input(client: Any, x: float) -> list[Any]:
    tensor = client.InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[x]], np.float32))
    return [tensor]


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
def test_generate_goes_through_sequences_too(server: Server, verb: str) -> None:
    flat = {"X": 1, "sequence_id": 61}
    for total, flags in ((1.0, {"sequence_start": True}), (2.0, {}), (3.0, {"parameters": {"sequence_end": True}})):
        answer = server.ask("POST", f"/v2/models/direct/{verb}", {**flat, **flags})
        assert (answer.status, f'"SUM":{total}'.encode() in answer.body) == (200, True), answer.body
    refused = server.ask("POST", f"/v2/models/direct/{verb}", {**flat, "sequence_start": "yes"})
    assert (refused.status, refused.json()["code"]) == (422, "generate-invalid")


def test_tritonclient_over_http(server: Server) -> None:
    with triton_http.InferenceServerClient(server.http.removeprefix("http://")) as client:
        sums = [
            float(
                client.infer(
                    "direct",
                    _input(triton_http, x),
                    sequence_id=41,
                    sequence_start=x == 1,
                    sequence_end=x == 4,
                ).as_numpy("SUM")[0, 0]
            )
            for x in (1, 2, 3, 4)
        ]
    assert sums == [1, 3, 6, 10]


def test_tritonclient_over_grpc(server: Server) -> None:
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        for sequence in (42, "forty-two"):
            sums = [
                float(
                    client.infer(
                        "oldest",
                        _input(triton_grpc, x),
                        sequence_id=sequence,
                        sequence_start=x == 1,
                        sequence_end=x == 4,
                    ).as_numpy("SUM")[0, 0]
                )
                for x in (1, 2, 3, 4)
            ]
            assert sums == [1, 3, 6, 10]


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_tritonclient_on_a_stream_sends_ahead(server: Server, model: str) -> None:
    """Steps that wait behind each other are run in order, and those of several sequences together."""
    told: SimpleQueue[Any] = SimpleQueue()
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: told.put((result, error)))
        for x in range(1, 51):
            for number in (51, 52, 53):
                client.async_stream_infer(
                    model,
                    _input(triton_grpc, x * number),
                    request_id=f"{number}/{x}",
                    sequence_id=number,
                    sequence_start=x == 1,
                    sequence_end=x == 50,
                )
        sums: dict[str, float] = {}
        for _ in range(150):
            result, problem = told.get(timeout=PATIENCE_S)
            assert problem is None, problem
            sums[result.get_response().id] = float(result.as_numpy("SUM")[0, 0])
        client.stop_stream()
    assert sums == {f"{number}/{x}": number * x * (x + 1) / 2 for number in (51, 52, 53) for x in range(1, 51)}


def test_many_callers_at_once_never_see_each_others_state(server: Server) -> None:
    """More sequences than places, each caller waiting for each answer."""
    failures: list[str] = []

    def call(number: int) -> None:
        for round_ in range(3):
            total = 0.0
            for x in range(1, 6):
                total += x * number
                got = step(server, "direct", x * number, number, start=x == 1, end=x == 5)
                if got != [total]:
                    failures.append(f"{number}, round {round_}: {got}, not {total}")

    callers = [threading.Thread(target=call, args=(100 + n,)) for n in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures
    stats = server.ask("GET", "/v2/models/direct/stats").json()["model_stats"][0]
    assert stats["inference_count"] == stats["inference_stats"]["success"]["count"]
    assert max(entry["batch_size"] for entry in stats["batch_stats"]) <= 4


# --- the model's own story -----------------------------------------------------------------------------


def test_callers_see_no_tensors_but_theirs(server: Server) -> None:
    told = server.ask("GET", "/v2/models/direct").json()
    assert [tensor["name"] for tensor in told["inputs"]] == ["X"]
    assert [tensor["name"] for tensor in told["outputs"]] == ["SUM"]
    config = server.ask("GET", "/v2/models/direct/config").json()["sequence_batching"]
    assert config["max_sequence_idle_microseconds"] == 1_000_000
    assert config["direct"] == {"max_queue_delay_microseconds": 0, "minimum_slot_utilization": 0.0}


def test_other_models_heed_no_sequences(tmp_path: Path) -> None:
    doubler(tmp_path / "doubler.onnx")
    with serve(tmp_path / "doubler.onnx") as server:
        body = {
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}],
            "parameters": {"sequence_id": 5, "sequence_end": True},
        }
        assert server.ask("POST", "/v2/models/doubler/infer", body).json()["outputs"][0]["data"] == [2, 4]


def test_several_workers_are_refused(tmp_path: Path) -> None:
    models.accumulator(tmp_path / "m")
    with pytest.raises(InvalidConfig, match="stateful") as caught, serve(tmp_path, workers=2):
        pass
    assert "--workers 1" in caught.value.hint


def test_a_sequence_may_end_while_the_server_stops(tmp_path: Path) -> None:
    models.accumulator(tmp_path / "m", more=LONG_IDLE)
    with serve(tmp_path, limits__drain_timeout_s=20) as server:
        assert step(server, "m", 1, 1, start=True) == [1]
        server.stop()
        wait_until(lambda: server.ask("GET", "/v2/health/ready").status == 503, "the server to stop")
        refused = ask(server, "m", 1, sequence_id=2, sequence_start=True)
        assert refused.status == 503
        assert "stopped accepting new inference requests" in refused.json()["error"]
        assert step(server, "m", 2, 1) == [3]
        assert step(server, "m", 3, 1, end=True) == [6]


def test_a_reload_answers_what_waits_and_ends_the_sequences(tmp_path: Path) -> None:
    models.accumulator(tmp_path / "m", more=LONG_IDLE)
    with serve(tmp_path, models__control="explicit") as server:
        assert step(server, "m", 1, 1, start=True) == [1]
        models.accumulator(tmp_path / "m", more=LONG_IDLE, strategy="oldest {}")
        assert server.ask("POST", "/v2/repository/models/m/load").status == 200
        assert "START flag" in error(server, "m", sequence_id=1)
        assert step(server, "m", 5, 1, start=True, end=True) == [5]
