"""A running server is replaced by another one on the same ports: under load, during a rollout, and in vain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from tests.support.grpc_calls import connected, infer_request, output_of
from tests.support.numbered_models import adder, numbered, version_file
from tests.support.raw_http import PATIENCE_S, children, request, wait_until
from tests.support.rollouts import MODEL, Crowd, Server, open_shop

from taxiway.cli.main import taxiway
from taxiway.core.errors import FailedPrecondition

EASY: dict[str, Any] = {
    "min_step_s": 0.3,
    "settle_s": 0.1,
    "guard_for_s": 0.3,
    "twin": False,
    "guards": {"min_requests": 20, "metrics": [{"metric": "errors", "allowance": 0.3}]},
}


class Places(list[int]):
    """Servers that took another one's place, by their process ids: nobody else ends them."""

    def end(self) -> None:
        for pid in self:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not any(_runs(pid) for pid in self), "every server has ended")


@pytest.fixture
def places() -> Iterator[Places]:
    found = Places()
    yield found
    found.end()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _upgrade(server: Server, places: Places) -> int:
    """As a person does it; the process id of the server that serves then."""
    done = CliRunner().invoke(taxiway, ["admin", "upgrade", "--control", server.process.control, "--output", "json"])
    assert done.exit_code == 0, (done.output, done.exception)
    pid = int(json.loads(done.output)["pid"])
    places.append(pid)
    return pid


@dataclass
class GrpcCaller:
    """Asks one thing after the other on one channel, which tries nothing again by itself."""

    address: str
    model: str
    ended: dict[str, int] = field(default_factory=dict)
    outputs: set[float] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        call = infer_request(self.model, ("x", np.zeros((1, 1), np.float32)))
        with connected(self.address, ("grpc.enable_retries", 0)) as channel:
            while not self._over.wait(0.002):
                try:
                    answer = channel.call("ModelInfer", call)
                    self.outputs.add(float(output_of(answer)[0][0]))
                    self._count("OK")
                except grpc.RpcError as problem:
                    self._count(str(problem))

    def _count(self, how: str) -> None:
        self.ended[how] = self.ended.get(how, 0) + 1


def test_no_request_is_lost_and_a_rollout_goes_on(tmp_path: Path, places: Places) -> None:
    shop = open_shop(tmp_path)
    with shop.serve() as server:
        with Crowd(server.process.address) as crowd, GrpcCaller(server.process.grpc, MODEL) as caller:
            rollout = server.start(to="2", **EASY, steps=[50, 100], routes=[{"header": "x-me", "value": "2"}])
            server.wait_for(rollout, "step", "guard", "succeeded")
            pid = _upgrade(server, places)
            assert pid != server.process.process.pid
            told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra")
            assert told["phase"] == "succeeded", told
            wait_until(lambda: server.answer()[1] == 2.0, "the new version answers")
            assert server.process.process.wait(PATIENCE_S) == 0, "the old server has ended well"
            moment = time.monotonic()
            wait_until(lambda: crowd.moments[-1][0] > moment, "callers are answered by the new server alone")
        assert set(crowd.statuses) == {200}
        assert set(caller.ended) == {"OK"}, caller.ended
        assert caller.outputs == {1.0, 2.0}
        assert server.see(f"/v1/rollouts/{rollout}/replay")["same"]
        assert server.process.metrics()["taxiway_control_up"] == 1


def test_what_was_changed_since_the_start_holds_for_the_new_server(tmp_path: Path, places: Places) -> None:
    repository = tmp_path / "models"
    numbered(repository, "a", 1)
    numbered(repository, "b", 1)
    shop = open_shop(tmp_path / "shop")
    path = tmp_path / "socket"
    with shop.serve(
        str(repository), workers=2, http__unix_socket=path, models__control="explicit", models__load="a"
    ) as server:
        assert server.process.ask(request("POST", "/v2/repository/models/b/load", b"{}")).status == 200
        assert server.process.ask(request("POST", "/v2/repository/models/a/unload", b"{}")).status == 200
        assert server.answer(0.0, "b") == (200, 1.0)
        pid = _upgrade(server, places)
        assert server.process.process.wait(PATIENCE_S) == 0
        assert server.answer(0.0, "b") == (200, 1.0)
        assert server.answer(0.0, "a")[0] == 404
        assert len(children(pid)) == 3, "two workers and the control process"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        again = _upgrade(server, places)
        assert again not in (pid, server.process.process.pid)
        wait_until(lambda: not _runs(pid), "the second server has ended too")
        assert server.answer(0.0, "b") == (200, 1.0)
    places.end()
    assert not path.exists(), "the last one takes its file along"


