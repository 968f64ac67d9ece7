"""Versions loaded beside what is served, taking over from it, and exchanged for it, in a real data plane."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flow.serving import Server, serve
from tests.support.clients import HonestClient, Load
from tests.support.numbered_models import adder, version_file
from tests.support.raw_http import wait_until
from tests.support.splitting import SERVICE, counts_of, do, infer, report, set_traffic, version_of

from taxiway.core.errors import InvalidArgument, InvalidModel, NoRoom, VersionNotServed
from taxiway.core.traffic import Arm, Companion, Swap, SwapOutcome, Traffic

SEVEN = "pay/7"
TWIN = "pay/1~twin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    adder(version_file(tmp_path / "served", SERVICE, 1), 1)
    adder(version_file(tmp_path / "beside", SERVICE, 7), 7, padding=4000)
    with serve(tmp_path / "served") as running:
        yield running


def companion(tmp_path: Path, key: str = SEVEN, version: int = 7) -> dict[str, Any]:
    return dict(msgspec.to_builtins(Companion(key, SERVICE, version, str(tmp_path / "beside" / SERVICE))))


def to(*arms: Arm, generation: int = 1) -> Traffic:
    return Traffic(SERVICE, "r-1", generation, generation, "salt", arms, arms[0].name)


def index(server: Server) -> list[tuple[str, str, str]]:
    told = server.ask("POST", "/v2/repository/index", {}).json()
    return [(entry["name"], entry["version"], entry["state"]) for entry in told]


def test_a_companion_answers_under_the_name_of_its_service(server: Server, tmp_path: Path) -> None:
    do(server, "traffic_stage", companion(tmp_path))
    assert version_of(infer(server)) == 1, "nobody has said that it is to answer"
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [10.0]}]}
    assert version_of(server.ask("POST", f"/v2/models/{SERVICE}/versions/7/infer", body)) == 7
    assert server.ask("GET", f"/v2/models/{SERVICE}/versions/7/ready").status == 200
    assert server.ask("GET", f"/v2/models/{SERVICE}").json()["versions"] == ["1", "7"]
    assert index(server) == [(SERVICE, "1", "READY"), (SERVICE, "7", "READY")]
    assert do(server, "traffic_versions", {"service": SERVICE}) == {"1": True}
    assert 'nv_inference_request_success{model="pay",version="7"} 1' in server.scrape()
    do(server, "traffic_stage", companion(tmp_path))  # again: it stays as it is
    do(server, "traffic_release", {"key": SEVEN})
    do(server, "traffic_release", {"key": SEVEN})
    assert index(server) == [(SERVICE, "1", "READY")]
    assert server.ask("POST", f"/v2/models/{SERVICE}/versions/7/infer", body).status == 404


def test_a_twin_adds_up_with_its_original(server: Server) -> None:
    do(server, "traffic_stage", msgspec.to_builtins(Companion(TWIN, SERVICE, 1)))
    set_traffic(server, to(Arm("control", SERVICE, 1, 0.5), Arm("baseline", TWIN, 1, 0.5)))
    for number in range(40):
        assert version_of(infer(server, {"X-Unit-Id": f"user-{number}"})) == 1
    counts = counts_of(report(server))
    assert counts["control"].answered + counts["baseline"].answered == 40
    assert counts["baseline"].inferred == counts["baseline"].answered > 0
    assert index(server) == [(SERVICE, "1", "READY")]
    text = server.scrape()
    assert text.count('nv_inference_request_success{model="pay",version="1"}') == 1
    assert 'nv_inference_request_success{model="pay",version="1"} 40' in text
    assert server.ask("GET", "/v2/health/ready").status == 200


def test_a_companion_takes_over_and_the_original_leaves_without_a_failed_request(
    server: Server, tmp_path: Path
) -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [10]}]}'
    head = b"POST /v2/models/pay/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    clients = [HonestClient(server.address, head + body) for _ in range(4)]
    with Load(clients) as crowd:
        crowd.wait_for_answers(50)
        do(server, "traffic_stage", companion(tmp_path))
        set_traffic(server, to(Arm("control", SERVICE, 1, 0.5), Arm("candidate", SEVEN, 7, 0.5)))
        crowd.wait_for_answers(100)
        set_traffic(server, to(Arm("candidate", SEVEN, 7, 1.0), generation=2))
        do(server, "traffic_release", {"key": SERVICE})
        crowd.wait_for_answers(100)
    assert [(client.lost, client.refused, client.wrong) for client in clients] == [(0, 0, [])] * 4
    assert version_of(infer(server)) == 7
    assert server.ask("GET", f"/v2/models/{SERVICE}/ready").status == 200
    assert server.ask("GET", f"/v2/models/{SERVICE}").json()["versions"] == ["7"]


def test_what_cannot_be_staged_changes_nothing(server: Server, tmp_path: Path) -> None:
    version_file(tmp_path / "beside", SERVICE, 8).parent.mkdir()
    version_file(tmp_path / "beside", SERVICE, 8).write_bytes(b"not a model")
    with pytest.raises(InvalidModel):
        do(server, "traffic_stage", companion(tmp_path, "pay/8", 8))
    with pytest.raises(InvalidModel, match="has no version 9"):
        do(server, "traffic_stage", companion(tmp_path, "pay/9", 9))
    with pytest.raises(InvalidArgument, match="must begin with pay/"):
        do(server, "traffic_stage", companion(tmp_path, "other", 7))
    with pytest.raises(VersionNotServed, match="nothing to copy"):
        do(server, "traffic_stage", msgspec.to_builtins(Companion("pay/3~twin", SERVICE, 3)))
    assert index(server) == [(SERVICE, "1", "READY")]
    assert version_of(infer(server)) == 1


def test_nothing_that_serves_leaves_to_make_room(tmp_path: Path) -> None:
    adder(version_file(tmp_path / "served", SERVICE, 1), 1, padding=4000)
    adder(version_file(tmp_path / "beside", SERVICE, 7), 7, padding=4000)
    with serve(tmp_path / "served", models__memory_bytes=6000) as server:
        with pytest.raises(NoRoom, match=r"4\d\d\d are taken; models.memory_bytes allows 6000") as refused:
            do(server, "traffic_stage", companion(tmp_path))
        assert "exclusive" in refused.value.hint
        assert version_of(infer(server)) == 1
        outcome = msgspec.convert(do(server, "traffic_swap", swap(tmp_path, 7)), SwapOutcome)
        assert (outcome.swapped, outcome.problem) == (True, "")
        assert version_of(infer(server)) == 7


def swap(tmp_path: Path, version: int, **more: Any) -> Any:
    beside = Companion(f"pay/{version}", SERVICE, version, str(tmp_path / "beside" / SERVICE))
    return msgspec.to_builtins(Swap(beside, SERVICE, **more))


def test_requests_wait_while_one_version_is_exchanged_for_another(server: Server, tmp_path: Path) -> None:
    adder(version_file(tmp_path / "beside", SERVICE, 8), 8, padding=40_000_000)
    doing: Future[Any] = asyncio.run_coroutine_threadsafe(
        server.plane.traffic.verbs()["traffic_swap"](swap(tmp_path, 8, max_requests=3)),  # type: ignore[arg-type]
        server.loop,
    )
    wait_until(lambda: server.ask("GET", f"/v2/models/{SERVICE}/ready").status != 200, "the old version is gone")
    asked: list[Future[int]] = [_later(server) for _ in range(6)]
    versions = sorted(one.result(20) for one in asked)
    outcome = msgspec.convert(doing.result(20), SwapOutcome)
    assert outcome.swapped
    assert versions == [-503] * outcome.shed + [8] * (6 - outcome.shed)
    assert outcome.held <= 3


def _later(server: Server) -> Future[int]:
    import threading

    told: Future[int] = Future()

    def run() -> None:
        answer = infer(server)
        told.set_result(version_of(answer) if answer.status == 200 else -answer.status)

    threading.Thread(target=run, daemon=True).start()
    return told


def test_an_exchange_that_fails_brings_the_old_version_back(server: Server, tmp_path: Path) -> None:
    version_file(tmp_path / "beside", SERVICE, 8).parent.mkdir()
    version_file(tmp_path / "beside", SERVICE, 8).write_bytes(b"not a model")
    outcome = msgspec.convert(do(server, "traffic_swap", swap(tmp_path, 8)), SwapOutcome)
    assert not outcome.swapped
    assert "model.onnx" in outcome.problem
    assert version_of(infer(server)) == 1
