"""gRPC calls that differ from an earlier one only in their numbers: a shorter way, to the same answers and counts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.flow.serving import Server, serve
from tests.support.onnx_models import cached, doubler, poisonable

from taxiway.server.batching.loop import Batcher

CALLS = 6
"""The third call of a length is the first that is familiar."""
WAIT_S = 20.0


def _ask(server: Server, model: str, datatype: str, rows: list[list[Any]], name: str) -> list[Any]:
    """Each row in a call of its own, without an id."""
    answers: list[Any] = []
    with triton.InferenceServerClient(server.grpc) as client:
        for row in rows:
            given = triton.InferInput("x", [1, len(row)], datatype)
            given.set_data_from_numpy(np.array([row], _dtype(datatype)))
            try:
                answers += client.infer(model, [given]).as_numpy(name).tolist()
            except triton.InferenceServerException as error:
                answers.append(error.message())
    return answers


def _dtype(datatype: str) -> Any:
    return {"FP32": np.float32, "INT64": np.int64}[datatype]


def _statistics(server: Server, model: str) -> dict[str, Any]:
    told: dict[str, Any] = server.ask("GET", f"/v2/models/{model}/stats").json()["model_stats"][0]
    return told


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call that asked for the shorter way went it."""
    went: list[bool] = []
    run_alone = Batcher.run_alone

    def noted(self: Batcher, request: Any) -> Any:
        outcome = run_alone(self, request)
        went.append(outcome is not None)
        return outcome

    monkeypatch.setattr(Batcher, "run_alone", noted)
    return went


def test_each_gets_its_own_answer_and_is_counted(tmp_path: Path, alone: list[bool]) -> None:
    rows = [[float(index), 1.0] for index in range(CALLS)]
    with serve(doubler(tmp_path / "doubler.onnx")) as server:
        assert _ask(server, "doubler", "FP32", rows, "y") == [[2 * a, 2 * b] for a, b in rows]
        told = _statistics(server, "doubler")
        assert (told["inference_stats"]["success"]["count"], told["inference_count"]) == (CALLS, CALLS)
        assert "taxiway_http_requests_in_flight 0" in server.scrape()
    assert alone == [True] * (CALLS - 2)


def test_one_that_fails_is_told_why_and_the_next_is_answered(tmp_path: Path, alone: list[bool]) -> None:
    rows = [[1], [2], [3], [99], [4]]
    with serve(poisonable(tmp_path / "poison.onnx")) as server:
        answers = _ask(server, "poison", "INT64", rows, "y")
        assert [answers[place] for place in (0, 1, 2, 4)] == [[10], [20], [30], [40]]
        assert "the model failed on this request" in answers[3]
        assert _statistics(server, "poison")["inference_stats"]["fail"]["count"] == 1
    assert alone == [True] * 3


def test_a_cached_model_answers_from_its_cache(tmp_path: Path, alone: list[bool]) -> None:
    with serve(cached(doubler(tmp_path / "double/1/model.onnx")), cache__max_bytes=1_000_000) as server:
        assert _ask(server, "double", "FP32", [[1.0, 2.0]] * CALLS, "y") == [[2, 4]] * CALLS
        told = _statistics(server, "double")
        assert (told["execution_count"], told["inference_stats"]["cache_hit"]["count"]) == (1, CALLS - 1)
    assert alone == []


def test_they_are_traced_while_somebody_wants_that_and_no_longer(tmp_path: Path, alone: list[bool]) -> None:
    file = tmp_path / "t.json"
    traced = {"trace__file": str(file), "trace__level": "TIMESTAMPS", "trace__rate": 1}
    with serve(doubler(tmp_path / "doubler.onnx"), **traced) as server:
        _ask(server, "doubler", "FP32", [[1.0, 2.0]] * CALLS, "y")
        assert alone == []
        server.ask("POST", "/v2/trace/setting", {"trace_level": ["OFF"]})
        assert _ask(server, "doubler", "FP32", [[1.0, 2.0]], "y") == [[2, 4]]
        assert alone == [True]
    deadline = time.monotonic() + WAIT_S
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len({part["id"] for part in json.loads(file.read_bytes())}) == CALLS
