"""Several data-plane processes behind one front door: what they share, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.support import onnx_models, slow_models
from tests.support.clients import HonestClient, Load
from tests.support.grpc_calls import Channel as GrpcChannel
from tests.support.grpc_calls import infer_request
from tests.support.raw_http import PATIENCE_S, Process, Raw, infer, request, serve_process, wait_until

from taxiway.profile.workload import read_workload
from taxiway.telemetry.catalogue import CATALOGUE, WORKER_MEMORY, WORKER_RESTARTS, WORKERS

DOUBLE = infer("double", [[1, 2]], "FP32")
SUCCESS = 'nv_inference_request_success{model="double",version="1"}'
READY = 'taxiway_workers{state="ready"}'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    slow_models.sleeper(folder / "slow.onnx")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Process]:
    """Whose workers no test kills."""
    with serve_process(models, workers=2, log__level="error") as running:
        yield running


@pytest.fixture
def mortal(models: Path) -> Iterator[Process]:
    """Whose workers may be killed."""
    with serve_process(models, workers=2, log__level="error") as running:
        yield running


def _is_ready(server: Process, count: int = 2) -> bool:
    return server.metrics()[READY] == count


def _owner(server: Process, connection: Raw) -> int:
    """The worker that accepted a connection. The kernel's table may change while it is read, so it is read again."""
    ports = tuple(f"{address[1]:04X}" for address in (server.address, connection.socket.getsockname()))
    owners: list[int] = []

    def found() -> bool:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        links = {f"socket:[{line[9]}]" for line in lines if (line[1][-4:], line[2][-4:]) == ports}
        owners[:] = (
            pid for pid in server.workers() if any(_link(fd) in links for fd in Path(f"/proc/{pid}/fd").iterdir())
        )
        return bool(owners)

    wait_until(found, "somebody has accepted it")
    return owners[0]


def _link(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except FileNotFoundError:
        return ""


def _gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids)


NOTES_COLLECTIONS = """
import gc
import os
from pathlib import Path

def note(phase, info):
    Path(os.environ["NOTES"], str(os.getpid())).write_text(str(gc.get_freeze_count()))

gc.callbacks.append(note)
"""


