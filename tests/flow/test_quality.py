"""Scores that functions of somebody give: each once, for the rollout that it is of, or counted as dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.support.journals import of
from tests.support.raw_http import wait_until

from taxiway.control.functions import ProcessFunctions
from taxiway.core.traffic import Recorded, Report
from taxiway.rollout.functions import Function, Question
from taxiway.rollout.journal import Journal, Leadership
from taxiway.rollout.nouns import Calls, Rollout, Score
from taxiway.rollout.quality import QualityDesk

FILE = """
def judge(answer):
    return float(answer.outputs["y"].sum())

def half(answer, feedback):
    return feedback.value * float(answer.outputs["y"].sum())

def fails_at_little(answer):
    if answer.outputs["y"].sum() < 0.1:
        raise KeyError("gone")
    return 1.0
"""
GUARD = {"metrics": [{"metric": "quality"}]}


class Desk:
    """A journal, who leads it, and the desk."""

    def __init__(self, folder: Path) -> None:
        (folder / "q.py").write_text(FILE)
        self.journal = Journal.open(f"sqlite:///{folder}/rollouts.db")
        self.functions = ProcessFunctions(folder, 10.0, 2 << 30, rest_s=0.5)
        self.desk = QualityDesk(self.journal, self.functions)
        leadership = self.journal.lease.take()
        assert leadership is not None
        self.leadership: Leadership = leadership
        self.calls: dict[str, Calls] = {}

    def take(self, rollout: Rollout, *records: Recorded) -> list[Score]:
        told = Report("boot", 1, rollout.service, rollout.id, 1, [], [], [], list(records))
        taken = self.desk.take(self.leadership, rollout, [told])
        for arm, calls in taken.calls.items():
            before = self.calls.get(arm, Calls())
            self.calls[arm] = Calls(before.made + calls.made, before.failed + calls.failed, calls.why or before.why)
        return taken.scores

    def taken(self, rollout: Rollout, count: int, *records: Recorded) -> list[Score]:
        found = self.take(rollout, *records)

        def enough() -> bool:
            found.extend(self.take(rollout))
            return len(found) >= count

        wait_until(enough, f"{count} scores have come")
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.functions.close()
    made.journal.close()


def rollout(name: str, service: str, **quality: Any) -> Rollout:
    return of(name, service, guards=GUARD, quality={"judged_percent": 100, **quality})


def tensor(name: str, *values: float) -> dict[str, Any]:
    array = np.asarray(values, np.float32)
    return {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.tobytes()}


def answer(value: float, arm: str = "candidate", request: str = "", **more: Any) -> Recorded:
    return Recorded(arm, 3, request, "", 1, 0.5, (tensor("x", 1.0),), (tensor("y", value),), **more)


def test_a_judge_scores_each_answer_once(desk: Desk) -> None:
    pay = rollout("r-1", "pay", judge="q.py:judge")
    scores = desk.taken(pay, 2, answer(0.25), answer(0.75, "control"))
    assert [(one.arm, one.source, one.score, one.segment) for one in scores] == [
        ("candidate", "judge", 0.25, 3),
        ("control", "judge", 0.75, 3),
    ]
    assert [one.score for one in desk.journal.answers.scores("r-1")] == [
        Score("candidate", "judge", 0.5, 0.25, None),
        Score("control", "judge", 0.5, 0.75, None),
    ]
    assert desk.take(pay) == []


def test_of_a_pair_both_answers_are_scored_at_once(desk: Desk) -> None:
    pay = rollout("r-1", "pay", judge="q.py:judge")
    pair = msgspec.structs.replace(answer(0.5, "control"), other_arm="candidate", other=(tensor("y", 0.25),))
    (score,) = desk.taken(pay, 1, pair)
    assert (score.arm, score.score, score.other) == ("candidate", 0.25, 0.5)


def test_two_rollouts_that_share_a_judge_get_their_own_scores(desk: Desk) -> None:
    pay, ship = (rollout(name, service, judge="q.py:judge") for name, service in (("r-1", "pay"), ("r-2", "ship")))
    desk.take(pay, answer(0.25))
    assert [one.score for one in desk.taken(ship, 1, answer(0.75))] == [0.75]
    assert [one.score for one in desk.taken(pay, 1)] == [0.25]


def test_a_metric_makes_one_score_of_an_answer_and_its_feedback(desk: Desk) -> None:
    pay = rollout("r-1", "pay", metric="q.py:half")
    desk.take(pay, answer(0.5, request="order-1"))
    words = {"service": "pay", "at_ns": 2, "feedback": [{"request": "order-1", "kind": "value", "value": 0.5}]}
    assert desk.desk.give(words)["stored"] == 1
    (score,) = desk.taken(pay, 1)
    assert (score.arm, score.source, score.score) == ("candidate", "feedback", 0.25)
    assert desk.desk.give(words)["duplicate"] == 1
    assert desk.take(pay) == []


def test_answers_that_a_judge_fails_at_are_counted_by_arm_with_the_reason(desk: Desk) -> None:
    pay = rollout("r-1", "pay", judge="q.py:fails_at_little")
    scores = desk.taken(pay, 3, answer(0.0), answer(0.5), answer(0.5, "control"), answer(0.0), answer(0.5))
    assert [(one.arm, one.score) for one in scores] == [("candidate", 1.0), ("control", 1.0), ("candidate", 1.0)]
    assert desk.calls == {"candidate": Calls(4, 2, "KeyError: 'gone'"), "control": Calls(1)}
    assert desk.desk.problem(pay) == ""


def test_a_judge_that_cannot_be_loaded_any_more_says_so_and_its_answers_wait(desk: Desk, tmp_path: Path) -> None:
    pay = rollout("r-1", "pay", judge="q.py:judge")
    file = tmp_path / "q.py"
    said = file.read_text()
    file.unlink()
    assert desk.take(pay, answer(0.5)) == []
    wait_until(lambda: bool(desk.desk.problem(pay)), "it is told")
    assert desk.desk.problem(pay).startswith("q.py:judge gives no scores: q.py:judge: there is no file")
    file.write_text(said)
    assert [one.score for one in desk.taken(pay, 1)] == [0.5]
    assert desk.calls == {"candidate": Calls(1)}


def test_of_rollouts_that_are_over_nothing_is_kept(desk: Desk) -> None:
    pay = rollout("r-1", "pay", judge="q.py:judge")
    desk.take(pay, answer(0.5))
    desk.desk.keep({"r-2"})
    assert desk.take(pay) == []
    assert [one.score for one in desk.taken(pay, 1, answer(0.75))] == [0.75]


def test_answers_that_a_judge_has_no_time_for_are_counted(desk: Desk) -> None:
    pay = rollout("r-1", "pay", judge="q.py:judge")
    judge = Function.parse("quality.judge", "q.py:judge", 1)
    while desk.functions.ask(judge, Question("r-1", None, [([], [tensor("y", 0.5)])])):
        """Until nobody more may wait."""
    desk.take(pay, *[answer(0.5)] * 2000)
    assert desk.desk.dropped > 0
