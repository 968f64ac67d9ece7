"""Models that come and go while real clients ask, in a real process: nothing lost, nothing from the wrong version."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import numbered_models, slow_models
from tests.support.numbered_models import numbered, version_file
from tests.support.raw_http import Process, Raw, infer, request, serve_process, wait_until

_SWITCHES = 20
_REQUESTS = 4000


def _ask(connection: Raw, model: str = "m") -> tuple[int, str, float]:
    """Status, the version that the answer names, and the number that it added to nothing."""
    reply = connection.send(infer(model, [[0]], "FP32")).reply()
    if reply.status != 200:
        return reply.status, "", 0.0
    return 200, reply.json()["model_version"], reply.output()[0]


def _index(server: Process) -> list[dict[str, str]]:
    lines: list[dict[str, str]] = server.ask(request("POST", "/v2/repository/index", b"")).json()
    return lines


def _load(server: Process, model: str = "m") -> int:
    return server.ask(request("POST", f"/v2/repository/models/{model}/load", b"")).status


class Asker(threading.Thread):
    """Asks one after the other on one connection, and judges each answer."""

    def __init__(self, server: Process, acknowledged: list[int]) -> None:
        super().__init__(daemon=True)
        self.asked = 0
        self.wrong: list[str] = []
        self.enough = threading.Event()
        self._server = server
        self._acknowledged = acknowledged

    def run(self) -> None:
        with self._server.connect() as connection:
            while not self.enough.is_set():
                least = self._acknowledged[-1]
                status, version, added = _ask(connection)
                self.asked += 1
                if status != 200 or float(version) != added or int(version) < least:
                    self.wrong.append(f"{status}: version {version} added {added}, {least} was acknowledged")


@contextlib.contextmanager
def _askers(server: Process, acknowledged: list[int], count: int = 4) -> Iterator[list[Asker]]:
    askers = [Asker(server, acknowledged) for _ in range(count)]
    for asker in askers:
        asker.start()
    try:
        yield askers
    finally:
        for asker in askers:
            asker.enough.set()
        for asker in askers:
            asker.join(20)


@pytest.mark.parametrize(("mode", "workers"), [("inline", 1), ("thread", 1), ("inline", 2)])
def test_no_request_is_lost_or_answered_by_the_wrong_version_over_many_switches(
    tmp_path: Path, mode: str, workers: int
) -> None:
    numbered(tmp_path, "m", 1)
    acknowledged = [1]
    with (
        serve_process(tmp_path, models__control="explicit", execution__mode=mode, workers=workers) as server,
        _askers(server, acknowledged) as askers,
    ):
        for version in range(2, _SWITCHES + 2):
            before = sum(asker.asked for asker in askers)
            numbered(tmp_path, "m", version)
            assert _load(server) == 200
            acknowledged.append(version)
            wait_until(
                lambda before=before: sum(asker.asked for asker in askers) >= before + _REQUESTS // _SWITCHES,  # type: ignore[misc]
                "the new version is asked",
            )
    assert sum(asker.asked for asker in askers) >= _REQUESTS
    assert [wrong for asker in askers for wrong in asker.wrong] == []


def test_a_half_copied_version_is_left_alone_until_it_is_whole(tmp_path: Path) -> None:
    models = tmp_path / "models"
    numbered(models, "m", 1)
    whole = numbered_models.adder(tmp_path / "whole.onnx", 2, padding=40_000).read_bytes()
    with serve_process(models, models__control="poll", models__poll_s=0.2) as server, server.connect() as connection:
        path = version_file(models, "m", 2)
        path.parent.mkdir()
        with path.open("wb") as file:
            for start in range(0, len(whole), 4_000):  # a slow copy: something comes between any two looks
                file.write(whole[start : start + 4_000])
                file.flush()
                assert _ask(connection) == (200, "1", 1.0)
                time.sleep(0.05)
        wait_until(lambda: _ask(connection) == (200, "2", 2.0), "the whole version answers")
        states = {line["version"]: (line["state"], line.get("reason", "")) for line in _index(server)}
        assert states["2"] == ("READY", "")
        assert server.metrics()['taxiway_model_loads_total{outcome="failed"}'] == 0
        shutil.rmtree(models / "m")
        wait_until(lambda: _ask(connection)[0] == 404, "the removed model is gone")
        assert server.ask(request("GET", "/v2/health/ready")).status == 200


def test_a_run_that_does_not_come_back_makes_its_version_unready_until_it_does(tmp_path: Path) -> None:
    slow_models.sleeper(tmp_path / "slow.onnx")
    numbered_models.adder(tmp_path / "quick.onnx", 1)
    flags = {"execution__mode": "thread", "execution__instances": 1, "models__stall_timeout_s": 0.3}

    def ready(path: str) -> int:
        return server.ask(request("GET", path)).status

    with serve_process(tmp_path, **flags) as server, server.connect() as connection:
        assert ready("/v2/health/ready") == 200
        connection.send(infer("slow", [[20_000]], "INT64"))
        wait_until(lambda: ready("/v2/models/slow/ready") == 503, "it is told")
        assert ready("/v2/health/ready") == 503
        assert ready("/v2/health/live") == 200
        assert ready("/v2/models/quick/ready") == 200
        (slow,) = (line for line in _index(server) if line["name"] == "slow")
        assert slow["state"] == "UNAVAILABLE"
        assert "has not come back" in slow["reason"]
        assert connection.reply().output() == [20_000]
        wait_until(lambda: ready("/v2/health/ready") == 200, "it is ready again")
        assert ready("/v2/models/slow/ready") == 200


def test_models_push_each_other_out_and_every_request_is_answered(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for amount, name in enumerate(names):
        numbered_models.adder(version_file(tmp_path, name, 1), amount, padding=100_000)
    wrong: list[str] = []
    answered = [0] * 6

    def ask(index: int) -> None:
        with server.connect() as connection:
            for turn in range(12):
                amount = (index + turn) % 3
                told = _ask(connection, names[amount])
                answered[index] += 1
                if told != (200, "1", float(amount)):
                    wrong.append(f"{names[amount]}: {told}")

    with serve_process(tmp_path, models__memory_bytes=250_000) as server:
        threads = [threading.Thread(target=ask, args=(index,), daemon=True) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert sum(answered) == 72
        metrics = server.metrics()
        assert metrics["taxiway_models_bytes"] <= 250_000
        assert metrics['taxiway_model_unloads_total{reason="room"}'] > 0
        assert metrics["taxiway_cold_requests_total"] > 0
        assert metrics["taxiway_cold_requests_waiting"] == 0
        assert metrics["taxiway_http_requests_in_flight"] == 0
        assert server.ask(request("GET", "/v2/health/ready")).status == 200
        index = {line["name"]: line for line in _index(server)}
        reasons = [line.get("reason", "") for line in index.values() if line["state"] != "READY"]
        assert reasons
        assert all("to make room" in reason for reason in reasons)


def test_a_held_request_that_has_no_time_or_no_client_left_costs_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        numbered_models.adder(version_file(tmp_path, name, 1), 1, padding=100_000)
    slow_models.sleeper(version_file(tmp_path, "slow", 1))
    # Measuring takes long enough to be overtaken: a model of a second's load.
    with serve_process(tmp_path, models__memory_bytes=210_000, batching__measure=True) as server:
        (cold,) = (line["name"] for line in _index(server) if line["state"] == "UNAVAILABLE")
        late, gone, patient = server.connect(), server.connect(), server.connect()
        patient.send(infer(cold, [[0]], "INT64" if cold == "slow" else "FP32"))
        late.send(infer(cold, [[0]], "FP32", parameters={"timeout": 1000}))
        gone.send(infer(cold, [[0]], "FP32"))
        gone.socket.close()
        assert late.reply().status == 504
        assert patient.reply().status == 200
        wait_until(lambda: server.metrics()["taxiway_http_requests_in_flight"] == 0, "nobody is counted any more")
        late.socket.close()
        patient.socket.close()


def test_a_server_that_loads_says_that_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "model.onnx")  # opening it blocks for as long as nobody writes, like a file on a slow disk
    with socket.create_server(("127.0.0.1", 0)) as free:
        address: tuple[str, int] = free.getsockname()
    command = [sys.executable, "-m", "taxiway", "serve", str(tmp_path), "--http.port", str(address[1])]
    with subprocess.Popen([*command, "--metrics.port", "0", "--no-control.enabled"]) as process:
        try:
            wait_until(lambda: _answers(address), "the port is open")
            with Raw(address) as connection:
                assert connection.send(request("GET", "/v2/health/live")).reply().status == 200
                assert connection.send(request("GET", "/v2/health/ready")).reply().status == 503
                reply = connection.send(infer("m", [[0]], "FP32")).reply()
                assert (reply.status, reply.json()["code"]) == (503, "unavailable")
                assert reply.headers["retry-after"] == "1"
                loading = [{"name": "m", "version": "1", "state": "LOADING", "reason": "loading"}]
                asked = request("POST", "/v2/repository/index", b"")
                wait_until(lambda: connection.send(asked).reply().json() == loading, "the index says so")
        finally:
            process.kill()


def _answers(address: tuple[str, int]) -> bool:
    with socket.socket() as one:
        return one.connect_ex(address) == 0
