"""Scores of live answers: by feedback that has met its answer, and by a judge that looks at answers alone. Blocking.

What a person's function is needed for is asked of it, and fetched with a later look: nothing waits for it here.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taxiway.core.errors import IdempotencyConflict
from taxiway.core.traffic import Recorded, Report
from taxiway.rollout.answers import Answer, Feedback, Joined, Scored
from taxiway.rollout.functions import BUILT_IN, Function, Functions, Question, Reply
from taxiway.rollout.journal import Journal, Leadership
from taxiway.rollout.nouns import Calls, Rollout, Score
from taxiway.rollout.predictions import kept_outputs, label_of, unpacked


def functions_of(quality: Mapping[str, Any]) -> list[Function]:
    """Those that a plan's `quality` names.

    Raises:
        InvalidArgument: what it says names none.
    """
    found = []
    if quality["metric"] not in BUILT_IN:
        found.append(Function.parse("quality.metric", quality["metric"], 2))
    if quality["judge"]:
        found.append(Function.parse("quality.judge", quality["judge"], 1))
    return found


@dataclass(slots=True)
class Taken:
    """What a look brought: scores, and how the calls ended that functions make them by, by arm."""

    scores: list[Score] = field(default_factory=list)
    calls: dict[str, Calls] = field(default_factory=dict)

    def add(self, scored: Iterable[Scored]) -> None:
        """Those that have a score."""
        self.scores += [one.score for one in scored if one.score is not None]

    def count(self, arm: str, reply: Reply) -> None:
        """A call about this arm's answer has ended."""
        calls = self.calls.setdefault(arm, Calls())
        calls.made += 1
        if reply.problem:
            calls.failed, calls.why = calls.failed + 1, reply.problem


