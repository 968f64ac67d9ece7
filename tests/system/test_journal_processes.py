"""Control processes on one journal are killed at any moment, and take turns in leading."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.journal_forks import LIFE_OF, receive
from tests.support.journals import LIFE, SERVICE, STAGED, WEBHOOK, assert_sound, evidence, lead, live, of, start
from tests.support.postgres import Cluster
from tests.support.registry_forks import forker

from taxiway.rollout.answers import Known
from taxiway.rollout.journal import Journal, delivery_id
from taxiway.rollout.nouns import Evidence, Phase

Ask = Callable[..., Any]


@dataclass(frozen=True)
class Post:
    """A journal, and where its letters arrive."""

    url: str
    inbox: Path

    def arrived(self) -> list[str]:
        return self.inbox.read_text().split() if self.inbox.exists() else []


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with forker("tests.support.journal_forks") as asked:
        yield asked


both = pytest.mark.parametrize("new_post", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def new_post(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Post]:
    numbers = iter(range(10_000))

    def make() -> Post:
        number = next(numbers)
        if request.param == "sqlite":
            return Post(f"sqlite:///{tmp_path}/{number}.db", tmp_path / f"inbox-{number}")
        cluster: Cluster = request.getfixturevalue("postgres")
        return Post(cluster.new_schema(), tmp_path / f"inbox-{number}")

    return make


def points(ask: Ask, post: Post) -> int:
    code, passed = ask("points", post.url, str(post.inbox))
    assert code == 0
    return int(passed)


def die_at(ask: Ask, post: Post, point: int) -> None:
    """Killed there, what is left is sound; somebody else leads at once, and completes it without loss or double."""
    code, _ = ask("die", post.url, str(post.inbox), point)
    assert code == -9, point
    with Journal.open(post.url) as journal:
        assert_sound(journal)
        before = journal.history()
        began = time.monotonic()
        leader = lead(journal, patience_s=1.0)
        took_s = time.monotonic() - began
        live(journal, leader, LIFE_OF, lambda delivery: receive(post.inbox, delivery))
        assert_whole(journal, post)
        assert journal.history()[len(LIFE) - len(before) :] == before, "what was written stays as it was"
        assert took_s < 1.0


def assert_whole(journal: Journal, post: Post) -> None:
    """As if nobody had been killed."""
    assert_sound(journal)
    events = journal.events(LIFE_OF)
    assert tuple(event.kind for event in events) == LIFE
    assert journal.rollout(LIFE_OF).phase is Phase.ROLLED_BACK
    assert journal.evidence(events[-2].evidence) == evidence(3)
    assert journal.working(LIFE_OF, Evidence) == evidence(5)
    assert [scored.request for scored in journal.answers.scores(LIFE_OF)] == [f"q {LIFE_OF}"]
    assert journal.answers.known(SERVICE) == Known(answers=1, feedback=1, waiting=0, ready=0)
    letters = journal.outbox.letters(WEBHOOK)
    assert [letter.done_at is not None for letter in letters] == [True] * len(LIFE)
    arrived = post.arrived()
    first = list(dict.fromkeys(arrived))
    assert first == [delivery_id(letter) for letter in letters], "in order, and each at least once"
    assert len(arrived) <= len(first) + 1, "a letter comes again only if its bearer died"


@pytest.mark.parametrize(("new_post", "at_least"), [("sqlite", 46), ("postgresql", 16)], indirect=["new_post"])
def test_a_control_process_killed_at_some_points_leaves_a_sound_journal(
    ask: Ask, new_post: Callable[[], Post], at_least: int
) -> None:
    """Evenly over the whole life, by a step that is odd, as a statement is two points: each kind of point is met."""
    count = points(ask, new_post())
    step = (count // at_least - 1) | 1
    for point in range(count % step + 1, count, step):
        die_at(ask, new_post(), point)


@both
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_control_process_killed_at_every_point_leaves_a_sound_journal(ask: Ask, new_post: Callable[[], Post]) -> None:
    count = points(ask, new_post())
    assert count > 200
    for point in range(1, count):
        die_at(ask, new_post(), point)


@both
def test_processes_take_turns_in_leading_and_lose_nothing(ask: Ask, new_post: Callable[[], Post]) -> None:
    post, writers, each = new_post(), 4, 5
    with Journal.open(post.url) as journal:
        leader = lead(journal)
        begun = start(journal, leader, of("r-1"), *STAGED)
        journal.lease.give_back(leader)
        assert ask("turns", post.url, writers, each) == [[0, None]] * writers
        assert_sound(journal)
        events = journal.events("r-1", after=begun.generation)
        assert [event.kind for event in events] == ["pause", "resume"] * (writers * each // 2)
        assert {event.actor for event in events} == {f"writer {writer}" for writer in range(writers)}
