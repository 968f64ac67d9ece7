"""What a journal promises of what is written to it, on each database."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.journals import (
    ACTOR,
    FAILED,
    STAGED,
    evidence,
    fold,
    happen,
    of,
    start,
    started,
    stepped,
    write,
)
from tests.support.registries import ToldClock

from taxiway.core.errors import (
    AlreadyExists,
    IdempotencyConflict,
    InternalError,
    InvalidArgument,
    InvalidTransition,
    JournalBroken,
    RolloutActive,
    StaleGeneration,
)
from taxiway.registry.outbox import Message
from taxiway.rollout import commands as ask
from taxiway.rollout import events as told
from taxiway.rollout.blobs import Packed, unpack
from taxiway.rollout.journal import Asked, Journal, Leadership, Transition, delivery_id
from taxiway.rollout.nouns import Evidence, Phase, Score, Segment

# --- transitions --------------------------------------------------------------------------------------


def test_a_transition_is_written_whole(journal: Journal, leader: Leadership, clock: ToldClock) -> None:
    begun = start(journal, leader, of("r-1"), *STAGED)
    assert (begun.phase, begun.generation) == (Phase.STEP, 4)
    clock.advance(1)
    gathered, letter = evidence(1), Message("webhook", "turned-back", "pay", {"why": "worse"})
    after = journal.transition(
        leader, "taxiway", "r-1", lambda before, now_ns: stepped(before, FAILED, now_ns, gathered, [letter])
    )
    assert (after.phase, after.generation, after.quarantined) == (Phase.ROLLING_BACK, 5, True)
    assert journal.rollout("r-1") == after
    event = journal.events("r-1")[-1]
    assert (event.seq, event.generation, event.kind, event.actor) == (5, 5, "looked", "taxiway")
    assert event.at_ns == 1_767_225_601_000_000_000
    assert event.prev_hash == journal.events("r-1")[-2].hash
    assert event.evidence == event.payload["event"]["digest"]
    assert journal.evidence(event.evidence) == gathered
    [waiting] = journal.outbox.letters("webhook", waiting=True)
    assert (waiting.kind, waiting.args) == ("turned-back", {"why": "worse"})
    assert journal.verify(fold) == 5


def test_a_lost_race_is_told_and_writes_nothing(journal: Journal, leader: Leadership) -> None:
    seen = start(journal, leader, of("r-1"), *STAGED)
    happen(journal, leader, "r-1", ask.Pause())
    late = stepped(seen, FAILED, seen.phase_since_ns, evidence(), [Message("webhook", "x", "pay", {})])
    assert late is not None
    with pytest.raises(StaleGeneration, match=r"generation 5 .*not 4") as caught:
        write(journal, leader, late)
    assert (caught.value.facts["found"], caught.value.facts["expected"]) == (5, 4)
    with pytest.raises(StaleGeneration):
        journal.transition(leader, ACTOR, "r-1", lambda *_: None, expect_generation=4)
    assert journal.rollout("r-1").phase is Phase.STEP
    assert journal.outbox.letters("webhook") == []
    assert journal.verify(fold) == 5


def test_a_change_that_fails_leaves_nothing(journal: Journal, leader: Leadership) -> None:
    def fail() -> None:
        with journal.change(leader, ACTOR) as change:
            change.write(started(of("r-1")), asked=Asked("key", {}), outcome={"a": 1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (journal.rollouts(), journal.history(), journal.outcome(Asked("key", {}))) == ([], [], None)
    assert journal.verify(fold) == 0


def test_time_never_goes_back(journal: Journal, leader: Leadership, clock: ToldClock) -> None:
    start(journal, leader, of("r-1"))
    clock.advance(-3600)
    happen(journal, leader, "r-1", *STAGED)
    clock.advance(7200)
    happen(journal, leader, "r-1", ask.Pause())
    times = [event.at_ns for event in journal.events("r-1")]
    assert times == sorted(times)
    assert times[-1] - times[0] == 3600 * 10**9
    assert journal.verify(fold) == 5


def test_a_service_has_one_rollout_at_a_time(journal: Journal, leader: Leadership) -> None:
    start(journal, leader, of("r-1"), told.Begun())
    start(journal, leader, of("r-2"))
    start(journal, leader, of("r-3", "other"), told.Begun())
    with pytest.raises(RolloutActive) as caught:
        happen(journal, leader, "r-2", told.Begun())
    assert caught.value.facts["rollout"] == "r-1"
    with journal.change(leader, ACTOR) as change:  # one goes and the other comes, together
        for number, event in (("r-1", told.Replaced("r-2")), ("r-2", told.Begun())):
            made = stepped(change.rollout(number), event, change.at_ns)
            assert made is not None
            change.write(made)
    assert journal.active("pay") == journal.rollout("r-2")
    assert journal.rollout("r-1").phase is Phase.SUPERSEDED
    assert journal.verify(fold) == 7


def test_what_a_machine_must_never_do_is_refused(journal: Journal, leader: Leadership) -> None:
    now = start(journal, leader, of("r-1"), *STAGED)
    ended = happen(journal, leader, "r-1", FAILED, told.Applied(5))
    wrong: list[tuple[type[Exception], Transition]] = [
        (InternalError, Transition(ended, msgspec.structs.replace(ended, generation=9), "x", {})),
        (InternalError, Transition(ended, msgspec.structs.replace(ended, generation=7, service="b"), "x", {})),
        (InvalidTransition, Transition(ended, msgspec.structs.replace(now, generation=7), "x", {})),
        (AlreadyExists, started(of("r-1"))),
        (InvalidArgument, Transition(ended, msgspec.structs.replace(ended, generation=7), "x", {"a": math.nan})),
    ]
    for error, transition in wrong:
        with pytest.raises(error):
            write(journal, leader, transition)
    assert journal.rollout("r-1") == ended
    assert journal.verify(fold) == 6


# --- commands -----------------------------------------------------------------------------------------


def test_a_command_that_is_sent_again_has_its_outcome(journal: Journal, leader: Leadership) -> None:
    asked = Asked("k-1", {"start": "pay", "to": 7})
    with journal.change(leader, ACTOR) as change:
        assert change.outcome(asked) is None
        change.write(started(of("r-1")), asked=asked, outcome={"rollout": "r-1"})
    with journal.change(leader, ACTOR) as change:
        assert change.outcome(Asked("k-1", {"to": 7, "start": "pay"})) == {"rollout": "r-1"}
    with pytest.raises(IdempotencyConflict, match="'k-1'"):
        journal.outcome(Asked("k-1", {"start": "pay", "to": 8}))
    with pytest.raises(InvalidArgument, match="idempotency_key"):
        journal.outcome(Asked("", {}))
    assert journal.verify(fold) == 1


# --- evidence -----------------------------------------------------------------------------------------


floats = st.floats(allow_nan=False, allow_infinity=False)
some_evidence = st.builds(
    Evidence,
    st.lists(st.builds(Segment, st.integers(0), st.dictionaries(st.text(max_size=3), floats, max_size=3), st.just({}))),
    st.lists(st.builds(Score, st.text(max_size=3), st.just("judge"), floats, floats, st.none() | floats), max_size=5),
)


@given(some_evidence)
def test_evidence_comes_back_to_the_bit_and_in_its_order(given_: Evidence) -> None:
    packed = Packed.of(given_)
    back = unpack(packed.blob, Evidence, packed.digest)
    assert back == given_
    assert repr(back) == repr(given_)  # tells -0.0 from 0.0, and one order of arms from another


def test_evidence_that_is_no_number_is_refused(journal: Journal, leader: Leadership) -> None:
    start(journal, leader, of("r-1"))
    for bad in (math.nan, math.inf):
        with pytest.raises(InvalidArgument):
            journal.keep_working(leader, "r-1", Evidence(scores=[Score("a", "judge", 1.0, bad)]))
    with pytest.raises(JournalBroken):
        journal.evidence("sha256:nothing")


def test_what_is_gathered_is_replaced(journal: Journal, leader: Leadership) -> None:
    start(journal, leader, of("r-1"))
    assert journal.working("r-1", Evidence) is None
    for seed in range(3):
        journal.keep_working(leader, "r-1", evidence(seed))
    assert journal.working("r-1", Evidence) == evidence(2)
    journal.forget_working(leader, "r-1")
    assert journal.working("r-1", Evidence) is None
    assert journal.verify(fold) == 1


# --- letters ------------------------------------------------------------------------------------------


def test_a_letter_has_one_delivery_id_however_often_it_is_delivered(
    journal: Journal, leader: Leadership, clock: ToldClock
) -> None:
    letters = [Message("webhook", kind, "pay", {"n": 1}) for kind in ("a", "b")]
    with journal.change(leader, ACTOR) as change:
        change.write(dataclasses.replace(started(of("r-1")), letters=letters))
    first = journal.outbox.claim("webhook", lease_s=5)
    assert first is not None
    assert journal.outbox.claim("webhook") is None, "the next of its subject waits"
    clock.advance(6)
    again = journal.outbox.claim("webhook")
    assert again is not None
    assert (delivery_id(again), again.tries) == (delivery_id(first), 2)
    assert not journal.outbox.settle(first)
    journal.outbox.postpone(again, "nobody is there", delay_s=0)
    again = journal.outbox.claim("webhook")
    assert again is not None
    assert journal.outbox.refuse(again, "410 Gone")
    other = journal.outbox.claim("webhook")
    assert other is not None
    assert (other.kind, delivery_id(other) != delivery_id(first)) == ("b", True)
    assert journal.outbox.settle(other)
    assert journal.verify(fold) == 1