class QualityDesk:
    """Takes feedback in, and makes scores of it.

    Args:
        functions: runs functions of somebody's.
    """

    def __init__(self, journal: Journal, functions: Functions) -> None:
        self._journal = journal
        self._functions = functions
        self._asked: dict[str, set[int]] = {}
        """Feedback that a function is asked about, by rollout."""
        self._chance = random.Random()  # noqa: S311 - a sample
        self.dropped = 0
        """Answers that a judge had no time for."""

    def give(self, words: Mapping[str, Any]) -> dict[str, int]:
        """Keep pieces of feedback as a data-plane process sends them; how many were new, known, and contradicted.

        One that says otherwise than what was said before is left out, and counted.
        """
        told = {"stored": 0, "duplicate": 0, "conflicting": 0}
        for piece in words["feedback"]:
            feedback = Feedback(words["service"], piece["request"], piece["kind"], piece["value"], words["at_ns"])
            try:
                told["stored" if self._journal.answers.give(feedback) else "duplicate"] += 1
            except IdempotencyConflict:
                told["conflicting"] += 1
        return told

    def check(self, plan: Mapping[str, Any]) -> None:
        """Load the functions that a plan names.

        Raises:
            InvalidArgument: one of them cannot be used.
        """
        for function in functions_of(plan["quality"]):
            self._functions.check(function)

    def problem(self, rollout: Rollout) -> str:
        """Why a function that this rollout is judged by gives no scores now; empty: it does."""
        functions = functions_of(rollout.plan["quality"])
        told = ((function, self._functions.problem(function, rollout.id)) for function in functions)
        return next((f"{function} gives no scores: {problem}" for function, problem in told if problem), "")

    def keep(self, rollouts: Collection[str]) -> None:
        """Be done with all others."""
        self._functions.keep(rollouts)
        self._asked = {rollout: asked for rollout, asked in self._asked.items() if rollout in rollouts}

    def take(self, leadership: Leadership, rollout: Rollout, reports: Iterable[Report]) -> Taken:
        """Keep the answers of these reports, and score what can be scored: of this rollout.

        What was scored is settled before it is evidence: whoever is killed between loses a score, and counts none
            twice.
        """
        quality = rollout.plan["quality"]
        records = [record for report in reports if report.rollout == rollout.id for record in report.recorded]
        if quality["judge"]:
            self._have_judged(Function.parse("quality.judge", quality["judge"], 1), rollout, records)
        by_function = quality["metric"] not in BUILT_IN
        keep = kept_outputs if by_function else label_of
        answers = [
            _answer_of(rollout, record, keep(record.outputs))
            for record in records
            if record.id and not record.other_arm
        ]
        self._journal.answers.record(leadership, answers)
        taken = Taken()
        self._by_feedback(leadership, rollout, quality, taken)
        self._by_judge(leadership, rollout, quality, taken)
        return taken

    # --- feedback -------------------------------------------------------------------------------------------

    def _by_feedback(self, leadership: Leadership, rollout: Rollout, quality: Mapping[str, Any], taken: Taken) -> None:
        joined = self._journal.answers.ready(rollout.service)
        if quality["metric"] in BUILT_IN:
            scored = [(one.answer.rollout, _scored(one)) for one in joined]
        else:
            scored = self._by_metric(Function.parse("quality.metric", quality["metric"], 2), rollout, joined, taken)
        for rollout_id in {one for one, _ in scored}:
            own = [one for name, one in scored if name == rollout_id]
            self._journal.answers.settle(leadership, rollout_id, own)
            if rollout_id == rollout.id:
                taken.add(own)

    def _by_metric(
        self, function: Function, rollout: Rollout, joined: Sequence[Joined], taken: Taken
    ) -> list[tuple[str, Scored]]:
        """Ask about what is new, and take in what was told; what is of another rollout is only settled."""
        scored = [(one.answer.rollout, _unscored(one)) for one in joined if one.answer.rollout != rollout.id]
        asked = self._asked.setdefault(rollout.id, set())
        for one in joined:
            if one.answer.rollout != rollout.id or one.number in asked:
                continue
            outputs = one.answer.prediction
            if not isinstance(outputs, list):  # it was too large, or is of a plan with another metric
                scored.append((rollout.id, _unscored(one)))
                continue
            feedback = {"kind": one.feedback.kind, "value": one.feedback.value}
            if self._functions.ask(function, Question(rollout.id, one, [([], unpacked(outputs))], feedback)):
                asked.add(one.number)
        for reply in self._functions.replies(function, rollout.id):
            about: Joined = reply.key
            asked.discard(about.number)
            taken.count(about.answer.arm, reply)
            scored.append((about.answer.rollout, _with_score(about, reply.scores[0])))
        return scored

    # --- judges ---------------------------------------------------------------------------------------------

    def _have_judged(self, function: Function, rollout: Rollout, records: Sequence[Recorded]) -> None:
        """Ask about some of the answers that are known whole; about pairs of a shadow, both at once."""
        share = rollout.plan["quality"]["judged_percent"] / 100
        for record in records:
            whole = bool(record.other_arm and record.other is not None) or bool(record.inputs)
            if not whole or self._chance.random() >= self._share_of(record, share, rollout):
                continue
            answers = [(record.inputs, record.outputs)]
            if record.other is not None:
                answers.append((record.inputs, record.other))
            key = (record.other_arm or record.arm, record.segment, record.weight, record.id)
            self.dropped += not self._functions.ask(function, Question(rollout.id, key, answers))

    def _share_of(self, record: Recorded, share: float, rollout: Rollout) -> float:
        """The data plane has sampled already, unless it keeps every answer for other reasons."""
        every = bool(record.other_arm) or rollout.plan["quality"]["metric"] != "rating"
        return share if every else 1.0

    def _by_judge(self, leadership: Leadership, rollout: Rollout, quality: Mapping[str, Any], taken: Taken) -> None:
        if not quality["judge"]:
            return
        told = self._functions.replies(Function.parse("quality.judge", quality["judge"], 1), rollout.id)
        for reply in told:
            taken.count(reply.key[0], reply)
        scored = [one for reply in told if (one := _judged(reply)) is not None]
        self._journal.answers.settle(leadership, rollout.id, scored)
        taken.add(scored)


def _judged(reply: Reply) -> Scored | None:
    """None: it gave no score of every answer."""
    arm, segment, weight, request = reply.key
    if any(score is None for score in reply.scores):
        return None
    first, *second = (float(score) for score in reply.scores if score is not None)
    if second:  # a pair: the shadow's answer came second
        return Scored(Score(arm, "judge", weight, second[0], first, segment), segment, request)
    return Scored(Score(arm, "judge", weight, first, None, segment), segment, request)


def _answer_of(rollout: Rollout, record: Recorded, prediction: Any) -> Answer:  # noqa: ANN401 - JSON
    return Answer(
        service=rollout.service,
        rollout=rollout.id,
        arm=record.arm,
        segment=record.segment,
        request=record.id,
        unit=record.unit,
        at_ns=record.at_ns,
        weight=record.weight,
        prediction=prediction,
    )


def _scored(joined: Joined) -> Scored:
    answer, feedback = joined.answer, joined.feedback
    value: float | None = None
    if feedback.kind == "rating":
        value = float(feedback.value)
    elif feedback.kind == "label" and answer.prediction is not None:
        value = 1.0 if feedback.value == answer.prediction else 0.0
    return _with_score(joined, value)


def _unscored(joined: Joined) -> Scored:
    return _with_score(joined, None)


def _with_score(joined: Joined, value: float | None) -> Scored:
    answer = joined.answer
    score = None if value is None else Score(answer.arm, "feedback", answer.weight, value, None, answer.segment)
    return Scored(score, answer.segment, answer.request, joined.number)