def test_what_was_imported_is_not_looked_through_for_garbage(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own hook, in each process of a real server, tells how much its collector leaves out."""
    (tmp_path / "sitecustomize.py").write_text(NOTES_COLLECTIONS, encoding="utf-8")
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setenv("NOTES", str(notes))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serve_process(models, log__level="error") as server, Raw(server.address) as connection:
        (worker,) = server.workers()
        wait_until(
            lambda: connection.send(DOUBLE).reply().status == 200 and _frozen(notes / str(worker)) > 50_000,
            "its collector leaves out what was imported",
        )


def _frozen(note: Path) -> int:
    return int(note.read_text() or 0) if note.exists() else 0


def test_what_they_count_is_added_up(server: Process) -> None:
    assert server.metrics()[SUCCESS] == 0
    connections = [server.connect() for _ in range(16)]
    for connection in connections:
        assert connection.send(DOUBLE).reply().status == 200
    assert len({_owner(server, connection) for connection in connections}) == 2
    for connection in connections:
        connection.socket.close()
    (stats,) = (
        one for one in server.ask(request("GET", "/v2/models/stats")).json()["model_stats"] if one["name"] == "double"
    )
    assert stats["inference_count"] == 16
    assert stats["inference_stats"]["success"]["count"] == 16
    assert [batch["batch_size"] for batch in stats["batch_stats"]] == [1]
    assert stats["batch_stats"][0]["compute_infer"]["count"] == 16
    now = server.metrics()
    assert now[SUCCESS] == 16
    assert now['taxiway_inference_request_seconds_count{model="double",version="1"}'] == 16
    assert (now[READY], now["taxiway_worker_restarts_total"]) == (2, 0)
    assert all(now[f'taxiway_worker_resident_bytes{{worker="{index}"}}'] > 1 << 20 for index in range(2))


def test_a_recording_has_the_requests_of_all_in_their_order(tmp_path: Path) -> None:
    """Each of them more than a worker tells at a time."""
    model = onnx_models.doubler(tmp_path / "wide.onnx", 40_000)
    output = tmp_path / "workload.jsonl"
    words = ["record", "wide", "--sample", "1", "--max", "30", "--with-inputs", "-o", str(output)]
    with serve_process(model, workers=2, log__level="error", recording__mode="inputs") as server, ExitStack() as stack:
        url = "http://{}:{}".format(*server.address)
        command = [sys.executable, "-m", "taxiway", *words, "--url", url]
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        stack.callback(process.kill)
        connections = [stack.enter_context(server.connect()) for _ in range(8)]
        while process.poll() is None:
            for connection in connections:
                assert connection.send(infer("wide", [[0.5] * 40_000], "FP32")).reply().status == 200
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said
    requests = read_workload(output).requests
    assert [len((one.inputs or [{}])[0]["data"]) for one in requests] == [40_000] * 30


def test_a_unix_socket_is_served_by_all(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serve_process(models, workers=2, http__unix_socket=path, log__level="error") as server:
        os.kill(server.workers()[0], signal.SIGKILL)
        for _ in range(4):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE_S)
                client.connect(str(path))
                client.sendall(DOUBLE)
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
        wait_until(lambda: server.metrics()["taxiway_worker_restarts_total"] == 1, "its death is known")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0
    assert not path.exists()


def test_the_supervisors_families_are_in_a_scrape(server: Process) -> None:
    told = {name.partition("{")[0] for name in server.metrics()}
    ours = {WORKERS.name, WORKER_RESTARTS.name, WORKER_MEMORY.name}
    assert ours <= told
    assert ours <= {family.name for family in CATALOGUE}


def test_one_that_is_killed_takes_only_what_it_held(mortal: Process) -> None:
    clients = [HonestClient(mortal.address, DOUBLE) for _ in range(12)]
    owners = [_owner(mortal, client.connected()) for client in clients]
    victim = max(set(owners), key=owners.count)
    held = [client for client, owner in zip(clients, owners, strict=True) if owner == victim]
    others = [client for client in clients if client not in held]
    with Load(clients) as load:
        load.wait_for_answers(20)
        before = mortal.metrics()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: mortal.metrics()["taxiway_worker_restarts_total"] == 1, "it is started again")
        assert mortal.metrics()[SUCCESS] >= before[SUCCESS]
        wait_until(lambda: _is_ready(mortal), "both are ready")
        load.wait_for_answers(20)
    assert all(client.cut <= 1 for client in held), "each had one request in flight at most"
    assert all(client.cut == 0 for client in others), "nobody else noticed"
    assert all(client.reset_when_new <= 1 for client in held), "and came back once while it was dying at most"
    assert all(client.reset_when_new == 0 for client in others)
    assert all(client.refused == 0 for client in clients)
    assert sum(client.answered for client in clients) + sum(client.lost for client in clients) == load.asked()
    after = mortal.metrics()
    assert after[SUCCESS] >= before[SUCCESS]
    assert victim not in mortal.workers()
    (fresh,) = (pid for pid in mortal.workers() if pid not in owners)

    def serves() -> bool:
        with mortal.connect() as connection:
            return connection.send(DOUBLE).reply().status == 200 and _owner(mortal, connection) == fresh

    wait_until(serves, "the new one serves")


def test_a_worker_that_starts_later_knows_what_was_changed(tmp_path: Path) -> None:
    for name in ("double", "other"):
        onnx_models.doubler(tmp_path / "models" / name / "1" / "model.onnx")
    flags = {"models__control": "explicit", "models__load": "other", "log__level": "error"}
    with serve_process(tmp_path / "models", workers=2, **flags) as server:
        assert server.ask(DOUBLE).status != 200
        loaded = server.ask(request("POST", "/v2/repository/models/double/load", b"{}"))
        assert loaded.status == 200, loaded.body
        assert [server.ask(DOUBLE).status for _ in range(16)] == [200] * 16, "all have it"
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: server.metrics()["taxiway_worker_restarts_total"] == 1, "it is started again")
        wait_until(lambda: _is_ready(server), "both are ready")
        assert [server.ask(DOUBLE).status for _ in range(16)] == [200] * 16


def test_no_orphan_is_left_and_what_was_taken_is_answered(models: Path) -> None:
    with serve_process(models, workers=2, execution__mode="thread", log__level="error") as server:
        workers = server.workers()
        running = server.connect().send(infer("slow", [[3000]], "INT64"))
        wait_until(lambda: server.metrics()["taxiway_http_requests_in_flight"] == 1, "it runs")
        server.process.kill()
        assert running.reply().output() == [3000]
        running.socket.close()
        wait_until(_gone(workers), "both have ended")


def test_an_orphan_that_was_loading_ends_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "models" / "stuck" / "1").mkdir(parents=True)
    (tmp_path / "models" / "stuck" / "1" / "model.onnx").symlink_to(tmp_path / "pipe")
    ports = ("--http.port", "0", "--grpc.port", "0", "--metrics.port", "0", "--no-control.enabled")
    command = [sys.executable, "-m", "taxiway", "serve", str(tmp_path / "models"), *ports]
    with subprocess.Popen(command, text=True) as process:
        server = Process(process, ("", 0), ("", 0))
        wait_until(lambda: bool(server.workers()), "a worker is there")
        workers = server.workers()
        process.kill()
        process.wait()
        wait_until(_gone(workers), "it has ended")


def test_one_that_cannot_start_is_tried_again_while_the_other_serves(tmp_path: Path) -> None:
    file, log = tmp_path / "models" / "double.onnx", tmp_path / "log"
    onnx_models.doubler(file)
    whole = file.read_bytes()
    with log.open("w") as errors, serve_process(file.parent, errors, workers=2, log__format="json") as server:
        _replace(file, b"no model at all")
        victim, healthy = server.workers()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: _in_vain(log) >= 2, "two starts were in vain")
        wait_until(lambda: server.metrics()['taxiway_workers{state="resting"}'] == 1, "it rests")
        assert healthy in server.workers()
        assert [server.ask(DOUBLE).status for _ in range(8)] == [200] * 8
        assert server.ask(request("GET", "/v2/health/ready")).status == 200
        _replace(file, whole)
        wait_until(lambda: _is_ready(server), "both are ready")
        assert [server.ask(DOUBLE).status for _ in range(16)] == [200] * 16
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (died,) = (line for line in lines if line["event"] == "worker_died")
    starts = [line for line in lines if line["event"] == "worker_not_started"]
    assert died["reason"] == "killed by signal 9"
    assert {(line["worker"], line["error"]["code"]) for line in starts} == {(died["worker"], "invalid-model")}
    assert all("double.onnx" in line["error"]["message"] for line in starts)


def _replace(file: Path, content: bytes) -> None:
    beside = file.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(file)


def _in_vain(log: Path) -> int:
    return log.read_text().count('"event": "worker_not_started"')


@pytest.mark.slow
def test_a_crash_loop_ends_the_server_with_an_error(models: Path) -> None:
    with serve_process(models, workers=2, log__level="error") as server:
        survivors = server.workers()[:1]
        for restarts in range(1, 6):
            wait_until(lambda: _is_ready(server), "both are ready")  # one that dies at its start is waited for
            (victim,) = (pid for pid in server.workers() if pid not in survivors)
            os.kill(victim, signal.SIGKILL)
            if restarts < 5:
                wait_until(
                    lambda wanted=restarts: server.metrics()["taxiway_worker_restarts_total"] == wanted,  # type: ignore[misc]
                    "it is started again",
                )
        assert server.process.wait(PATIENCE_S) == 70
        wait_until(_gone(survivors), "none is left")


def test_a_server_of_several_workers_lets_no_other_on_its_ports(server: Process, models: Path) -> None:
    flags = {"http.port": server.address[1], "grpc.port": 0, "metrics.port": 0, "control.port": 0, "workers": 2}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "taxiway", "serve", str(models), *words]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert told.returncode == 4
    assert f"cannot listen on 127.0.0.1 port {server.address[1]}" in told.stderr
    assert "model_ready" not in told.stderr, "that is found out before anything is loaded"
    assert [server.ask(DOUBLE).status for _ in range(8)] == [200] * 8


def test_two_servers_do_not_meet(server: Process, mortal: Process) -> None:
    addresses = [{one.address, one.metrics_address} for one in (server, mortal)]
    assert addresses[0].isdisjoint(addresses[1])
    before = server.metrics()
    assert [server.ask(DOUBLE).status for _ in range(8)] == [200] * 8
    assert (server.metrics()[SUCCESS] - before[SUCCESS], mortal.metrics()[SUCCESS]) == (8, 0)
    os.kill(mortal.workers()[0], signal.SIGKILL)
    wait_until(lambda: mortal.metrics()["taxiway_worker_restarts_total"] == 1, "the other's is started again")
    assert server.metrics()["taxiway_worker_restarts_total"] == 0


def test_a_server_lives_though_nobody_reads_where_it_listens(models: Path, tmp_path: Path) -> None:
    ports = ("--http.port", "0", "--grpc.port", "0", "--metrics.port", "0", "--no-control.enabled")
    command = [sys.executable, "-m", "taxiway", "serve", str(models), *ports, "--no-batching.measure"]
    reading, writing = os.pipe()
    os.close(reading)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE_S)
        manager.bind(str(tmp_path / "notify"))
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(command, stdout=writing, env=environment) as process:
            os.close(writing)
            assert manager.recv(100) == b"READY=1"
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0


# --- leaving -------------------------------------------------------------------------------------------


def test_before_it_leaves_it_says_so_and_serves(models: Path, tmp_path: Path) -> None:
    flags = {"limits__drain_delay_s": 20, "http__unix_socket": tmp_path / "socket", "log__level": "error"}
    with serve_process(models, **flags) as server, server.connect() as kept:
        assert "connection" not in kept.send(DOUBLE).reply().headers
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.ask(request("GET", "/v2/health/ready")).status == 503, "it is not ready")
        for connection in (kept, server.connect()):
            reply = connection.send(DOUBLE).reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert connection.at_end()
            connection.socket.close()
        assert (tmp_path / "socket").exists()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 130
    assert not (tmp_path / "socket").exists()


def test_ctrl_c_waits_for_nobody(models: Path) -> None:
    with serve_process(models, limits__drain_delay_s=3600, log__level="error") as server:
        workers = server.workers()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0
        assert _gone(workers)()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_nothing(models: Path, workers: int) -> None:
    """Defect D6 of Triton: for seconds after SIGTERM it accepts connections and resets them."""
    with serve_process(models, workers=workers, limits__drain_delay_s=0.5, log__level="error") as server:
        kept = [HonestClient(server.address, DOUBLE) for _ in range(4)]
        fresh = [HonestClient(server.address, DOUBLE, keeps=False) for _ in range(4)]
        with Load(kept + fresh) as load:
            load.wait_for_answers(20)
            server.process.send_signal(signal.SIGTERM)
            load.wait_until_all_went_elsewhere()
        assert server.process.wait(PATIENCE_S) == 0
    for client in kept + fresh:
        assert (client.cut, client.reset_when_new, client.refused) == (0, 0, 1), client
        assert client.wrong == []


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_loses_no_grpc_call(models: Path, workers: int) -> None:
    """UNAVAILABLE, and nothing else, sends a client elsewhere; who watches our health needs not even be told."""
    with serve_process(models, workers=workers, limits__drain_delay_s=0.5, log__level="error") as server:
        watching, others = ([GrpcCaller(server.grpc, *options) for _ in range(3)] for options in (_WATCHING, ()))
        callers = [*watching, *others]
        threads = [threading.Thread(target=caller.call_until_sent_away, daemon=True) for caller in callers]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(caller.answered > 20 for caller in callers), "all are answered")
        watch = GrpcChannel(server.grpc)
        assert watch.health() == "SERVING"
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: watch.health() == "NOT_SERVING", "the health service says so")
        watch.close()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert server.process.wait(PATIENCE_S) == 0
    for caller in callers:
        assert caller.end is grpc.StatusCode.UNAVAILABLE, caller.last_words
        caller.channel.close()
    assert not any("shutting down" in caller.last_words for caller in watching)


_WATCHING = (
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}'),
)
"""A channel that asks for our health, and uses no connection to a server that is not serving (gRFC A17)."""


class GrpcCaller:
    """Asks one thing after the other until it is told that nobody listens."""

    def __init__(self, address: str, *options: tuple[str, str]) -> None:
        self.channel = GrpcChannel(address, *options)
        self.answered = 0
        self.end: grpc.StatusCode | None = None
        self.last_words = ""
        self._question = infer_request("double", ("x", np.asarray([[1, 2]], np.float32)))

    def call_until_sent_away(self) -> None:
        """Until the first call that fails."""
        try:
            while True:
                self.channel.call("ModelInfer", self._question)
                self.answered += 1
        except grpc.RpcError as error:
            self.end = error.code()
            self.last_words = str(error)


def test_idle_connections_are_closed_without_a_reset(models: Path) -> None:
    with serve_process(models, log__level="error") as server, server.connect() as used, server.connect() as unused:
        assert used.send(DOUBLE).reply().status == 200
        server.process.send_signal(signal.SIGTERM)
        assert used.at_end()
        assert unused.send(DOUBLE).reply().headers["connection"] == "close", "what was new gets an answer"
        assert server.process.wait(PATIENCE_S) == 0