def test_one_that_cannot_serve_changes_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    numbered(repository, "a", 1)
    shop = open_shop(tmp_path / "shop")
    with shop.serve(str(repository), models__control="explicit", models__load="a") as server:
        file = version_file(repository, "a", 1)
        file.write_bytes(b"broken")
        done = CliRunner().invoke(taxiway, ["admin", "upgrade", "--control", server.process.control])
        assert isinstance(done.exception, FailedPrecondition)
        assert "the server was not replaced: the new server came to nothing" in done.exception.message
        assert done.exception.hint == f"process {server.process.process.pid} serves on"
        assert server.answer(0.0, "a") == (200, 1.0)
        told = server.see("/v1/server")
        assert (told["pid"], told["upgrade"]["state"]) == (server.process.process.pid, "failed")
        status = CliRunner().invoke(taxiway, ["admin", "upgrade", "--status", "--control", server.process.control])
        assert f"process {told['pid']}\nlast upgrade: failed: the new server came to nothing" in status.output
        adder(version_file(repository, "a", 1), 5)
        assert server.process.ask(request("POST", "/v2/repository/models/a/load", b"{}")).status == 200
        assert server.answer(0.0, "a") == (200, 5.0), "models may be changed again"


def test_one_that_is_killed_while_it_loads_changes_nothing(tmp_path: Path) -> None:
    """What would be changed meanwhile would be lost with the old server; so it is refused."""
    pipe, repository = tmp_path / "slow.onnx", tmp_path / "models"
    numbered(repository, "a", 1)
    shop = open_shop(tmp_path / "shop")
    with shop.serve(str(repository), models__control="explicit", models__load="a") as server:
        os.mkfifo(pipe)
        version_file(repository, "a", 1).unlink()
        version_file(repository, "a", 1).symlink_to(pipe)
        server.tell("/v1/server/upgrade")
        with pytest.raises(FailedPrecondition, match="an upgrade is under way"):
            server.tell("/v1/server/upgrade")
        (successor,) = [pid for pid in children(server.process.process.pid) if _serves(pid)]
        wait_until(lambda: bool(children(successor)), "it loads")
        refused = server.process.ask(request("POST", "/v2/repository/models/a/load", b"{}"))
        assert (refused.status, refused.json()["code"]) == (503, "unavailable")
        os.kill(successor, signal.SIGKILL)
        wait_until(lambda: server.see("/v1/server")["upgrade"]["state"] == "failed", "it is known")
        assert server.answer(0.0, "a") == (200, 1.0)


def test_who_is_told_to_end_takes_nobody_along(tmp_path: Path) -> None:
    """A server that is stopped while another one prepares to take its place: none is left."""
    pipe, repository = tmp_path / "slow.onnx", tmp_path / "models"
    numbered(repository, "a", 1)
    shop = open_shop(tmp_path / "shop")
    with shop.serve(str(repository)) as server:
        os.mkfifo(pipe)
        version_file(repository, "a", 1).unlink()
        version_file(repository, "a", 1).symlink_to(pipe)
        server.process.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: any(map(_serves, children(server.process.process.pid))), "it is started")
        (successor,) = [pid for pid in children(server.process.process.pid) if _serves(pid)]
        server.process.process.send_signal(signal.SIGTERM)
        assert server.process.process.wait(PATIENCE_S) == 0
    wait_until(lambda: not _runs(successor), "it has ended with the other")


def _serves(pid: int) -> bool:
    try:
        return b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_settings_that_were_changed_hold_for_the_new_server(tmp_path: Path, places: Places) -> None:
    config, repository = tmp_path / "taxiway.yaml", tmp_path / "models"
    numbered(repository, "a", 1)
    config.write_text("workers: 1\n")
    shop = open_shop(tmp_path / "shop")
    with shop.serve(str(repository), config=config) as server:
        config.write_text("workers: 2\nlimits: {linger_s: 0}\n")
        pid = _upgrade(server, places)
        assert len(children(pid)) == 3
        assert server.answer(0.0, "a") == (200, 1.0)


def test_a_socket_that_cannot_be_handed_over_is_told_at_once(tmp_path: Path) -> None:
    shop = open_shop(tmp_path / "shop")
    with shop.serve(grpc__unix_socket=tmp_path / "grpc") as server:
        with pytest.raises(FailedPrecondition, match="its file cannot be handed to another server"):
            server.tell("/v1/server/upgrade")
        assert server.answer() == (200, 1.0)


def test_systemd_is_told_who_serves_now(tmp_path: Path, places: Places) -> None:
    shop = open_shop(tmp_path / "shop")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            with shop.serve() as server:
                assert manager.recv(100) == b"READY=1"
                pid = _upgrade(server, places)
                assert {manager.recv(100), manager.recv(100)} == {b"READY=1", f"MAINPID={pid}".encode()}
        finally:
            del os.environ["NOTIFY_SOCKET"]
