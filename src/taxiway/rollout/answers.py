"""Answers, what callers said of them, and the scores that follow: what quality is judged by.

An answer and the feedback for it meet by the request's id, whichever comes first: feedback may arrive before the data
plane has told of its answer, or days later. Each piece of feedback counts once, however often it is sent, and is scored
once, whatever is killed meanwhile: that it was scored is written with the score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, func, insert, select, text, update

from taxiway.core.clock import Clock
from taxiway.core.errors import IdempotencyConflict, InvalidArgument
from taxiway.registry.canonical import canonical_json, checked_text, read_json
from taxiway.registry.database import Database
from taxiway.rollout import schema
from taxiway.rollout.leading import Leadership, lock_head, require_leadership
from taxiway.rollout.moments import utc_ns
from taxiway.rollout.nouns import Score

MAX_ID: Final = 512
"""Characters of a request's id; one that is longer is no answer that feedback can find."""

_AT_ONCE: Final = 500
_PRUNED_AT_ONCE: Final = 20_000

_answer, _feedback, _score = schema.answer, schema.feedback, schema.score


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as the data plane told of it.

    Attributes:
        request: the request's id, by which feedback finds it.
        unit: on whose behalf it came, hashed.
        at_ns: UTC nanoseconds.
        weight: the share of requests that its arm had.
        prediction: what it said, as small as whoever scores it can do with. JSON.
    """

    service: str
    rollout: str
    arm: str
    segment: int
    request: str
    unit: str
    at_ns: int
    weight: float
    prediction: Any = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody said of an answer.

    Attributes:
        kind: as `rating` or `label`; of each kind a request has one.
        value: JSON.
        at_ns: UTC nanoseconds.
    """

    service: str
    request: str
    kind: str
    value: Any
    at_ns: int


