"""A stateful model.py, unchanged, on a real Triton and on taxiway: one story, the same answers, word for word."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any, Final

import pytest
from tests.flow.serving import serve
from tests.support import stateful_models
from tools.oracle_triton import TritonInstall, TritonServer

PATIENCE_S: Final = 20.0
START: Final = {"sequence_start": True}
END: Final = {"sequence_end": True}
STORY: Final[tuple[tuple[float, int, dict[str, Any]], ...]] = (
    (1, 1, {}),
    (1, 1, {"sequence_id": 0, **START}),
    (1, 1, {"sequence_id": "", **START}),
    (1, 1, {"sequence_id": 5}),
    (1, 2, {"sequence_id": 5, **START}),
    (1, 1, {"sequence_id": 5, **START}),
    (2, 1, {"sequence_id": 5}),
    (10, 1, {"sequence_id": 6, **START}),
    (3, 1, {"sequence_id": 5, **START}),
    (4, 1, {"sequence_id": 5, **END}),
    (4, 1, {"sequence_id": 5, **END}),
    (20, 1, {"sequence_id": 6, **END}),
    (7, 1, {"sequence_id": 8, **START, **END}),
    (7, 1, {"sequence_id": 8}),
)
"""What is sent: a number, in so many rows, with these parameters."""
MODELS: Final = {"direct": "direct {}", "oldest": "oldest { max_candidate_sequences: 4 }"}


def _ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())
    finally:
        connection.close()


def _tell(port: int, model: str) -> list[tuple[int, Any]]:
    """What each step of the story is answered, then what is told of the model."""
    told = []
    for number, rows, parameters in STORY:
        tensor = {"name": "X", "shape": [rows, 1], "datatype": "FP32", "data": [number] * rows}
        body = {"inputs": [tensor], "parameters": parameters}
        told.append(_ask(port, "POST", f"/v2/models/{model}/infer", body))
    status, config = _ask(port, "GET", f"/v2/models/{model}/config")
    told.append((status, config["sequence_batching"]))
    status, stats = _ask(port, "GET", f"/v2/models/{model}/stats")
    (one,) = stats["model_stats"]
    told.append((status, [one["inference_count"], one["execution_count"], one["inference_stats"]["success"]["count"]]))
    return told


@pytest.mark.slow
def test_a_stateful_model_has_the_same_story(triton_install: TritonInstall, tmp_path: Path) -> None:
    for name, strategy in MODELS.items():
        stateful_models.triton_counter(tmp_path / name, strategy=strategy)
    with TritonServer(triton_install, tmp_path) as triton:
        theirs = {model: _tell(triton.http_port, model) for model in MODELS}
    with serve(tmp_path, compat="triton") as server:
        ours = {model: _tell(server.address[1], model) for model in MODELS}
    assert ours == theirs
