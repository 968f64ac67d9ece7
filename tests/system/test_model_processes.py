"""Models in processes of their own, in a real server: what a dying one takes with it, and what is seen of that."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clients import HonestClient, Load
from tests.support.hosted import MORTAL, POISONABLE
from tests.support.raw_http import Process, Raw, infer, request, serve_process, wait_until

READY = 'taxiway_model_processes{model="mortal",version="1",state="ready"}'
DEATHS = 'taxiway_model_process_deaths_total{model="mortal",version="1"}'
TEN = infer("mortal", [[1]], "INT64")
DEADLY = infer("mortal", [[99]], "INT64")
BROKEN_AFTER = 5


def _model(folder: Path, name: str, code: str, config: str) -> None:
    file = folder / name / "1" / "predictor.py"
    file.parent.mkdir(parents=True)
    file.write_text(code)
    (file.parents[1] / "config.pbtxt").write_text(config)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    _model(tmp_path, "mortal", MORTAL, "instance_group { count: 2 }")
    _model(tmp_path, "other", POISONABLE, "")
    return tmp_path


@pytest.fixture
def server(models: Path) -> Iterator[Process]:
    with serve_process(models, log__level="error") as running:
        yield running


def _states(server: Process, model: str) -> int:
    return server.ask(request("GET", f"/v2/models/{model}/ready")).status


def test_one_that_is_killed_takes_only_what_it_held(server: Process) -> None:
    clients = [HonestClient(server.address, TEN) for _ in range(6)]
    victim = server.model_processes()[0]
    with Load(clients) as load:
        load.wait_for_answers(50)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: server.metrics().get(DEATHS) == 1, "its death is seen")
        wait_until(lambda: server.metrics()[READY] == 2, "another is started")
        load.wait_for_answers(50)
    wrong = [json.loads(reply.body)["code"] for client in clients for reply in client.wrong]
    assert set(wrong) <= {"model-process-died"}
    assert len(wrong) <= len(clients), "only what was in it fails, once each"
    assert sum(client.lost for client in clients) == 0
    assert _states(server, "mortal") == 200
    assert victim not in server.model_processes()


def test_the_request_that_kills_it_is_named_and_its_neighbours_are_answered(models: Path) -> None:
    with (
        tempfile.TemporaryFile("w+") as log,
        serve_process(models, log, log__level="error", log__format="json") as server,
    ):
        named = request("POST", "/v2/models/mortal/infer", body=_body("the evil one", 99))
        with Raw(server.address) as connection:
            reply = connection.send(named).reply()
        told = json.loads(reply.body)
        assert (reply.status, told["code"]) == (500, "model-process-died")
        assert "killed by SIGKILL" in told["error"]
        assert server.ask(infer("other", [[1]], "INT64")).status == 200
        assert server.ask(TEN).status == 200
        log.seek(0)
        died = next(line for line in map(json.loads, log) if line["event"] == "model_process_died")
    assert (died["model"], died["version"], died["request_id"]) == ("mortal", "1", "the evil one")


def test_who_dies_again_and_again_is_not_ready_and_says_why_and_harms_nobody_else(models: Path) -> None:
    (models / "mortal" / "config.pbtxt").write_text("instance_group { count: 1 }")
    with serve_process(models, log__level="error") as server:
        for _ in range(BROKEN_AFTER):
            assert server.ask(DEADLY).status == 500
        wait_until(lambda: _states(server, "mortal") == 503, "it is given up")
        refused = server.ask(TEN)
        assert refused.status == 503
        assert "died again and again" in json.loads(refused.body)["error"]
        assert "retry-after" in refused.headers
        assert _states(server, "other") == 200
        assert server.ask(infer("other", [[1]], "INT64")).status == 200
        index = json.loads(server.ask(request("POST", "/v2/repository/index")).body)
        (mortal,) = [entry for entry in index if entry["name"] == "mortal"]
        assert "died again and again" in mortal["reason"]


def test_no_process_outlives_the_server(models: Path) -> None:
    with serve_process(models, log__level="error") as server:
        pids = server.model_processes()
        assert len(pids) == 3
        worker = server.workers()[0]
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not any(_runs(pid) for pid in pids), "its model processes have ended with it")
        wait_until(lambda: len(server.model_processes()) == 3, "the next worker has its own")
        pids = server.model_processes()
    wait_until(lambda: not any(_runs(pid) for pid in pids), "all have ended")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _body(request_id: str, value: int) -> bytes:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [value]}
    return json.dumps({"id": request_id, "inputs": [tensor]}).encode()