@dataclass(frozen=True, slots=True)
class Joined:
    """An answer with feedback for it, that nobody has scored yet; `number` is the feedback's."""

    number: int
    answer: Answer
    feedback: Feedback


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of an answer.

    Attributes:
        score: None: it cannot be scored, or no longer; its feedback is done with.
        number: in what is read: its place among the rollout's scores, from 1, without gaps.
        joined: in what is written: `Joined.number` of the feedback it rests on; 0: none.
    """

    score: Score | None
    segment: int
    request: str = ""
    joined: int = 0
    number: int = 0
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """How many there are of a service.

    Attributes:
        waiting: feedback whose answer is not known, or no longer.
        ready: feedback that could be scored.
    """

    answers: int
    feedback: int
    waiting: int
    ready: int


class Answers:
    """The answers, feedback and scores in a journal's database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # --- writing -------------------------------------------------------------------------------------------

    def record(self, leadership: Leadership, answers: Iterable[Answer]) -> int:
        """Keep answers; how many are new. The first of a request and rollout counts, and one without an id is left out.

        It does not wait for the disk: a power cut may take the last of them.

        Raises:
            NotLeader: another process has taken the lease.
            InvalidArgument: JSON cannot hold a prediction; nothing was kept.
        """
        rows = [_row(answer) for answer in answers if _can_be_found(answer.request)]
        if not rows:
            return 0
        with self._database.note() as connection:
            lock_head(connection)
            require_leadership(connection, leadership)
            last = connection.scalar(select(func.max(_answer.c.id))) or 0
            numbered = [{"id": number, **row} for number, row in enumerate(rows, last + 1)]
            new = connection.execute(_KEEP_FIRST, numbered).rowcount
            for service in {row["service"] for row in rows}:
                _find_answers(connection, service, [row["request"] for row in rows if row["service"] == service])
            return new

    def give(self, feedback: Feedback) -> bool:
        """Keep feedback, whether or not its answer is known; False if the very same was given before.

        Raises:
            IdempotencyConflict: other feedback of this kind was given for the request.
            InvalidArgument: a name is empty or too long, or JSON cannot hold the value.
        """
        for field in ("service", "request", "kind"):
            checked_text(field, getattr(feedback, field), at_most=MAX_ID)
        value = canonical_json(feedback.value)
        same = (_feedback.c.service == feedback.service) & (_feedback.c.request == feedback.request)
        with self._database.write() as connection:
            lock_head(connection)
            found = connection.scalar(select(_feedback.c.value).where(same & (_feedback.c.kind == feedback.kind)))
            if found is None:
                _insert_feedback(connection, feedback, value)
                _find_answers(connection, feedback.service, [feedback.request])
                return True
        if found != value:
            raise IdempotencyConflict(
                f"request {feedback.request!r} of {feedback.service} has the {feedback.kind} {found[:80]} already",
                hint="feedback of a kind is given once for a request; send it again only as it was",
            )
        return False

    def settle(self, leadership: Leadership, rollout: str, scored: Sequence[Scored]) -> int:
        """Append scores to a rollout's, and be done with the feedback that they rest on; how many were appended.

        What rests on feedback that was scored before is left out.

        Raises:
            NotLeader: another process has taken the lease.
        """
        with self._database.note() as connection:
            lock_head(connection)
            require_leadership(connection, leadership)
            now = utc_ns(self._clock.now_utc())
            fresh = [one for one in scored if _is_fresh(connection, one, now)]
            rows = [_said(one, one.score) for one in fresh if one.score is not None]
            last = connection.scalar(select(func.max(_score.c.number)).where(_score.c.rollout == rollout)) or 0
            same = {"rollout": rollout, "at_ns": now}
            if rows:
                connection.execute(
                    insert(_score), [{"number": number, **same, **row} for number, row in enumerate(rows, last + 1)]
                )
            return len(rows)

    def prune(self, leadership: Leadership, *, older_than_ns: int, keep: int) -> int:
        """Forget answers and feedback from before a moment, and all but the newest `keep` answers of each service.

        Scores from before it go with the rollout they are of, once that is over; evidence that events name has them
        still. How many rows went: at most some thousands at a time, so that nobody waits for long. Until it is 0 there
        are more.

        Raises:
            NotLeader: another process has taken the lease.
        """
        with self._database.write() as connection:
            lock_head(connection)
            require_leadership(connection, leadership)
            gone = 0
            for service in connection.scalars(select(_answer.c.service).distinct()).all():
                gone += _prune_answers(connection, service, older_than_ns, keep)
            gone += _prune_feedback(connection, older_than_ns)
            return gone + _prune_scores(connection, older_than_ns)

    # --- reading -------------------------------------------------------------------------------------------

    def ready(self, service: str, *, limit: int = 1000) -> list[Joined]:
        """Feedback whose answer is known, in the order in which it was given, until it is settled."""
        here = (_feedback.c.service == service) & (_feedback.c.joined_at_ns == 0) & (_feedback.c.answer > 0)
        columns = [column.label(f"a_{column.name}") for column in _answer.c]
        query = select(_feedback, *columns).join(_answer, _answer.c.id == _feedback.c.answer).where(here)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_feedback.c.id).limit(limit)).mappings()
            return [_joined(dict(row)) for row in rows]

    def scores(self, rollout: str, *, after: int = 0, limit: int = 100_000) -> list[Scored]:
        """A rollout's scores in the order in which they came, after number `after`."""
        query = select(_score).where(_score.c.rollout == rollout, _score.c.number > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_score.c.number).limit(limit))
            return [
                Scored(
                    Score(row.arm, row.source, row.weight, row.score, row.other),
                    row.segment,
                    row.request,
                    number=row.number,
                    at_ns=row.at_ns,
                )
                for row in rows
            ]

    def known(self, service: str) -> Known:
        """How many there are."""
        mine = _feedback.c.service == service
        open_ = mine & (_feedback.c.joined_at_ns == 0)
        with self._database.read() as connection:
            counted = [
                connection.scalar(select(func.count()).select_from(table).where(condition)) or 0
                for table, condition in (
                    (_answer, _answer.c.service == service),
                    (_feedback, mine),
                    (_feedback, open_ & (_feedback.c.answer == 0)),
                    (_feedback, open_ & (_feedback.c.answer > 0)),
                )
            ]
        return Known(*counted)


# --- rows ----------------------------------------------------------------------------------------------

_COLUMNS: Final = [column.name for column in _answer.c]
_KEEP_FIRST: Final = text(
    f"INSERT INTO {_answer.name} ({', '.join(_COLUMNS)}) "  # noqa: S608 - constants
    f"VALUES ({', '.join(f':{name}' for name in _COLUMNS)}) ON CONFLICT DO NOTHING"
)


