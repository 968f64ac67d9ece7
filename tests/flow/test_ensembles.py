"""Ensembles of real models over HTTP and gRPC: their answers, errors, statistics, traces, and how they come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flow.serving import Server, serve
from tests.support import ensembles, onnx_models
from tests.support.ensembles import graph, step

SUMS = step("sums", {"a": "A", "b": "B"}, {"SUM": "sum", "DIFFERENCE": "difference"})
DOUBLED = (SUMS, step("doubler", {"x": "sum"}, {"y": "TWICE"}), step("doubler", {"x": "difference"}, {"y": "APART"}))


def repository(root: Path) -> Path:
    """Two models, and an ensemble whose name comes before theirs."""
    onnx_models.two_outputs(root / "sums" / "1" / "model.onnx")
    onnx_models.doubler(root / "doubler" / "1" / "model.onnx")
    ensembles.write(root, "apart", graph(*DOUBLED))
    return root


def row(name: str, *values: float) -> dict[str, Any]:
    return {"name": name, "shape": [1, 2], "datatype": "FP32", "data": list(values)}


BODY = {"id": "7", "inputs": [row("A", 5, 4), row("B", 1, 2)]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(repository(tmp_path)) as running:
        yield running


def test_it_answers_as_its_models_do_one_after_the_other(server: Server) -> None:
    answer = server.ask("POST", "/v2/models/apart/infer", BODY)
    assert answer.status == 200, answer.body
    told = answer.json()
    assert (told["id"], told["model_name"], told["model_version"]) == ("7", "apart", "1")
    assert {one["name"]: one["data"] for one in told["outputs"]} == {"TWICE": [12, 12], "APART": [8, 4]}
