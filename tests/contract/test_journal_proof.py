"""A journal proves itself: past changes, whatever its writers do, and wherever it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.journals import (
    ACTOR,
    FAILED,
    PASSED,
    STAGED,
    JournalPlace,
    assert_sound,
    evidence,
    fold,
    happen,
    of,
    process,
    start,
    started,
    stepped,
    write,
)
from tests.support.registries import ToldClock
from tests.support.rollout_states import verdict

from taxiway.core.errors import (
    AlreadyExists,
    InvalidArgument,
    InvalidTransition,
    JournalBroken,
    JournalUnavailable,
    NotLeader,
    RolloutActive,
    StaleGeneration,
)
from taxiway.registry.outbox import Message
from taxiway.rollout import commands as ask
from taxiway.rollout import events as told
from taxiway.rollout.journal import Asked, Journal, Leadership, Transition
from taxiway.rollout.nouns import Outcome, Phase, Rollout

# --- proof --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE taxiway_rollout_event SET actor = 'eve' WHERE seq = 2",
        "UPDATE taxiway_rollout_event SET at_ns = at_ns - 1 WHERE seq = 2",
        "DELETE FROM taxiway_rollout_event WHERE seq = 5",
        "DELETE FROM taxiway_rollout_event WHERE seq = 2",
        "UPDATE taxiway_rollout_head SET seq = 9",
        "UPDATE taxiway_rollout_state SET state = replace(state, 'worse', 'fine')",
        "UPDATE taxiway_rollout_state SET phase = 'succeeded'",
        "UPDATE taxiway_rollout_state SET active = 0",
        "UPDATE taxiway_rollout_state SET generation = 4",
        "UPDATE taxiway_rollout_candidate SET digest = ''",
        "DELETE FROM taxiway_rollout_evidence",
        "UPDATE taxiway_rollout_evidence SET blob = (SELECT blob FROM taxiway_rollout_working)",
        "UPDATE taxiway_rollout_outbox SET args = '{}'",
        "DELETE FROM taxiway_rollout_outbox",
        "UPDATE taxiway_rollout_command SET outcome = '{}'",
        "DELETE FROM taxiway_rollout_command",
    ],
)
def test_what_was_changed_past_taxiway_is_found(
    here: JournalPlace, journal: Journal, leader: Leadership, harm: str
) -> None:
    with journal.change(leader, ACTOR) as change:
        letters = [Message("webhook", "started", "pay", {"n": 1})]
        change.write(dataclasses.replace(started(of("r-1")), letters=letters), asked=Asked("k", {}), outcome={"n": 1})
    happen(journal, leader, "r-1", *STAGED)
    worse = told.Looked(msgspec.structs.replace(verdict(Outcome.FAIL), sentence="it is worse"), 1.0)
    journal.transition(leader, ACTOR, "r-1", lambda before, now_ns: stepped(before, worse, now_ns, evidence()))
    journal.keep_working(leader, "r-1", evidence(8))
    assert journal.verify(fold) == 5
    here.sql(harm)
    with pytest.raises(JournalBroken):
        journal.verify()


def test_events_that_make_another_state_are_found(journal: Journal, leader: Leadership) -> None:
    now = start(journal, leader, of("r-1"), *STAGED)
    said = stepped(now, ask.Pause(), now.phase_since_ns)
    assert said is not None
    lied = msgspec.structs.replace(said.after, reason="all is well", step=3)
    write(journal, leader, dataclasses.replace(said, after=lied))
    assert journal.verify() == 5
    with pytest.raises(JournalBroken, match=r"step, reason|reason, step"):
        journal.verify(fold)
    again = msgspec.structs.replace(lied, generation=6)
    write(journal, leader, Transition(lied, again, "begun", {"event": {"type": "Begun"}}))
    with pytest.raises(JournalBroken, match="cannot be followed"):
        journal.verify(fold)


# --- histories ----------------------------------------------------------------------------------------


MOVES: list[Callable[[], told.Event]] = [
    told.Begun, told.Admitted, told.Staged, lambda: told.Failed("no room"), lambda: told.Applied(99), lambda: FAILED,
    lambda: PASSED, lambda: told.FuseBlew("candidate", 1, "burst"), ask.Pause, ask.Resume, ask.Abort,
    lambda: ask.Promote(reason="go", full=True), lambda: ask.Extend(by_s=60.0),
]  # fmt: skip
moves = st.integers(0, len(MOVES) - 1)
writes = st.tuples(st.just("write"), st.integers(0, 1), st.integers(0, 2), moves, st.booleans())
leads = st.tuples(st.just("lead"), st.integers(0, 1), st.just(0), st.just(0), st.booleans())
history = st.lists(st.one_of(writes, writes, writes, leads), max_size=40)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history)
def test_whatever_two_control_processes_do_the_journal_is_sound(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, int, bool]]
) -> None:
    """Two processes, of which one leads, write by what they saw some time ago; only the leader's fresh writes count."""
    place = JournalPlace(f"sqlite:///{tmp_path_factory.mktemp('history')}/rollouts.db", "")
    with place.journal() as first, place.journal() as second:
        two = Two((first, second))
        for kind, who, number, move, fresh in steps:
            place.clock.advance(1)
            if kind == "lead":
                two.lead(who, polite=fresh)
            else:
                two.write(who, f"r-{number}", MOVES[move](), fresh=fresh)
        assert_sound(first)
        assert [event.rollout for event in reversed(first.history(limit=1000))] == two.written