def _can_be_found(request: str) -> bool:
    """Whether feedback may name it; a caller's id can be anything."""
    try:
        checked_text("request", request, at_most=MAX_ID)
    except InvalidArgument:
        return False
    return True


def _row(answer: Answer) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(answer, name) for name in _COLUMNS if name != "id"}
    return row | {"prediction": canonical_json(answer.prediction)}


def _insert_feedback(connection: Connection, feedback: Feedback, value: str) -> None:
    row = {"id": (connection.scalar(select(func.max(_feedback.c.id))) or 0) + 1, "value": value}
    row |= {name: getattr(feedback, name) for name in ("service", "request", "kind", "at_ns")}
    connection.execute(insert(_feedback).values(**row, answer=0, joined_at_ns=0))


def _find_answers(connection: Connection, service: str, requests: Sequence[str]) -> None:
    """Tell feedback for these requests which answer it is for, if there is one: the newest."""
    same = (_answer.c.service == _feedback.c.service) & (_answer.c.request == _feedback.c.request)
    newest = select(func.max(_answer.c.id)).where(same).scalar_subquery()
    for begin in range(0, len(requests), _AT_ONCE):
        alone = (_feedback.c.service == service) & (_feedback.c.answer == 0) & (_feedback.c.joined_at_ns == 0)
        alone &= _feedback.c.request.in_(requests[begin : begin + _AT_ONCE])
        connection.execute(update(_feedback).where(alone, exists().where(same)).values(answer=newest))


def _is_fresh(connection: Connection, scored: Scored, now: int) -> bool:
    if not scored.joined:
        return True
    this = update(_feedback).where(_feedback.c.id == scored.joined, _feedback.c.joined_at_ns == 0)
    return connection.execute(this.values(joined_at_ns=now)).rowcount == 1


def _said(scored: Scored, score: Score) -> dict[str, Any]:
    said = {"arm": score.arm, "source": score.source, "weight": score.weight, "score": score.score}
    return said | {"other": score.other, "segment": scored.segment, "request": scored.request[:MAX_ID]}


def _joined(row: dict[str, Any]) -> Joined:
    answer = {name: row[f"a_{name}"] for name in _COLUMNS if name != "id"}
    answer["prediction"] = read_json(answer["prediction"])
    said = {name: row[name] for name in ("service", "request", "kind", "at_ns")}
    return Joined(row["id"], Answer(**answer), Feedback(value=read_json(row["value"]), **said))


# --- retention -----------------------------------------------------------------------------------------


def _prune_answers(connection: Connection, service: str, older_than_ns: int, keep: int) -> int:
    mine = _answer.c.service == service
    newest_to_go = select(_answer.c.id).where(mine).order_by(_answer.c.id.desc()).offset(keep).limit(1)
    surplus = connection.scalar(newest_to_go) or 0
    old = mine & ((_answer.c.at_ns < older_than_ns) | (_answer.c.id <= surplus))
    gone = select(_answer.c.id).where(old).order_by(_answer.c.id).limit(_PRUNED_AT_ONCE)
    return connection.execute(delete(_answer).where(_answer.c.id.in_(gone))).rowcount


def _prune_feedback(connection: Connection, older_than_ns: int) -> int:
    """What is old. What lost its answer before it was scored must not name it: numbers are used again."""
    lost = (_feedback.c.answer > 0) & (_feedback.c.joined_at_ns == 0)
    lost &= ~exists().where(_answer.c.id == _feedback.c.answer)
    connection.execute(update(_feedback).where(lost).values(answer=0))
    old = select(_feedback.c.id).where(_feedback.c.at_ns < older_than_ns).order_by(_feedback.c.id)
    return connection.execute(delete(_feedback).where(_feedback.c.id.in_(old.limit(_PRUNED_AT_ONCE)))).rowcount


def _prune_scores(connection: Connection, older_than_ns: int) -> int:
    over = select(schema.rollout.c.id).where(schema.rollout.c.active == 0)
    recent = select(_score.c.rollout).where(_score.c.at_ns >= older_than_ns)
    old = _score.c.rollout.in_(over) & _score.c.rollout.not_in(recent)
    return connection.execute(delete(_score).where(old)).rowcount
