"""Recording a workload from a server: what is kept, what is not, who may, and the command."""

from __future__ import annotations

import base64
import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler
from tests.support.raw_http import wait_until

from taxiway.cli import control_client
from taxiway.cli.control_client import ControlClient
from taxiway.core.errors import InternalError, Unavailable
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


def test_a_second_recording_is_refused_and_leaves_the_first_alone(server: Server) -> None:
    assert server.ask("POST", RECORDING, ALL).status == 200
    infer(server, 1, 2)
    refused = server.ask("POST", RECORDING, {"share": 0.5, "most": 7})
    assert (refused.status, refused.json()["code"]) == (409, "failed-precondition")
    assert "recorded already: 1 of its requests, with inputs" in refused.json()["error"]
    assert "30 s" in refused.json()["hint"]
    infer(server, 3, 4)
    assert (len(told := fetch(server)["requests"]), "raw" in told[0]["inputs"][0]) == (2, True)
    server.ask("POST", f"{RECORDING}/end", {})
    assert server.ask("POST", RECORDING, ALL).status == 200


def test_what_is_held_at_the_end_can_be_fetched_if_it_is_to_be_kept(server: Server) -> None:
    server.ask("POST", RECORDING, ALL)
    infer(server, 1, 2)
    assert server.ask("POST", f"{RECORDING}/end", {"keep": True}).status == 200
    infer(server, 3, 4)
    told = fetch(server)
    assert (len(told["requests"]), told["seen"], told["held"]) == (1, 1, 0)
    assert server.ask("POST", f"{RECORDING}/fetch", {}).status == 404
    assert server.ask("POST", f"{RECORDING}/end", b"").status == 200
    assert server.ask("POST", f"{RECORDING}/end", {"keep": 3}).status == 400


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


@contextmanager
def recording(server: Server, output: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command, once it has fetched five requests."""
    command = [sys.executable, "-m", "taxiway", "record", "doubler", "--sample", "1", "--url", server.url("")]
    with subprocess.Popen(
        [*command, "-o", str(output), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            running = server.plane._recording._running
            wait_until(lambda: "doubler" in running or process.poll() is not None, "it records")
            for value in range(5):
                infer(server, value, value)
            wait_until(lambda: not running["doubler"].recorder.held, "all is fetched")
            yield process
        finally:
            process.kill()


def test_what_was_fetched_is_written_when_the_server_goes(tmp_path: Path) -> None:
    output = tmp_path / "workload.jsonl"
    with (
        serve(doubler(tmp_path / "doubler.onnx"), recording__mode="inputs") as server,
        recording(server, output, "--with-inputs") as process,
    ):
        server.stop()
        said, failed = process.communicate(timeout=30)
    assert process.returncode == 5, failed
    assert "5 of 5 requests written" in said
    assert "ended early" in said
    assert len(read_workload(output).requests) == 5
    assert {entry.name for entry in tmp_path.iterdir()} == {"doubler.onnx", "workload.jsonl"}


def test_what_was_fetched_is_written_when_somebody_else_ends_it(server: Server, tmp_path: Path) -> None:
    with recording(server, tmp_path / "workload.jsonl") as process:
        server.ask("POST", f"{RECORDING}/end", {})
        _, failed = process.communicate(timeout=30)
    assert (process.returncode, "no recording of model 'doubler' runs" in failed) == (3, True), failed
    assert len(read_workload(tmp_path / "workload.jsonl").requests) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_time_does(server: Server, tmp_path: Path, number: int) -> None:
    output = tmp_path / "workload.jsonl"
    with recording(server, output) as process:
        os.kill(process.pid, number)
        said, failed = process.communicate(timeout=30)
    assert process.returncode == 0, failed
    assert "5 of 5 requests written" in said
    assert len(read_workload(output).requests) == 5
    assert server.ask("POST", f"{RECORDING}/fetch", {}).status == 404


def test_its_time_ends_it_however_much_is_asked(server: Server, tmp_path: Path) -> None:
    output, over = tmp_path / "workload.jsonl", threading.Event()

    def load() -> None:
        while not over.is_set():
            infer(server, 1, 2)

    asking = [threading.Thread(target=load) for _ in range(4)]
    try:
        with recording(server, output, "--for", "1") as process:
            for thread in asking:
                thread.start()
            said, failed = process.communicate(timeout=30)
    finally:
        over.set()
        for thread in asking:
            thread.join()
    assert process.returncode == 0, failed
    assert "0 dropped" in said
    times = read_workload(output).times_s()
    assert times is not None
    assert times[-1] < 5


def test_a_folder_that_is_not_there_is_told_before_anything_is_recorded(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "taxiway", "record", "doubler", "--url", server.url("")]
    done = subprocess.run([*command, "-o", str(tmp_path / "no" / "w")], capture_output=True, text=True, check=False)
    assert (done.returncode, "cannot be written" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("body", "said"), [(b"<html>", "did not answer in JSON: <html>"), (b"[" + b"1," * 999, "more than 0 MiB")]
)
def test_an_answer_that_cannot_be_read_is_no_server_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, body: bytes, said: str
) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None: ...

    monkeypatch.setattr(control_client, "_MAX_ANSWER_BYTES", 1000)
    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            client = ControlClient(f"http://127.0.0.1:{other.server_port}", "", "", "me")
            with pytest.raises(InternalError) as caught:
                client.get("/x")
        finally:
            other.shutdown()
    assert said in caught.value.message
    with pytest.raises(Unavailable, match="cannot be reached"):
        client.get("/x")
