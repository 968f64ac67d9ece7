"""One control process leads, on each database; the others wait, and know for whom."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from tests.support.journals import (
    JournalPlace,
    evidence,
    of,
    process,
    start,
)
from tests.support.registries import ToldClock

from taxiway.core.errors import (
    NotLeader,
)
from taxiway.rollout.journal import Journal, Leadership
from taxiway.rollout.leading import Process


def test_one_leads_and_the_others_know_who(here: JournalPlace, journal: Journal, leader: Leadership) -> None:
    with here.journal() as second:
        assert second.lease.take(process("second")) is None
        found = second.lease.leader()
        assert found is not None
        assert (found.name, found.fencing) == ("first", 1)
        here.clock.advance(8)
        assert journal.lease.renew(leader)
        here.clock.advance(8)
        assert second.lease.take(process("second")) is None
        here.clock.advance(3)
        taken = second.lease.take(process("second"))
        assert taken is not None
        assert taken.fencing == 2
        assert not journal.lease.renew(leader)
        for write in (
            lambda: start(journal, leader, of("r-1")),
            lambda: journal.keep_working(leader, "r-1", evidence()),
            lambda: journal.answers.prune(leader, older_than_ns=0, keep=1),
        ):
            with pytest.raises(NotLeader, match="second leads") as caught:
                write()
            assert caught.value.facts["leader"] == "second"
        journal.lease.give_back(leader)  # too late: it is somebody else's
        start(second, taken, of("r-1"))
        second.lease.give_back(taken)
        assert second.lease.leader() is None
        with pytest.raises(NotLeader, match="nobody leads"):
            start(second, taken, of("r-2"))
        assert journal.lease.take(process("third")) is not None


def test_a_leader_that_lives_here_is_judged_by_its_silence_not_by_the_clock(here: JournalPlace) -> None:
    with here.journal() as first, here.journal() as second:
        leader = first.lease.take(Process.this())
        assert leader is not None
        assert second.lease.take(process("second")) is None
        here.clock.advance(9)
        first.lease.renew(leader)
        assert second.lease.take(process("second")) is None
        here.clock.advance(9)
        assert second.lease.take(process("second")) is None, "by the clock it ran out long ago if it had not renewed"
        here.clock.advance(2)
        assert second.lease.take(process("second")) is not None, "silent for a whole lease"


def test_a_leader_of_this_machine_that_is_gone_is_followed_at_once(here: JournalPlace) -> None:
    this = Process.this()
    for gone in (dataclasses.replace(this, started=this.started - 1), dataclasses.replace(this, pid=2**22 + 1)):
        with here.journal() as first, here.journal() as second:
            assert first.lease.take(gone) is not None
            following = second.lease.take()
            assert following is not None
            second.lease.give_back(following)


def test_a_clock_that_is_set_back_keeps_nobody_waiting(here: JournalPlace) -> None:
    with here.journal() as first, here.journal() as second:
        assert first.lease.take(process("first")) is not None
        own = ToldClock()
        waiting = Journal.open(here.url, clock=BackClock(own))
        with waiting:
            assert waiting.lease.take(process("second")) is None
            own.advance(11)
            assert waiting.lease.take(process("second")) is not None
        assert second.lease.leader() is not None


@dataclasses.dataclass
class BackClock:
    """A clock of an hour ago; its monotonic time is another's."""

    own: ToldClock

    def monotonic_ns(self) -> int:
        return self.own.monotonic_ns()

    def now_utc(self) -> dt.datetime:
        return self.own.now_utc().replace(year=2025)
