"""Letters are written with the change they tell of, and handed out in order, to one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.registries import DATABASES, NewPlace, Place, register

from taxiway.core.errors import AliasMoved, AlreadyExists, AuditBroken, NotFound, VersionNotRegistered
from taxiway.registry import Registry
from taxiway.registry.following import Followed
from taxiway.registry.outbox import LEASE_S, Letter

pytestmark = pytest.mark.parametrize("new_place", DATABASES, indirect=True)

THERE = {"source": "there:/fraud", "kind": "there"}
URI = "models:/fraud@champion"


def told(registry: Registry) -> list[tuple[str, str]]:
    return [(letter.kind, letter.subject) for letter in registry.outbox.letters("there")]


@pytest.fixture
def mirrored(registry: Registry) -> Registry:
    """A version that came from there, one that did not, and a target that hears of the former."""
    register(registry, content=b"1", origin=THERE)
    register(registry, content=b"2")
    registry.mirrors.turn_on("there", "fraud", actor="ada")
    return registry


def move(registry: Registry, to: int | None) -> None:
    found = registry.aliases("fraud").get("stable")
    registry.set_alias("fraud", "stable", to, expect=found, actor="ada", why="go")


def claim(registry: Registry) -> Letter:
    letter = registry.outbox.claim("there")
    assert letter is not None
    return letter


def test_only_what_a_target_is_to_hear_is_written(mirrored: Registry) -> None:
    register(mirrored, "other", origin=THERE)
    mirrored.set_alias("other", "stable", 1, expect=None, actor="ada", why="go")
    mirrored.set_tag("fraud", 2, "owner", "risk", actor="ada")
    mirrored.set_tag("fraud", None, "owner", "risk", actor="ada")
    assert told(mirrored) == []
    register(mirrored, content=b"3", origin=THERE)
    assert told(mirrored) == [("version", "fraud:3")]
    mirrored.set_tag("fraud", 1, "owner", "risk", actor="ada")
    move(mirrored, 1)
    move(mirrored, 2)
    assert told(mirrored)[1:] == [
        ("version", "fraud:1"),
        *(("alias", "fraud@stable"), ("version", "fraud:1")),
        *(("alias", "fraud@stable"), ("version", "fraud:1")),
    ]
    letters = mirrored.outbox.letters("there")
    assert letters[2].args == {"name": "fraud", "alias": "stable", "from": None, "to": 1}
    digest = mirrored.resolve("fraud:1").digest
    said = {"name": "fraud", "number": 1, "digest": digest, "tags": {"owner": "risk"}}
    assert [letter.args for letter in letters[3::2]] == [said | {"aliases": ["stable"]}, said | {"aliases": []}]
    mirrored.verify_audit()


def test_a_change_that_fails_tells_nobody(mirrored: Registry) -> None:
    with pytest.raises(AliasMoved):
        mirrored.set_alias("fraud", "stable", 1, expect=2, actor="ada", why="go")
    assert told(mirrored) == []


def test_a_mirror_begins_with_what_is_there_and_ends_with_what_waits(registry: Registry) -> None:
    register(registry, origin=THERE)
    move(registry, 1)
    for name in ("nobody", "fraud"):
        with pytest.raises((NotFound, VersionNotRegistered)):
            registry.mirrors.turn_off("there", name, actor="ada")
    with pytest.raises(VersionNotRegistered):
        registry.mirrors.turn_on("there", "nobody", actor="ada")
    registry.mirrors.turn_on("there", "fraud", actor="ada")
    assert told(registry) == [("alias", "fraud@stable"), ("version", "fraud:1")]
    with pytest.raises(AlreadyExists):
        registry.mirrors.turn_on("there", "fraud", actor="ada")
    assert (registry.mirrors.names("there"), registry.mirrors.names("here")) == (["fraud"], [])
    letter = claim(registry)
    registry.mirrors.turn_off("there", "fraud", actor="ada")
    assert not registry.outbox.holds(letter)
    assert not registry.outbox.settle(letter)
    assert registry.outbox.claim("there") is None
    assert {letter.problem for letter in registry.outbox.letters("there")} == {"mirroring was turned off"}
    move(registry, None)
    assert len(told(registry)) == 2
    registry.verify_audit()


def test_letters_of_a_subject_come_in_order_one_at_a_time(mirrored: Registry, place: Place) -> None:
    for to in (1, 2, 1):
        move(mirrored, to)
    first, version = claim(mirrored), claim(mirrored)
    assert (first.subject, version.subject) == ("fraud@stable", "fraud:1")
    assert mirrored.outbox.claim("there") is None
    assert mirrored.outbox.claim("elsewhere") is None
    assert mirrored.outbox.settle(first)
    assert not mirrored.outbox.settle(first)
    second = claim(mirrored)
    assert (second.subject, second.args["from"]) == ("fraud@stable", 1)
    last = mirrored.outbox.last_delivered("there", "alias", "fraud@stable")
    assert last is not None
    assert (last.id, last.done_at) == (first.id, place.clock.now)
    assert mirrored.outbox.last_delivered("there", "alias", "fraud@other") is None


def test_a_claim_is_lost_with_its_lease(mirrored: Registry, place: Place) -> None:
    move(mirrored, 1)
    dead = claim(mirrored)
    assert mirrored.outbox.holds(dead)
    place.clock.advance(LEASE_S)
    assert not mirrored.outbox.holds(dead)
    alive = claim(mirrored)
    assert (alive.id, alive.tries, mirrored.outbox.holds(alive)) == (dead.id, dead.tries + 1, True)
    assert not mirrored.outbox.settle(dead)
    assert not mirrored.outbox.refuse(dead, "late", actor="ci")
    mirrored.outbox.postpone(dead, "late", delay_s=0)
    assert mirrored.outbox.settle(alive)
    assert [letter.problem for letter in mirrored.outbox.letters("there", waiting=False)] == [""]


def test_a_letter_waits_or_is_given_up_with_its_problem(mirrored: Registry, place: Place) -> None:
    move(mirrored, 1)
    move(mirrored, 2)
    first = claim(mirrored)
    mirrored.outbox.postpone(first, "nobody is there", delay_s=30)
    assert [one.problem for one in mirrored.outbox.letters("there", waiting=True)] == ["nobody is there", "", "", ""]
    assert claim(mirrored).subject == "fraud:1"
    place.clock.advance(30)
    again = claim(mirrored)
    assert again.id == first.id
    assert mirrored.outbox.refuse(again, "it is theirs", actor="ci")
    entry = mirrored.audit_log()[-1]
    assert (entry.kind, entry.subject, entry.payload["problem"]) == ("letter-refused", "fraud@stable", "it is theirs")
    assert claim(mirrored).args["to"] == 2
    assert mirrored.outbox.last_delivered("there", "alias", "fraud@stable") is None
    mirrored.verify_audit()


# --- followed aliases ----------------------------------------------------------------------------------


def begin(registry: Registry) -> Followed:
    return registry.followings.begin(URI, "fraud", "candidate", actor="ci")


def test_what_was_seen_and_our_alias_change_together(registry: Registry) -> None:
    begun = begin(registry)
    assert begin(registry) == begun
    register(registry, content=b"1")
    register(registry, content=b"2")
    assert registry.followings.place(begun, "7", 1, actor="ci", why="go")
    assert not registry.followings.place(begun, "8", 2, actor="ci", why="go")
    (kept,) = registry.followings.all()
    assert (kept.seen, kept.outcome, kept.placed, registry.aliases("fraud")) == ("7", "placed", 1, {"candidate": 1})
    registry.set_alias("fraud", "candidate", 2, expect=1, actor="eve", why="mine")
    register(registry, content=b"3")
    with pytest.raises(AliasMoved):
        registry.followings.place(kept, "9", 3, actor="ci", why="go")
    assert registry.followings.all() == [kept]
    assert registry.followings.place(kept, "8", 2, actor="ci", why="they agree")
    assert [entry.kind for entry in registry.audit_log()[-2:]] == ["version-registered", "followed"]
    registry.verify_audit()


def test_an_alias_that_was_there_is_where_it_is_taken_over(registry: Registry) -> None:
    register(registry, content=b"1")
    register(registry, content=b"2")
    registry.set_alias("fraud", "candidate", 1, expect=None, actor="ada", why="go")
    assert registry.followings.place(begin(registry), "7", 2, actor="ci", why="go")
    assert registry.aliases("fraud") == {"candidate": 2}


# --- proof, backup, and what was there before ----------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE taxiway_outbox SET args = '{}' WHERE id = 1",
        "DELETE FROM taxiway_outbox WHERE id = 2",
        "DELETE FROM taxiway_mirror",
        "UPDATE taxiway_followed SET placed = 2",
    ],
)
def test_what_was_changed_past_taxiway_is_found(mirrored: Registry, place: Place, harm: str) -> None:
    move(mirrored, 1)
    begin(mirrored)
    mirrored.verify_audit()
    place.sql(harm)
    with pytest.raises(AuditBroken):
        mirrored.verify_audit()


def test_a_backup_keeps_what_is_still_to_be_told(mirrored: Registry, new_place: NewPlace, tmp_path: Path) -> None:
    move(mirrored, 1)
    begin(mirrored)
    mirrored.outbox.settle(claim(mirrored))
    mirrored.backup(tmp_path / "backup.tar")
    there = new_place()
    with Registry.restore(tmp_path / "backup.tar", there.url, there.blobs, actor="bob") as second:
        assert second.outbox.letters("there") == mirrored.outbox.letters("there")
        assert second.mirrors.names("there") == ["fraud"]
        assert second.followings.all() == mirrored.followings.all()
        second.verify_audit()


def test_a_backup_of_the_first_release_is_restored(
    registry: Registry, place: Place, new_place: NewPlace, tmp_path: Path
) -> None:
    register(registry, origin=THERE)
    move(registry, 1)
    for table in ("outbox", "mirror", "followed"):
        place.sql(f"DROP TABLE taxiway_{table}")
    place.sql("DELETE FROM taxiway_migration WHERE number > 1")
    assert registry.backup(tmp_path / "backup")["databases"]["registry"]["schema"] == 1
    there = new_place()
    with Registry.restore(tmp_path / "backup", there.url, there.blobs, actor="bob") as second:
        assert second.aliases("fraud") == {"stable": 1}
        second.mirrors.turn_on("there", "fraud", actor="ada")
        assert told(second) == [("alias", "fraud@stable"), ("version", "fraud:1")]
        second.verify_audit()
