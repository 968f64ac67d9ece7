"""Requests split between two versions in a real data plane: who answers, what is counted, and what blows a fuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support.grpc_calls import connected, infer_request
from tests.support.numbered_models import version_file
from tests.support.onnx_models import poisonable
from tests.support.raw_http import wait_until
from tests.support.splitting import (
    CONFIG,
    SERVICE,
    counts_of,
    do,
    infer,
    report,
    set_traffic,
    traffic,
    two_versions,
    version_of,
)

from taxiway.core.errors import FailedPrecondition, InvalidArgument
from taxiway.core.traffic import Fuse, HeaderRoute, Recorded, Recording, Shadow, UnitSource
from taxiway.stats.assignment import unit_interval


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with two_versions(tmp_path) as running:
        yield running


def test_a_unit_gets_the_version_that_its_hash_says_whatever_the_protocol(server: Server) -> None:
    set_traffic(server, traffic(0.5))
    users = [f"user-{number}" for number in range(20)]
    expected = [2 if unit_interval("salt", user) < 0.5 else 1 for user in users]
    assert [version_of(infer(server, {"X-Unit-Id": user})) for user in users] == expected
    assert [version_of(infer(server, {"X-Unit-Id": user})) for user in users] == expected
    with connected(server.grpc) as channel:
        request = infer_request(SERVICE, ("x", np.full((1, 1), 10, np.float32)))
        told = [channel.call("ModelInfer", request, metadata=[("x-unit-id", user)]) for user in users for _ in range(3)]
    assert [int(answer.model_version) for answer in told] == [version for version in expected for _ in range(3)]
    counts = counts_of(report(server))
    assert counts["candidate"].assigned == counts["candidate"].answered == 5 * expected.count(2)
    assert counts["control"].assigned == counts["control"].answered == 5 * expected.count(1)
    assert sum(count for _, count in counts["control"].latency) == 5 * expected.count(1)


def test_a_process_answers_by_one_version_where_the_unit_is_the_replica(server: Server) -> None:
    """This one is alone, and stands in the middle: the candidate has it once its share is more than half."""
    replica = (UnitSource("replica"),)
    for generation, (share, version) in enumerate(((0.4, 1), (0.6, 2), (1.0, 2)), 1):
        set_traffic(server, traffic(share, generation=generation, units=replica))
        users = [{"X-Unit-Id": f"user-{number}"} for number in range(10)]
        assert {version_of(infer(server, user)) for user in users} == {version}


def test_requests_without_a_unit_are_split_by_weight(server: Server) -> None:
    set_traffic(server, traffic(0.3))
    answered = [version_of(infer(server)) for _ in range(200)]
    assert 30 <= answered.count(2) <= 90
    counts = counts_of(report(server))
    assert counts["candidate"].assigned == answered.count(2)


def test_every_http_protocol_is_split(server: Server) -> None:
    set_traffic(server, traffic(1.0, generation=1))
    row = {"instances": [[10.0]]}
    assert server.ask("POST", f"/v1/models/{SERVICE}:predict", row).json() == {"predictions": [[12.0]]}
    assert version_of(infer(server)) == 2
    assert counts_of(report(server))["candidate"].answered == 2


def test_a_version_that_is_named_answers_and_is_not_counted(server: Server) -> None:
    set_traffic(server, traffic(1.0))
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [10.0]}]}
    assert version_of(server.ask("POST", f"/v2/models/{SERVICE}/versions/1/infer", body)) == 1
    counts = counts_of(report(server))
    assert (counts["control"].assigned, counts["candidate"].assigned) == (0, 0)


def test_a_header_leads_to_an_arm_and_is_no_evidence(server: Server) -> None:
    set_traffic(server, traffic(0.0, routes=(HeaderRoute("X-Canary", "always", "candidate"),)))
    assert version_of(infer(server, {"X-Canary": "always"})) == 2
    assert version_of(infer(server, {"X-Canary": "never"})) == 1
    counts = counts_of(report(server))
    assert (counts["control"].assigned, counts["candidate"].assigned) == (1, 0)


def test_who_is_wrong_is_not_held_against_an_arm(server: Server) -> None:
    set_traffic(server, traffic(1.0))
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 7], "data": [0.0] * 7}]}
    assert server.ask("POST", f"/v2/models/{SERVICE}/infer", body).status == 400
    assert counts_of(report(server))["candidate"].failed == 0


def test_an_older_generation_is_refused_and_changes_nothing(server: Server) -> None:
    set_traffic(server, traffic(1.0, generation=5))
    with pytest.raises(FailedPrecondition, match="generation 4 is older than 5"):
        set_traffic(server, traffic(0.0, generation=4))
    assert version_of(infer(server)) == 2


def test_an_arm_that_is_not_loaded_is_refused_and_changes_nothing(server: Server) -> None:
    wanted = traffic(1.0)
    missing = type(wanted)(
        **{name: getattr(wanted, name) for name in wanted.__struct_fields__}
        | {"arms": (wanted.arms[0], type(wanted.arms[1])("candidate", SERVICE, 3, 1.0))}
    )
    with pytest.raises(FailedPrecondition, match=r"candidate \(pay, version 3\) is not loaded"):
        set_traffic(server, missing)
    with pytest.raises(InvalidArgument, match="not understood"):
        do(server, "traffic_set", {"service": 3})
    assert version_of(infer(server)) == 2  # the latest, as ever


def test_counts_go_on_by_segment(server: Server) -> None:
    set_traffic(server, traffic(1.0, generation=1))
    infer(server)
    set_traffic(server, traffic(0.0, generation=2))
    infer(server)
    told = {(counts.arm, counts.segment): counts.answered for counts in report(server).counts}
    assert told == {("candidate", 1): 1, ("control", 1): 0, ("candidate", 2): 0, ("control", 2): 1}
    boot = report(server).boot
    set_traffic(server, traffic(0.0, generation=1, rollout="r-2"))
    assert report(server).boot != boot


def test_a_shadow_is_paired_with_the_answer_that_was_given(server: Server) -> None:
    set_traffic(server, traffic(0.0, shadow=Shadow("candidate", 1.0, 1e9)))
    assert [version_of(infer(server, id=f"q-{number}")) for number in range(5)] == [1] * 5
    told: list[Recorded] = []

    def have_all() -> bool:
        told.extend(report(server).recorded)
        return len(told) == 5

    wait_until(have_all, "the pairs are there")
    assert {record.id for record in told} == {f"q-{number}" for number in range(5)}
    assert {np.frombuffer(record.outputs[0]["data"], "<f4")[0] for record in told} == {11.0}
    assert {np.frombuffer((record.other or ({"data": b""},))[0]["data"], "<f4")[0] for record in told} == {12.0}
    assert counts_of(report(server))["candidate"].assigned == 0


def test_what_is_recorded_is_told_once(server: Server) -> None:
    set_traffic(server, traffic(0.0, recording=Recording(ids=True)))
    infer(server, id="a")
    infer(server)
    assert [(record.id, record.arm) for record in report(server).recorded] == [("a", "control")]
    assert report(server).recorded == []


# --- fuses -----------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Server]:
    """Version 1 takes any index below 1000, version 2 only those below 10."""
    import onnx
    from onnx import numpy_helper

    for number in (1, 2):
        path = poisonable(version_file(tmp_path, SERVICE, number))
        if number == 1:
            model = onnx.load(path)
            model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.arange(1000, dtype=np.float32), "table"))
            onnx.save(model, path)
    (tmp_path / SERVICE / "config.pbtxt").write_text(CONFIG)
    with serve(tmp_path) as running:
        yield running


def ask_index(server: Server, index: int) -> int:
    body = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [index]}]}
    return server.ask("POST", f"/v2/models/{SERVICE}/infer", body).status


def test_a_candidate_that_fails_in_a_row_is_turned_off_here(failing: Server) -> None:
    set_traffic(failing, traffic(1.0, fuses=(Fuse("candidate", "control", failures_in_a_row=3),)))
    assert [ask_index(failing, 500) for _ in range(6)] == [500, 500, 500, 200, 200, 200]
    told = report(failing)
    assert [(blown.arm, blown.reason) for blown in told.blown] == [("candidate", "3 requests in a row failed")]
    assert counts_of(told)["candidate"].failed == 3
    set_traffic(failing, traffic(1.0, generation=2, fuses=(Fuse("candidate", "control"),)))
    assert ask_index(failing, 500) == 200, "nobody has acknowledged the fuse"
    set_traffic(failing, traffic(1.0, generation=3, acknowledged=2))
    assert ask_index(failing, 500) == 500


def test_the_exposure_budget_is_a_fuse(failing: Server) -> None:
    set_traffic(failing, traffic(1.0, fuses=(Fuse("candidate", "control", bad_requests=2),)))
    assert [ask_index(failing, index) for index in (500, 1, 500, 1, 500)] == [500, 200, 500, 200, 200]
    assert "exposure budget" in report(failing).blown[0].reason


def test_evidence_that_it_fails_more_often_is_a_fuse(failing: Server) -> None:
    set_traffic(failing, traffic(0.5, fuses=(Fuse("candidate", "control", failures_in_a_row=10_000),)))
    while not report(failing).blown:
        ask_index(failing, 500)
    assert "log e" in report(failing).blown[0].reason
    assert counts_of(report(failing))["candidate"].failed < 40
    assert [ask_index(failing, 500) for _ in range(20)] == [200] * 20


def test_a_fuse_that_blew_elsewhere_is_heeded(server: Server) -> None:
    set_traffic(server, traffic(1.0))
    blown = {"arm": "candidate", "generation": 1, "reason": "another process saw it", "at_ns": 1}
    do(server, "traffic_fuse", {"service": SERVICE, "rollout": "r-1", "blown": blown})
    assert version_of(infer(server)) == 1


def test_an_arm_that_goes_costs_nobody_a_request(tmp_path: Path) -> None:
    with two_versions(tmp_path, models__control="explicit", models__load=["pay"]) as server:
        set_traffic(server, traffic(1.0))
        assert version_of(infer(server)) == 2
        (tmp_path / SERVICE / "config.pbtxt").write_text(CONFIG.replace("all {}", "specific { versions: 1 }"))
        assert server.ask("POST", f"/v2/repository/models/{SERVICE}/load", {}).status == 200
        assert version_of(infer(server)) == 1
        assert [state.ready for state in report(server).states] == [True, False]