class Two:
    """Two control processes and what each remembers."""

    def __init__(self, processes: tuple[Journal, Journal]) -> None:
        self.journals = processes
        self.written: list[str] = []
        self._leader = 0
        found = processes[0].lease.take(process("0"))
        assert found is not None
        self._rights = [found, dataclasses.replace(found, fencing=0)]
        self._seen: list[dict[str, Rollout]] = [{}, {}]

    def lead(self, who: int, *, polite: bool) -> None:
        """Take over: after the other gave back, or after it was silent."""
        if who == self._leader:
            return
        journal = self.journals[who]
        assert journal.lease.take(process(str(who))) is None
        if polite:
            self.journals[1 - who].lease.give_back(self._rights[1 - who])
        else:
            journal_clock(journal).advance(11)
        found = journal.lease.take(process(str(who)))
        assert found is not None
        self._rights[who], self._leader = found, who

    def write(self, who: int, number: str, event: told.Event, *, fresh: bool) -> None:
        journal, seen = self.journals[who], self._seen[who]
        known = {one.id: one for one in journal.rollouts()}
        if fresh or number not in seen:
            seen.update(known)
        before = seen.get(number)
        made: Transition | None
        try:
            made = started(of(number)) if before is None else stepped(before, event, before.phase_since_ns + 1)
        except InvalidTransition:
            return
        if made is None:
            return
        current = known.get(number)
        try:
            with journal.change(self._rights[who], str(who)) as change:
                if before is not None:
                    made = stepped(before, event, change.at_ns)
                    assert made is not None
                change.write(made)
        except NotLeader:
            assert who != self._leader
        except StaleGeneration:
            assert before != current
        except AlreadyExists:
            assert before is None
            assert current is not None
        except RolloutActive:
            assert any(one.phase is not Phase.QUEUED for one in journal.rollouts(active=True))
        else:
            assert who == self._leader
            assert before == current
            seen[number] = made.after
            self.written.append(number)


def journal_clock(journal: Journal) -> ToldClock:
    clock = journal.lease._clock
    assert isinstance(clock, ToldClock)
    return clock


# --- the database -------------------------------------------------------------------------------------


def test_what_cannot_be_reached_is_said_of_the_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database" * 100)
    with pytest.raises(JournalUnavailable, match=r"^the journal of rollouts sqlite") as caught:
        Journal.open(f"sqlite:///{tmp_path}/file")
    assert "control.journal" in caught.value.hint
    with pytest.raises(InvalidArgument, match=r"control\.journal"):
        Journal.open("mysql://x/y")


def test_a_registry_may_lie_in_the_same_database(here: JournalPlace, journal: Journal, tmp_path: Path) -> None:
    assert journal.verify() == 0
    if here.url.startswith("postgresql"):
        dataclasses.replace(here, blobs=str(tmp_path)).open().close()
        assert journal.verify() == 0
