"""What a registry promises, whichever database and store are behind it."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from taxiway.core.errors import AliasMoved, AlreadyRegistered, BlobMissing, VersionNotRegistered
from taxiway.registry import ANY, FileEntry, Manifest, NewVersion, Registry, Version


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(f"sqlite:///{tmp_path}/registry.db", str(tmp_path / "blobs")) as opened:
        yield opened


def register(registry: Registry, name: str = "fraud", content: bytes = b"weights", key: str | None = None) -> Version:
    files = [registry.put_bytes(content).at("@/model.onnx"), registry.put_bytes(b"x").at("config.pbtxt")]
    new = NewVersion(name, Manifest.of(files), "onnx", {"inputs": []}, {"source": "file:///m.onnx"}, {"scan": "clean"})
    return registry.register(new, actor="ada", why="a first try", idempotency_key=key)


# --- versions ------------------------------------------------------------------------------------------


def test_versions_are_numbered_from_one_and_each_model_counts_alone(registry: Registry) -> None:
    refs = [register(registry, name, content).ref for name, content in [("a", b"1"), ("a", b"2"), ("b", b"1")]]
    assert refs == ["a:1", "a:2", "b:1"]


def test_a_version_is_found_as_it_was_registered(registry: Registry) -> None:
    version = register(registry)
    assert registry.resolve("fraud:1") == registry.resolve("fraud") == version
    assert (version.framework, version.facts, version.created_by) == ("onnx", {"scan": "clean"}, "ada")
    assert version.digest == version.manifest.digest


def test_the_same_files_again_are_refused_and_the_version_is_named(registry: Registry) -> None:
    register(registry)
    with pytest.raises(AlreadyRegistered) as caught:
        register(registry)
    assert caught.value.facts["version"] == 1


def test_the_same_idempotency_key_gives_the_same_version(registry: Registry) -> None:
    assert register(registry, key="job-7") == register(registry, key="job-7")
    assert len(registry.versions("fraud")) == 1


def test_a_version_needs_its_bytes_first(registry: Registry) -> None:
    manifest = Manifest.of([FileEntry("@/model.onnx", "0" * 64, 1)])
    with pytest.raises(BlobMissing):
        registry.register(NewVersion("fraud", manifest, "onnx"), actor="ada", why="too early")
    assert registry.models() == []


def test_newest_versions_come_first_page_by_page(registry: Registry) -> None:
    for content in (b"1", b"2", b"3"):
        register(registry, content=content)
    page = registry.versions("fraud", limit=2)
    assert [version.number for version in page] == [3, 2]
    assert [version.number for version in registry.versions("fraud", after=page[-1].number)] == [1]


@pytest.mark.parametrize("ref", ["nobody", "fraud:2", "fraud@stable", "fraud:1-int8"])
def test_what_is_not_registered_is_said_so(registry: Registry, ref: str) -> None:
    register(registry)
    with pytest.raises(VersionNotRegistered, match=ref):
        registry.resolve(ref)


# --- aliases -------------------------------------------------------------------------------------------


def test_an_alias_moves_only_from_where_its_mover_believes_it_is(registry: Registry) -> None:
    register(registry, content=b"1")
    register(registry, content=b"2")
    registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="go")
    with pytest.raises(AliasMoved) as caught:
        registry.set_alias("fraud", "stable", 2, expect=None, actor="bob", why="go")
    assert caught.value.facts == {"found": 1, "expected": None}
    registry.set_alias("fraud", "stable", 2, expect=ANY, actor="bob", why="whatever")
    assert registry.resolve("fraud@stable").number == 2
    history = [(move.from_version, move.to_version, move.by) for move in registry.alias_history("fraud", "stable")]
    assert history == [(None, 1, "ada"), (1, 2, "bob")]


def test_what_an_alias_meant_at_a_moment_stays_answerable(registry: Registry) -> None:
    register(registry)
    before = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    moved = registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="go")
    registry.set_alias("fraud", "stable", None, expect=1, actor="ada", why="gone")
    assert registry.alias_at("fraud", "stable", before) is None
    assert registry.alias_at("fraud", "stable", moved.at) == 1
    assert registry.aliases("fraud") == {}


# --- files ---------------------------------------------------------------------------------------------


def test_a_version_is_laid_out_as_a_triton_repository(registry: Registry, tmp_path: Path) -> None:
    register(registry)
    repository = registry.materialise(["fraud:1"], tmp_path / "models")
    found = {path.relative_to(repository).as_posix(): path.read_bytes() for path in repository.rglob("*.*")}
    assert found == {"fraud/config.pbtxt": b"x", "fraud/1/model.onnx": b"weights"}


def test_every_change_is_in_the_log(registry: Registry) -> None:
    register(registry)
    registry.set_tag("fraud", 1, "owner", "risk", actor="ada")
    registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="go")
    kinds = [(entry.kind, entry.subject) for entry in registry.audit_log()]
    assert kinds == [("version-registered", "fraud:1"), ("tag-set", "fraud:1"), ("alias-moved", "fraud@stable")]
    assert registry.verify_audit() == 3
