"""Scores of live answers: feedback is kept, meets the answer that it is of, and becomes a score, once. Blocking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from taxiway.core.errors import IdempotencyConflict
from taxiway.core.tensors import Datatype
from taxiway.core.traffic import Recorded, Report
from taxiway.rollout.answers import Answer, Feedback, Joined, Scored
from taxiway.rollout.journal import Journal, Leadership
from taxiway.rollout.nouns import Rollout, Score


class QualityDesk:
    """Takes feedback in, and makes scores of it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

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

    def take(self, leadership: Leadership, rollout: Rollout, reports: Iterable[Report]) -> list[Score]:
        """Keep the answers of these reports, and score what feedback has met its answer: of this rollout.

        What was scored is settled before it is evidence: whoever is killed between loses a score, and counts none
            twice.
        """
        answers = [
            _answer_of(rollout, record)
            for report in reports
            if report.rollout == rollout.id
            for record in report.recorded
            if record.id and not record.other_arm
        ]
        self._journal.answers.record(leadership, answers)
        scores: list[Score] = []
        joined = self._journal.answers.ready(rollout.service)
        for rollout_id in {one.answer.rollout for one in joined}:
            own = [_scored(one) for one in joined if one.answer.rollout == rollout_id]
            self._journal.answers.settle(leadership, rollout_id, own)
            if rollout_id == rollout.id:
                scores += [one.score for one in own if one.score is not None]
        return scores


def _answer_of(rollout: Rollout, record: Recorded) -> Answer:
    return Answer(
        service=rollout.service,
        rollout=rollout.id,
        arm=record.arm,
        segment=record.segment,
        request=record.id,
        unit=record.unit,
        at_ns=record.at_ns,
        weight=record.weight,
        prediction=label_of(record.outputs),
    )


def _scored(joined: Joined) -> Scored:
    answer, feedback = joined.answer, joined.feedback
    value: float | None = None
    if feedback.kind == "rating":
        value = float(feedback.value)
    elif feedback.kind == "label" and answer.prediction is not None:
        value = 1.0 if feedback.value == answer.prediction else 0.0
    score = None if value is None else Score(answer.arm, "feedback", answer.weight, value, None, answer.segment)
    return Scored(score, answer.segment, answer.request, joined.number)


def label_of(outputs: Sequence[Mapping[str, Any]]) -> int | str | None:
    """What an answer says, of one row: its label, or the place of the best of its scores; None: neither can be told.

    An integer or text output is the label; else the first output of floating point numbers is one score for each class.
    """
    for tensor in outputs:
        if tensor["datatype"] == "BYTES" and _elements(tensor["shape"]) == 1:
            return bytes(tensor["data"][4:]).decode("utf-8", "replace")
        if tensor["datatype"].startswith(("INT", "UINT")) and _elements(tensor["shape"]) == 1:
            return int(_array(tensor).reshape(-1)[0])
    for tensor in outputs:
        if tensor["datatype"] in ("FP32", "FP64") and _elements(tensor["shape"]) == tensor["shape"][-1] > 1:
            return int(_array(tensor).reshape(-1).argmax())
    return None


def _elements(shape: Sequence[int]) -> int:
    return int(np.prod(shape)) if len(shape) else 0


def _array(tensor: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an array of any type
    datatype = Datatype.by_name(tensor["datatype"])
    assert datatype is not None  # noqa: S101 - the data plane names no others
    return np.frombuffer(tensor["data"], datatype.numpy_dtype)
