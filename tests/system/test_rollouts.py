"""Rollouts of a real served model under load, with a control process that may die at any moment."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.numbered_models import adder
from tests.support.raw_http import wait_until
from tests.support.rollouts import MODEL, Caller, Crowd, Server, Shop, failing, good, open_shop

from taxiway.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    InvalidTransition,
    NotFound,
    RolloutActive,
    VerdictInconclusive,
)

QUICK: dict[str, Any] = {"min_step_s": 0.3, "settle_s": 0.1, "guard_for_s": 0.3, "twin": False}
EASY: dict[str, Any] = {**QUICK, "guards": {"min_requests": 20, "metrics": [{"metric": "errors", "allowance": 0.3}]}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("shop"), good, good, failing)


@pytest.fixture
def server(shop: Shop, tmp_path: Path) -> Iterator[Server]:
    shop.point("stable", 1)
    own: dict[str, Any] = {"control.journal": f"sqlite:///{tmp_path / 'rollouts.db'}"}
    with shop.serve(**own) as running:
        yield running


def test_an_equal_candidate_is_promoted_and_undone(server: Server, shop: Shop) -> None:
    with Crowd(server.process.address) as crowd:
        rollout = server.start(to="2", **{**EASY, "twin": True}, steps=[10, 50, 100])
        told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra")
        assert (told["phase"], told["winner"]) == ("succeeded", "candidate"), told
        wait_until(lambda: server.answer()[1] == 2.0, "the new version answers")
        with shop.registry() as registry:
            wait_until(lambda: registry.aliases(MODEL)["stable"] == 2, "the alias has moved")
        undone = server.tell(f"/v1/services/{MODEL}/undo", reason="on second thoughts", idempotency_key="u")
        told = server.wait_for(undone["rollout"]["id"], "succeeded", "rolled-back", "failed-infra")
        assert told["phase"] == "succeeded", told
        wait_until(lambda: server.answer()[1] == 1.0, "the old version answers again")
    assert set(crowd.statuses) == {200}
    replayed = server.see(f"/v1/rollouts/{rollout}/replay")
    assert replayed["same"], replayed["lines"]
    kinds = [event["kind"] for event in server.see(f"/v1/rollouts/{rollout}/history")["events"]]
    assert kinds[:4] == ["started", "begun", "admitted", "staged"]


def test_a_failing_candidate_is_turned_back_and_kept_out(server: Server) -> None:
    with Crowd(server.process.address, (0.0, 500.0)):
        rollout = server.start(to="3", **EASY, steps=[50, 100])
        told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra")
    assert (told["phase"], told["quarantined"]) == ("rolled-back", True), told
    assert {server.answer()[1] for _ in range(20)} == {1.0}
    with pytest.raises(FailedPrecondition, match=f"was turned back by rollout {rollout}") as refused:
        server.start(to="3", **EASY)
    assert "--force" in refused.value.hint


def test_nothing_is_promoted_without_requests_and_a_person_may_decide(server: Server) -> None:
    rollout = server.start(to="2", **EASY, steps=[50, 100])
    server.wait_for(rollout, "step")
    wait_until(lambda: server.see(f"/v1/rollouts/{rollout}")["verdict"] is not None, "it was looked at")
    status = server.see(f"/v1/rollouts/{rollout}")
    assert status["verdict"]["outcome"] == "inconclusive"
    assert status["rollout"]["phase"] == "step"
    with pytest.raises(RolloutActive):
        server.start(to="2", **EASY)
    with pytest.raises(InvalidArgument, match="reason is missing"):
        server.tell(f"/v1/rollouts/{rollout}/promote", full=True, idempotency_key="a")
    done = server.tell(f"/v1/rollouts/{rollout}/promote", full=True, reason="trust me", idempotency_key="b")
    again = server.tell(f"/v1/rollouts/{rollout}/promote", full=True, reason="trust me", idempotency_key="b")
    assert done["rollout"]["phase"] in ("promote", "guard")
    assert again["rollout"]["generation"] >= done["rollout"]["generation"]
    assert server.answer()[1] == 2.0
    server.tell(f"/v1/rollouts/{rollout}/abort", reason="no", idempotency_key="c")
    server.wait_for(rollout, "rolled-back")
    assert server.answer()[1] == 1.0
    with pytest.raises(InvalidTransition):
        server.tell(f"/v1/rollouts/{rollout}/abort", reason="no", idempotency_key="d")


def test_one_process_after_the_other_changes_and_each_answers_by_one_version(shop: Shop, tmp_path: Path) -> None:
    shop.point("stable", 1)
    own: dict[str, Any] = {"control.journal": f"sqlite:///{tmp_path / 'rollouts.db'}", "workers": 3}
    with shop.serve(**own) as server, Crowd(server.process.address, callers=12) as crowd:
        rollout = server.start(to="2", **{**EASY, "strategy": "rolling"})
        told = server.wait_for(rollout, "step", "guard", "succeeded")
        assert [round(step) for step in told["plan"]["steps"]] == [33, 67, 100]
        server.tell(f"/v1/rollouts/{rollout}/pause", reason="let me look", idempotency_key="p")
        told = server.rollout(rollout)
        if told["phase"] == "step":
            clients = [Caller(server.process.address) for _ in range(24)]
            seen = [{client.ask(0.0, {"X-Unit-Id": f"user-{number}"})[1] for number in range(10)} for client in clients]
            assert all(len(versions) == 1 for versions in seen), "a connection leads to one process"
            assert set.union(*seen) <= {1.0, 2.0}
            for client in clients:
                client.close()
        server.tell(f"/v1/rollouts/{rollout}/resume", reason="go on", idempotency_key="r")
        told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra")
        assert told["phase"] == "succeeded", told
        assert {server.answer()[1] for _ in range(20)} == {2.0}
    assert set(crowd.statuses) == {200}


def test_what_is_wrong_with_a_plan_is_told_at_once(server: Server) -> None:
    with pytest.raises(NotFound, match="no version '9'"):
        server.start(to="9")
    with pytest.raises(NotFound, match="is not served here"):
        server.start("nobody", to="1")
    with pytest.raises(FailedPrecondition, match="answers already"):
        server.start(to="1")
    with pytest.raises(InvalidArgument) as refused:
        server.start(to="2", steps=[5, 3], strategy="magic")
    assert "steps" in refused.value.message
    assert "strategy" in refused.value.message


def test_the_control_process_may_die_and_goes_on_where_it_was(server: Server) -> None:
    with Crowd(server.process.address) as crowd:
        rollout = server.start(to="2", **EASY, steps=[20, 50, 100])
        for phase in ("step", "guard"):
            server.wait_for(rollout, phase, "drain", "succeeded")
            os.kill(server.see("/v1/health")["pid"], signal.SIGKILL)
            wait_until(lambda: _answers(server), "the control process is back")
        told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra")
    assert told["phase"] == "succeeded", told
    assert set(crowd.statuses) == {200}
    assert server.see(f"/v1/rollouts/{rollout}/replay")["same"]


def _answers(server: Server) -> bool:
    try:
        return bool(server.see("/v1/health"))
    except OSError:
        return False


def test_others_may_ask_the_judge(server: Server) -> None:
    tallies = {"candidate": {"answered": 950, "failed": 50}, "control": {"answered": 18800, "failed": 190}}
    evidence = {"segments": [{"number": 1, "weights": {"candidate": 0.05, "control": 0.95}, "tallies": tallies}]}
    guards = {"metrics": [{"metric": "errors", "margin": 0.25}]}
    verdict = server.tell("/v1/judge", evidence=evidence, guards=guards)
    assert verdict["outcome"] == "fail"
    assert verdict["guards"][0]["candidate"] == 50
    with pytest.raises(InvalidArgument, match="evidence is not understood"):
        server.tell("/v1/judge", evidence={"segments": 3})
    rollout = server.start(to="2", **EASY, steps=[50, 100])
    server.wait_for(rollout, "step")
    with pytest.raises(VerdictInconclusive):
        server.tell("/v1/flagger", metadata={"rollout": rollout})
    assert server.tell("/v1/flagger", metadata={"rollout": rollout, "inconclusive": "continue"})
    assert server.see(f"/v1/rollouts/{rollout}/verdict")["verdict"] == "inconclusive"


def test_the_manifest_begins_a_rollout_once(shop: Shop, tmp_path: Path) -> None:
    shop.point("stable", 1)
    own: dict[str, Any] = {
        "control.journal": f"sqlite:///{tmp_path / 'rollouts.db'}",
        "rollouts": json.dumps({MODEL: {"to": "2", **EASY, "steps": [50, 100]}}),
    }
    for _ in range(2):
        with shop.serve(**own) as running:
            wait_until(lambda: running.see("/v1/rollouts")["rollouts"], "the manifest's rollout has begun")
            (one,) = running.see("/v1/rollouts")["rollouts"]
            running.wait_for(one["id"], "step")
            assert one["created_by"] == "manifest"


def test_feedback_finds_its_answer_and_turns_a_wrong_candidate_back(server: Server) -> None:
    guards = {"min_requests": 20, "metrics": [{"metric": "quality", "margin": 0.05}]}
    rollout = server.start(to="2", **{**QUICK, "guards": guards, "units": ["request-id"]}, steps=[50, 100])
    server.wait_for(rollout, "step")
    host, port = server.process.address
    line = http.client.HTTPConnection(host, port, timeout=20)

    def post(path: str, words: Any) -> tuple[int, Any]:
        line.request("POST", f"/v2/models/{MODEL}/{path}", json.dumps(words))
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())

    one = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.0]}
    number, rating = 0, 1.0
    while server.rollout(rollout)["phase"] == "step" and number < 3000:
        number += 1
        status, told = post("infer", {"id": f"q-{number}", "inputs": [one]})
        assert status == 200
        rating = 1.0 if told["model_version"] == "1" else 0.0
        assert post("feedback", {"id": f"q-{number}", "rating": rating}) == (
            200,
            {"stored": 1, "duplicate": 0, "conflicting": 0},
        )
    told = server.wait_for(rollout, "rolled-back")
    assert "quality of candidate" in told["reason"]
    assert post("feedback", {"id": "q-1", "rating": rating if number == 1 else 0.5})[1]["conflicting"] == 1
    assert post("feedback", {"id": "q-1", "rating": 7})[0] == 400
    assert post("feedback", {"rating": 1})[0] == 400
    line.close()


def test_undo_goes_back_past_rollouts_that_were_turned_back(server: Server) -> None:
    with Crowd(server.process.address, (0.0, 500.0)):
        first = server.start(to="2", **EASY, steps=[50, 100])
        server.wait_for(first, "succeeded")
        second = server.start(to="3", **EASY, steps=[50, 100])
        server.wait_for(second, "rolled-back")
        assert server.answer()[1] == 2.0
        undone = server.tell(f"/v1/services/{MODEL}/undo", reason="both")
        server.wait_for(undone["rollout"]["id"], "succeeded")
    assert server.answer()[1] == 1.0


JUDGE = '''
def close_to_one(answer):
    """1 as long as what is added is about 1 or 2."""
    added = float((answer.outputs["y"] - answer.inputs["x"]).mean())
    return 1.0 if added < 2.5 else 0.0

def right(answer, feedback):
    return 1.0 if abs(float(answer.outputs["y"].sum()) - feedback.value) < 0.5 else 0.0
'''


def wrong(path: Path, number: int) -> Path:
    """Adds ten to what it should."""
    return adder(path, number + 10)


def test_a_judge_in_python_turns_back_what_is_worse_and_lets_the_equal_pass(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, good, good, wrong)
    (tmp_path / "judges").mkdir()
    (tmp_path / "judges" / "quality.py").write_text(JUDGE)
    guards = {"min_requests": 20, "metrics": [{"metric": "quality", "margin": 0.2}]}
    plan = {**QUICK, "guards": guards, "quality": {"judge": "quality.py:close_to_one", "judged_percent": 100}}
    with shop.serve(control__python=tmp_path / "judges") as server, Crowd(server.process.address) as crowd:
        with pytest.raises(InvalidArgument, match="has no function absent"):
            server.start(to="2", **{**plan, "quality": {"judge": "quality.py:absent"}})
        rollout = server.start(to="3", **plan, steps=[50, 100])
        told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra")
        assert (told["phase"], told["quarantined"]) == ("rolled-back", True), told
        assert "quality" in told["reason"]
        assert server.see(f"/v1/rollouts/{rollout}/replay")["same"]
        rollout = server.start(to="2", **plan, steps=[50, 100])
        told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra")
        assert told["phase"] == "succeeded", told
    assert set(crowd.statuses) == {200}


FUSSY = '''
def fussy(answer):
    """Fails at the wrong half of what a wrong version answers, and is content with the rest."""
    if (answer.outputs["y"] - answer.inputs["x"]).mean() > 2.5 and answer.inputs["x"].mean() > 0.5:
        raise ValueError("what is this")
    return 1.0
'''


def test_what_a_judge_fails_at_neither_promotes_nor_turns_back(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, good, wrong)
    (tmp_path / "quality.py").write_text(FUSSY)
    guards = {"min_requests": 20, "metrics": [{"metric": "quality", "margin": 0.2}]}
    plan = {**QUICK, "guards": guards, "quality": {"judge": "quality.py:fussy", "judged_percent": 100}}
    with (
        shop.serve(control__python=tmp_path) as server,
        Crowd(server.process.address, values=(0.0, 1.0)) as crowd,
    ):
        rollout = server.start(to="2", **plan, steps=[50, 100])
        server.wait_for(rollout, "step")
        before = crowd.statuses[200]
        wait_until(lambda: crowd.statuses[200] > before + 800, "much more is answered than would decide it")
        told = server.see(f"/v1/rollouts/{rollout}")
        assert told["rollout"]["phase"] == "step", told
        assert "answers of candidate have no score: ValueError: what is this" in told["rollout"]["degraded"]
        assert told["verdict"]["outcome"] == "inconclusive", told["verdict"]


def test_a_metric_in_python_makes_scores_of_feedback(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, good, wrong)
    (tmp_path / "quality.py").write_text(JUDGE)
    guards = {"min_requests": 20, "metrics": [{"metric": "quality", "margin": 0.2}]}
    plan = {**QUICK, "guards": guards, "quality": {"metric": "quality.py:right"}, "units": ["header:x-unit-id"]}
    with shop.serve(control__python=tmp_path) as server:
        rollout = server.start(to="2", **plan, steps=[50, 100])
        server.wait_for(rollout, "step")
        for number in range(3000):
            _ask_and_tell(server.process.address, f"order-{number}")
            if server.rollout(rollout)["phase"] != "step":
                break
        told = server.wait_for(rollout, "rolled-back", "succeeded")
        assert told["phase"] == "rolled-back", told
        assert "quality" in told["reason"]


def _ask_and_tell(address: tuple[str, int], name: str) -> None:
    """An answer, and then what it should have been."""
    connection = http.client.HTTPConnection(*address)
    one = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.0]}
    asked = [
        (f"/v2/models/{MODEL}/infer", {"id": name, "inputs": [one]}),
        (f"/v2/models/{MODEL}/feedback", {"id": name, "value": 1.0}),
    ]
    for path, words in asked:
        connection.request("POST", path, json.dumps(words), {"X-Unit-Id": name})
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
            answer.read()
    connection.close()
