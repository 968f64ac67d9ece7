"""Recording a workload from a server: what is kept, what is not, who may, and the command."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler

from taxiway.profile.filling import fill_inputs
from taxiway.profile.workload import Request, read_workload

RECORDING = "/v2/models/doubler/recording"
ALL = {"share": 1, "most": 100, "with_inputs": True}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(doubler(tmp_path / "doubler.onnx"), recording__mode="inputs") as one:
        yield one


def infer(server: Server, *values: float) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(values)], "data": list(values)}
    described = server.ask("GET", "/v2/models/doubler").json()["inputs"][0]
    answer = server.ask("POST", "/v2/models/doubler/infer", {"inputs": [{**tensor, "name": described["name"]}]})
    assert answer.status == 200, answer.body


def fetch(server: Server) -> Any:
    answer = server.ask("POST", f"{RECORDING}/fetch", {})
    assert answer.status == 200, answer.body
    return answer.json()


def test_requests_are_kept_from_when_it_begins_until_it_ends(server: Server) -> None:
    infer(server, 1, 2)
    assert server.ask("POST", RECORDING, ALL).status == 200
    infer(server, 3, 4)
    infer(server, 5, 6)
    told = fetch(server)
    infer(server, 7, 8)
    later = fetch(server)
    assert server.ask("POST", f"{RECORDING}/end", {}).status == 200
    infer(server, 9, 9)

    content = [np.frombuffer(base64.b64decode(one["inputs"][0]["raw"]), "<f4").tolist() for one in told["requests"]]
    assert content == [[3, 4], [5, 6]]
    assert told["requests"][0]["inputs"][0]["shape"] == [1, 2]
    assert (told["seen"], told["dropped"], told["held"]) == (2, 0, 0)
    assert (len(later["requests"]), later["seen"]) == (1, 3)
    gone = server.ask("POST", f"{RECORDING}/fetch", {})
    assert (gone.status, gone.json()["code"]) == (404, "not-found")


def test_shapes_only_unless_content_is_asked_for(server: Server) -> None:
    server.ask("POST", RECORDING, {"share": 1, "most": 1})
    infer(server, 1, 2)
    infer(server, 1, 2)
    told = fetch(server)
    assert [set(one["inputs"][0]) for one in told["requests"]] == [{"name", "datatype", "shape"}]


@pytest.mark.parametrize("limit", [{"recording__max_requests": 2}, {"recording__max_bytes": 500}])
def test_content_that_does_not_fit_is_dropped_and_counted(tmp_path: Path, limit: dict[str, int]) -> None:
    with serve(doubler(tmp_path / "doubler.onnx"), recording__mode="inputs", **limit) as server:
        server.ask("POST", RECORDING, ALL)
        for value in range(5):
            infer(server, value, value)
        told = fetch(server)
        assert len(told["requests"]) in (1, 2)
        assert (told["seen"], told["dropped"]) == (5, 5 - len(told["requests"]))
        infer(server, 1, 1)
        assert len(fetch(server)["requests"]) == 1


def test_nothing_is_recorded_unless_the_settings_say_so(tmp_path: Path) -> None:
    with serve(doubler(tmp_path / "doubler.onnx")) as off:
        refused = off.ask("POST", RECORDING, ALL)
        assert (refused.status, refused.json()["code"]) == (409, "failed-precondition")
        assert "--recording.mode" in refused.json()["hint"]
    with serve(doubler(tmp_path / "doubler.onnx"), recording__mode="shapes") as shapes:
        refused = shapes.ask("POST", RECORDING, ALL)
        assert (refused.status, refused.json()["code"]) == (403, "permission-denied")
        assert shapes.ask("POST", RECORDING, {**ALL, "with_inputs": False}).status == 200


@pytest.mark.parametrize(
    "wrong",
    [[], {}, {"share": 0, "most": 1}, {"share": 1, "most": 0}, {"share": True, "most": 1}, ALL | {"with_inputs": 3}],
)
def test_what_is_no_recording_is_refused(server: Server, wrong: Any) -> None:
    assert server.ask("POST", RECORDING, wrong).status == 400


@pytest.mark.parametrize("with_inputs", [True, False])
def test_the_command_writes_a_workload(server: Server, tmp_path: Path, with_inputs: bool) -> None:
    output = tmp_path / "workload.jsonl"
    words = ["doubler", "--sample", "100%", "--max", "20", "-o", str(output), "--url", server.url("")]
    command = [sys.executable, "-W", "error", "-m", "taxiway", "record", *words, *["--with-inputs"] * with_inputs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while process.poll() is None:
            infer(server, 1.5, 2)
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert "20 of " in said

    workload = read_workload(output)
    assert len(workload.requests) == 20
    times = workload.times_s()
    assert times is not None
    assert times[0] == 0
    assert (np.diff(times) >= 0).all()
    first = workload.requests[0]
    assert isinstance(first, Request)
    assert first.inputs is not None
    assert ("data" in first.inputs[0]) == with_inputs
    filled = fill_inputs(first.inputs, np.random.default_rng(0))
    answer = server.ask("POST", "/v2/models/doubler/infer", {"inputs": filled})
    assert answer.status == 200
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, "is there already" in again.stderr) == (4, True)
