"""Hypothesis invents histories; a model in plain dictionaries says what the registry must answer after each step."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.postgres import Cluster
from tests.support.registries import START, Place, ToldClock

from taxiway.core.errors import AliasMoved, AlreadyExists, AlreadyRegistered, BlobMissing, VersionNotRegistered
from taxiway.registry import ANY, Manifest, NewVersion, Registry
from taxiway.registry.nouns import StoredFile

NAMES = st.sampled_from(["a", "b"])
ALIASES = st.sampled_from(["stable", "candidate"])
CONTENTS = st.binary(min_size=1, max_size=1)
NUMBERS = st.integers(1, 4)
GRACE_S = 100.0


class Histories(RuleBasedStateMachine):
    """One registry and what it should be."""

    new_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="taxiway-machine-"))
        self.clock = ToldClock()
        self.versions: dict[str, list[bytes]] = {}
        self.variants: dict[tuple[str, int, str], bytes] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.served: list[tuple[dt.datetime, dict[tuple[str, str], int]]] = [(START, {})]
        self.tags: dict[tuple[str, int, str], str] = {}
        self.touched: dict[bytes, dt.datetime] = {}
        self.mirrored: set[str] = set()
        self.letters = 0
        self.changes = 0
        self.backups = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.place = Place(type(self).new_url(), str(self.folder / "blobs"), self.clock)
        self.registry = self.place.open()

    def teardown(self) -> None:
        self.registry.close()
        shutil.rmtree(self.folder)

    def manifest(self, content: bytes) -> Manifest:
        return Manifest.of([self.put(content).at("@/model.onnx")])

    def put(self, content: bytes) -> StoredFile:
        self.touched[content] = self.clock.now
        return self.registry.put_bytes(content)

    def has(self, name: str, number: int) -> bool:
        return number <= len(self.versions.get(name, []))

    def new(self, name: str, manifest: Manifest, content: bytes) -> NewVersion:
        """Every second content came from there, and there is told of it if the model is mirrored."""
        return NewVersion(name, manifest, "onnx", origin={"kind": "there"} if content[0] % 2 else {})

    def told(self, name: str, *numbers: int | None) -> set[int]:
        """Which of these versions there is told of."""
        contents = self.versions.get(name, []) if name in self.mirrored else []
        return {number for number in numbers if number and contents and contents[number - 1][0] % 2}

    # --- what is done ---

    @rule(content=CONTENTS)
    def put_without_use(self, content: bytes) -> None:
        self.put(content)

    @rule(name=NAMES, content=CONTENTS)
    def register(self, name: str, content: bytes) -> None:
        known = self.versions.get(name, [])
        new = self.new(name, self.manifest(content), content)
        if content in known:
            with pytest.raises(AlreadyRegistered) as caught:
                self.registry.register(new, actor="ada", why="go")
            assert caught.value.facts["version"] == known.index(content) + 1
            return
        version = self.registry.register(new, actor="ada", why="go")
        self.versions.setdefault(name, []).append(content)
        self.letters += len(self.told(name, len(self.versions[name])))
        self.changes += 1
        assert version.number == len(self.versions[name])

    @rule(name=NAMES, content=CONTENTS)
    def register_what_was_put_long_ago(self, name: str, content: bytes) -> None:
        """Without putting it now: it works exactly if the bytes are still there."""
        file = StoredFile(hashlib.sha256(content).hexdigest(), 1)
        new = self.new(name, Manifest.of([file.at("@/model.onnx")]), content)
        if content in self.versions.get(name, []):
            return
        if content in self.touched:
            self.registry.register(new, actor="ada", why="go")
            self.versions.setdefault(name, []).append(content)
            self.letters += len(self.told(name, len(self.versions[name])))
            self.changes += 1
        else:
            with pytest.raises(BlobMissing):
                self.registry.register(new, actor="ada", why="go")

    @rule(name=NAMES, number=NUMBERS, word=st.sampled_from(["int8", "trt"]), content=CONTENTS)
    def add_variant(self, name: str, number: int, word: str, content: bytes) -> None:
        manifest, ref = self.manifest(content), f"{name}:{number}-{word}"
        if not self.has(name, number):
            with pytest.raises(VersionNotRegistered):
                self.registry.add_variant(ref, manifest, recipe={}, actor="ada")
        elif (name, number, word) in self.variants:
            with pytest.raises(AlreadyExists):
                self.registry.add_variant(ref, manifest, recipe={}, actor="ada")
        else:
            self.registry.add_variant(ref, manifest, recipe={}, actor="ada")
            self.variants[name, number, word] = content
            self.changes += 1

    @rule(name=NAMES, alias=ALIASES, to=st.none() | NUMBERS, expect=st.none() | NUMBERS | st.just(ANY))
    def move_alias(self, name: str, alias: str, to: int | None, expect: object) -> None:
        found = self.aliases.get((name, alias))

        def move() -> object:
            return self.registry.set_alias(name, alias, to, expect=expect, actor="ada", why="go")  # type: ignore[arg-type]

        if expect is not ANY and expect != found:
            with pytest.raises(AliasMoved):
                move()
        elif (to is None and found is None) or (to is not None and not self.has(name, to)):
            with pytest.raises(VersionNotRegistered):
                move()
        else:
            move()
            self.changes += 1
            told = self.told(name, found, to)
            self.letters += len(told) + bool(told)
            self.aliases.pop((name, alias), None)
            if to is not None:
                self.aliases[name, alias] = to
            self.served.append((self.clock.now, dict(self.aliases)))

    @rule(
        name=NAMES,
        number=st.just(0) | NUMBERS,
        key=st.sampled_from(["x", "y"]),
        value=st.none() | st.sampled_from("ab"),
    )
    def tag(self, name: str, number: int, key: str, value: str | None) -> None:
        def change() -> None:
            if value is None:
                self.registry.delete_tag(name, number or None, key, actor="ada")
            else:
                self.registry.set_tag(name, number or None, key, value, actor="ada")

        there = self.has(name, max(number, 1)) and (value is not None or (name, number, key) in self.tags)
        if not there:
            with pytest.raises(VersionNotRegistered):
                change()
            return
        change()
        self.changes += 1
        self.letters += len(self.told(name, number))
        self.tags.pop((name, number, key), None)
        if value is not None:
            self.tags[name, number, key] = value

    @rule(name=NAMES)
    def mirror(self, name: str) -> None:
        if name not in self.versions:
            with pytest.raises(VersionNotRegistered):
                self.registry.mirrors.turn_on("there", name, actor="ada")
            return
        if name in self.mirrored:
            self.registry.mirrors.turn_off("there", name, actor="ada")
            self.mirrored.remove(name)
        else:
            self.registry.mirrors.turn_on("there", name, actor="ada")
            self.mirrored.add(name)
            pointed = [to for (of, _), to in self.aliases.items() if of == name and self.told(name, to)]
            self.letters += len(pointed) + len(set(pointed))
        self.changes += 1

    @rule(settle=st.booleans())
    def deliver(self, settle: bool) -> None:
        letter = self.registry.outbox.claim("there")
        if letter is not None and settle:
            before = [one.id for one in self.registry.outbox.letters("there", waiting=True)]
            assert self.registry.outbox.settle(letter)
            waiting = self.registry.outbox.letters("there", waiting=True)
            assert [one.id for one in waiting] == [one for one in before if one != letter.id]
            assert all(one.id > letter.id for one in waiting if one.subject == letter.subject)

    @rule(seconds=st.sampled_from([1.0, 60.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def collect(self) -> None:
        before = self.clock.now - dt.timedelta(seconds=GRACE_S)
        used = {content for contents in self.versions.values() for content in contents} | set(self.variants.values())
        old = {content for content, at in self.touched.items() if at <= before and content not in used}
        found = self.registry.collect_garbage(actor="ada", grace_s=GRACE_S)
        assert len(found.blobs) == len(old)
        for content in old:
            del self.touched[content]
        self.changes += bool(old) and -(-len(old) // 16)

    @rule()
    def open_again(self) -> None:
        self.registry.close()
        self.registry = self.place.open()

    @precondition(lambda self: self.changes > 0)
    @rule(kind=st.sampled_from(["", ".tar"]))
    def back_up_and_go_on_in_the_restored_one(self, kind: str) -> None:
        number = next(self.backups)
        path = self.folder / f"backup-{number}{kind}"
        self.registry.backup(path)
        self.registry.close()
        self.place = Place(type(self).new_url(), str(self.folder / f"blobs-{number}"), self.clock)
        self.registry = Registry.restore(path, self.place.url, self.place.blobs, actor="ada", clock=self.clock)
        self.changes += 1
        used = {content for contents in self.versions.values() for content in contents} | set(self.variants.values())
        self.touched = {content: at for content, at in self.touched.items() if content in used}

    # --- what must be so ---

    @invariant()
    def every_answer_is_right(self) -> None:
        assert {model.name: model.versions for model in self.registry.models()} == {
            name: len(contents) for name, contents in self.versions.items()
        }
        for name, contents in self.versions.items():
            found = self.registry.versions(name)
            assert [version.number for version in found] == list(range(len(contents), 0, -1))
            for version in found:
                tags = {key: value for (of, at, key), value in self.tags.items() if (of, at) == (name, version.number)}
                assert version.tags == tags
            aliases = {alias: to for (of, alias), to in self.aliases.items() if of == name}
            assert self.registry.aliases(name) == aliases
            for alias, to in aliases.items():
                assert self.registry.resolve(f"{name}@{alias}").number == to

    @invariant()
    def the_log_holds_and_tells_the_same(self) -> None:
        assert self.registry.verify_audit() == self.changes

    @invariant()
    def every_letter_is_kept(self) -> None:
        assert len(self.registry.outbox.letters("there")) == self.letters
        assert set(self.registry.mirrors.names("there")) == self.mirrored

    @invariant()
    def the_past_is_as_it_was(self) -> None:
        """Where several moves share a moment, the last of them counts."""
        for when, aliases in dict(self.served).items():
            found = {(served.name, served.alias): served.number for served in self.registry.serving_at(when)}
            assert found == aliases

    @invariant()
    def no_blob_in_use_is_lost(self) -> None:
        assert self.registry.verify_blobs().damaged == ()


def run_histories(new_url: Callable[[], str], examples: int, steps: int) -> None:
    machine = type("TheseHistories", (Histories,), {"new_url": staticmethod(new_url)})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None
    )
    run_state_machine_as_test(machine, settings=chosen)


def sqlite_urls(folder: Path) -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"sqlite:///{folder}/{next(numbers)}.db"


def test_histories_on_sqlite(tmp_path: Path) -> None:
    run_histories(sqlite_urls(tmp_path), examples=10, steps=15)


def test_histories_on_postgresql(postgres: Cluster) -> None:
    run_histories(postgres.new_schema, examples=6, steps=12)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_long_histories_on_sqlite(tmp_path: Path) -> None:
    run_histories(sqlite_urls(tmp_path), examples=50, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_long_histories_on_postgresql(postgres: Cluster) -> None:
    run_histories(postgres.new_schema, examples=25, steps=40)
