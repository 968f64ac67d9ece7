"""How rollouts are found in a journal, on each database."""

from __future__ import annotations

import pytest
from tests.support.journals import (
    FAILED,
    PASSED,
    STAGED,
    assert_sound,
    happen,
    of,
    start,
)
from tests.support.rollout_states import verdict

from taxiway.core.errors import (
    RolloutNotFound,
)
from taxiway.rollout import commands as ask
from taxiway.rollout import events as told
from taxiway.rollout.journal import Journal, Leadership
from taxiway.rollout.nouns import Outcome, Phase, Rollout


def passes(now: Rollout, journal: Journal, leader: Leadership) -> Rollout:
    """Let it win: every step passes, and everything is applied."""
    while now.phase is not Phase.SUCCEEDED:
        now = happen(journal, leader, now.id, PASSED, told.Applied(now.generation + 1))
    return now


def test_rollouts_are_found_by_service_state_and_place(journal: Journal, leader: Leadership) -> None:
    for number in range(6):
        now = start(journal, leader, of(f"r-{number}", ("pay", "ship")[number % 2]), told.Begun())
        if number < 4:
            happen(journal, leader, now.id, told.Failed("no room"))

    def names(*args: str, **more: object) -> list[str]:
        return [one.id for one in journal.rollouts(*args, **more)]  # type: ignore[arg-type]

    assert names() == [f"r-{number}" for number in (5, 4, 3, 2, 1, 0)]
    assert names("pay") == ["r-4", "r-2", "r-0"]
    assert names(active=True) == ["r-5", "r-4"]
    assert names("ship", active=False) == ["r-3", "r-1"]
    assert names(limit=2) == ["r-5", "r-4"]
    assert names(limit=2, after="r-4") == ["r-3", "r-2"]
    for read in (lambda: names(after="r-9"), lambda: journal.rollout("r-9"), lambda: journal.events("r-9")):
        with pytest.raises(RolloutNotFound, match="r-9"):
            read()
    assert [event.rollout for event in journal.history("ship", limit=3)] == ["r-5", "r-5", "r-3"]
    last = journal.history(limit=1)[0].seq
    assert [event.seq for event in journal.history(before=last, limit=2)] == [last - 1, last - 2]


def test_a_service_stands_where_its_last_rollout_that_began_says(journal: Journal, leader: Leadership) -> None:
    start(journal, leader, of("r-1"))
    assert [(one.last, len(one.queued)) for one in journal.services()] == [(None, 1)]
    happen(journal, leader, "r-1", *STAGED)
    start(journal, leader, of("r-2"))
    start(journal, leader, of("r-3"))
    happen(journal, leader, "r-2", told.Replaced("r-3"))
    start(journal, leader, of("r-0", "aside"), told.Begun())
    aside, pay = journal.services()
    assert (aside.service, pay.service) == ("aside", "pay")
    assert pay.last is not None
    assert (pay.last.id, [one.id for one in pay.queued]) == ("r-1", ["r-3"])


def test_what_was_turned_back_is_quarantined_until_it_wins(journal: Journal, leader: Leadership) -> None:
    digest = of("r-1").candidates[0].digest
    start(journal, leader, of("r-1"), *STAGED, ask.Abort())
    happen(journal, leader, "r-1", told.Applied(5))
    assert journal.quarantined(digest) is None, "a person's abort says nothing of the version"
    back = start(journal, leader, of("r-2"), *STAGED, FAILED, told.Applied(5))
    assert back.phase is Phase.ROLLED_BACK
    found = journal.quarantined(digest)
    assert found is not None
    assert (found.id, journal.quarantined("sha256:other")) == ("r-2", None)
    start(journal, leader, of("r-3"), told.Begun(), told.Failed("no room"))
    assert journal.quarantined(digest) == back
    test = of("r-4", strategy="ab", arms=[{"name": "new", "to": "7", "percent": 10}])
    decided = told.Looked(verdict(Outcome.PASS, arms={"new": Outcome.PASS}), 1e9)
    ended = start(journal, leader, test, *STAGED, decided, told.Applied(6))
    assert (ended.phase, ended.winner) == (Phase.SUCCEEDED, "")
    assert journal.quarantined(digest) == back, "a test that nobody won clears nobody"
    won = passes(start(journal, leader, of("r-5"), *STAGED), journal, leader)
    assert won.winner == "candidate"
    assert journal.quarantined(digest) is None
    assert_sound(journal)
