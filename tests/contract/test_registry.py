"""What a registry promises of versions, aliases and its log, whichever database is behind it."""

import datetime as dt
from collections.abc import Callable

import pytest
from tests.support.registries import DATABASES, START, Place, manifest_of, register

from taxiway.core.errors import (
    AliasMoved,
    AlreadyExists,
    AlreadyRegistered,
    AuditBroken,
    BlobMissing,
    IdempotencyConflict,
    InvalidArgument,
    SchemaTooNew,
    VersionNotRegistered,
)
from taxiway.registry import ANY, FileEntry, Manifest, NewVersion, Registry

MINUTE = dt.timedelta(minutes=1)

pytestmark = pytest.mark.parametrize("new_place", DATABASES, indirect=True)


# --- versions ---------------------------------------------------------------------------------------------


def test_versions_are_numbered_from_one_and_each_model_counts_alone(registry: Registry) -> None:
    refs = [register(registry, name, content).ref for name, content in [("a", b"1"), ("a", b"2"), ("b", b"1")]]
    assert refs == ["a:1", "a:2", "b:1"]


def test_a_version_is_found_as_it_was_registered(registry: Registry) -> None:
    version = register(registry)
    assert registry.resolve("fraud:1") == registry.resolve("fraud") == version
    assert (version.framework, version.facts, version.created_by) == ("onnx", {"scan": "ok"}, "ada")
    assert (version.digest, version.created_at) == (version.manifest.digest, START)


def test_it_is_there_when_the_registry_is_opened_again(place: Place) -> None:
    with place.open() as first:
        version = register(first)
    with place.open() as second:
        assert second.resolve("fraud:1") == version


def test_the_same_files_again_are_refused_and_the_version_is_named(registry: Registry) -> None:
    register(registry)
    with pytest.raises(AlreadyRegistered, match=r"are fraud:1 already") as caught:
        register(registry)
    assert caught.value.facts["version"] == 1
    assert register(registry, "other").ref == "other:1"


def test_the_same_idempotency_key_gives_the_same_version(registry: Registry) -> None:
    assert register(registry, key="job-7") == register(registry, key="job-7")
    assert len(registry.versions("fraud")) == 1
    assert registry.verify_audit() == 1


def test_an_idempotency_key_stands_for_one_request(registry: Registry) -> None:
    register(registry, key="job-7")
    with pytest.raises(IdempotencyConflict, match="job-7"):
        register(registry, content=b"others", key="job-7")


def test_a_version_needs_its_bytes_first(registry: Registry) -> None:
    manifest = Manifest.of([FileEntry("@/model.onnx", "0" * 64, 1)])
    with pytest.raises(BlobMissing, match=r"@/model\.onnx"):
        registry.register(NewVersion("fraud", manifest, "onnx"), actor="ada", why="too early")
    assert registry.models() == []


def test_a_file_of_another_size_than_was_put_is_refused(registry: Registry) -> None:
    stored = registry.put_bytes(b"weights")
    manifest = Manifest.of([FileEntry("@/model.onnx", stored.sha256, stored.size + 1)])
    with pytest.raises(BlobMissing):
        registry.register(NewVersion("fraud", manifest, "onnx"), actor="ada", why="wrong")


def test_newest_versions_come_first_page_by_page(registry: Registry) -> None:
    for content in (b"1", b"2", b"3"):
        register(registry, content=content)
    page = registry.versions("fraud", limit=2)
    assert [version.number for version in page] == [3, 2]
    assert [version.number for version in registry.versions("fraud", after=page[-1].number)] == [1]


def test_models_are_listed_by_name_page_by_page(registry: Registry) -> None:
    for name in ("b", "A", "a.x", "a_x", "c"):
        register(registry, name)
    assert [model.name for model in registry.models(limit=3)] == ["A", "a.x", "a_x"]
    assert [model.name for model in registry.models(after="a_x")] == ["b", "c"]
    assert [model.name for model in registry.models(prefix="a_")] == ["a_x"]


def test_a_list_of_models_says_what_there_is_of_each(registry: Registry, place: Place) -> None:
    register(registry, content=b"1")
    place.clock.advance(60)
    register(registry, content=b"2")
    registry.set_alias("fraud", "stable", 2, expect=None, actor="ada", why="go")
    registry.set_tag("fraud", None, "team", "risk", actor="ada")
    (model,) = registry.models()
    assert (model.versions, model.aliases, model.tags) == (2, {"stable": 2}, {"team": "risk"})
    assert (model.created_at, model.changed_at) == (START, START + MINUTE)


@pytest.mark.parametrize("ref", ["nobody", "fraud:2", "fraud@stable", "fraud:1-int8"])
def test_what_is_not_registered_is_said_so(registry: Registry, ref: str) -> None:
    register(registry)
    with pytest.raises(VersionNotRegistered, match=ref) as caught:
        registry.resolve(ref)
    assert caught.value.hint


def test_names_and_texts_that_a_database_could_not_hold_are_refused(registry: Registry) -> None:
    register(registry)
    wrong: list[Callable[[], object]] = [
        lambda: register(registry, "fraud:7", b"1"),
        lambda: register(registry, "", b"1"),
        lambda: registry.set_alias("fraud", "a@b", 1, expect=ANY, actor="ada", why="go"),
        lambda: registry.set_alias("fraud", "stable", 1, expect=ANY, actor="ada", why=" "),
        lambda: registry.set_alias("fraud", "stable", 1, expect=ANY, actor="", why="go"),
        lambda: registry.set_tag("fraud", 1, "owner", "a\0b", actor="ada"),
        lambda: registry.set_tag("fraud", 1, "owner", "\ud800", actor="ada"),
        lambda: registry.set_tag("fraud", 1, "owner", "x" * 5000, actor="ada"),
        lambda: register(registry, content=b"1", facts={"nan": float("nan")}),
        lambda: register(registry, content=b"1", facts={"set": {1}}),
    ]
    for call in wrong:
        with pytest.raises(InvalidArgument):
            call()
    assert registry.verify_audit() == 1


def test_text_of_every_alphabet_comes_back(registry: Registry) -> None:
    register(registry, facts={"note": "zażółć 🚕 \0", "big": 2**70, "small": 1e-300})
    registry.set_tag("fraud", 1, "опис", "模型\n🚕", actor="Ольга")
    version = registry.resolve("fraud")
    assert version.facts == {"note": "zażółć 🚕 \0", "big": 2**70, "small": 1e-300}
    assert version.tags == {"опис": "模型\n🚕"}
    registry.verify_audit()


# --- variants and lineage ---------------------------------------------------------------------------------


def test_a_variant_has_files_of_its_own_and_names_its_recipe_and_parent(registry: Registry) -> None:
    version = register(registry)
    manifest = manifest_of(registry, {"@/model.onnx": b"small"})
    variant = registry.add_variant("fraud:1-int8", manifest, recipe={"quantize": "int8"}, actor="ada")
    assert (variant.ref, variant.parent, variant.recipe) == ("fraud:1-int8", "fraud:1", {"quantize": "int8"})
    resolved = registry.resolve("fraud:1-int8")
    assert (resolved.ref, resolved.digest, resolved.framework) == (variant.ref, manifest.digest, version.framework)
    assert registry.variants("fraud", 1) == [variant]
    with pytest.raises(AlreadyExists):
        registry.add_variant("fraud:1-int8", manifest, recipe={}, actor="ada")


def test_a_variant_can_be_made_from_a_variant(registry: Registry) -> None:
    register(registry)
    small, tiny = (manifest_of(registry, {"@/model.onnx": content}) for content in (b"small", b"tiny"))
    registry.add_variant("fraud:1-int8", small, recipe={}, actor="ada")
    registry.add_variant("fraud:1-trt", tiny, recipe={}, actor="ada", parent="fraud:1-int8")
    steps = [(step.depth, step.edge.child, step.edge.parent) for step in registry.why("fraud:1-trt").lineage]
    assert steps == [
        (0, "fraud:1-trt", "fraud:1-int8"),
        (1, "fraud:1-int8", "fraud:1"),
        (2, "fraud:1", "file:///m.onnx"),
    ]


def test_why_tells_where_a_version_came_from_and_what_became_of_it(registry: Registry) -> None:
    register(registry)
    register(registry, content=b"2", origin={})
    registry.add_lineage("fraud:2", "trained-by", "mlflow:runs:/abc", actor="ci", facts={"seed": 7})
    registry.add_lineage("fraud:2", "artifact", "fraud:1", actor="ci")
    registry.set_alias("fraud", "stable", 2, expect=None, actor="bob", why="better on holdout")
    registry.set_alias("fraud", "stable", 1, expect=2, actor="eve", why="too slow")
    told = registry.why("fraud:2")
    assert [(step.depth, step.edge.kind, step.edge.parent) for step in told.lineage] == [
        (0, "trained-by", "mlflow:runs:/abc"),
        (0, "artifact", "fraud:1"),
        (1, "artifact", "file:///m.onnx"),
    ]
    assert [move.why for move in told.moves] == ["better on holdout", "too slow"]
    assert told.aliases == ()
    assert registry.why("fraud@stable").aliases == ("stable",)
    assert [edge.child for edge in registry.why("fraud:1").descendants] == ["fraud:2"]
    kinds = [entry.kind for entry in told.entries]
    assert kinds == ["version-registered", "lineage-added", "lineage-added", "alias-moved", "alias-moved"]


def test_a_circle_in_a_lineage_is_walked_once(registry: Registry) -> None:
    register(registry, content=b"1", origin={})
    register(registry, content=b"2", origin={})
    registry.add_lineage("fraud:1", "trained-by", "fraud:2", actor="ci")
    registry.add_lineage("fraud:2", "trained-by", "fraud:1", actor="ci")
    assert [step.edge.parent for step in registry.why("fraud:1").lineage] == ["fraud:2", "fraud:1"]


def test_lineage_is_recorded_once_and_of_known_kinds(registry: Registry) -> None:
    register(registry)
    registry.add_lineage("fraud:1", "profile", "profile:9", actor="ci")
    with pytest.raises(AlreadyExists):
        registry.add_lineage("fraud:1", "profile", "profile:9", actor="ci")
    with pytest.raises(InvalidArgument):
        registry.add_lineage("fraud:1", "cousin", "x", actor="ci")  # type: ignore[arg-type]


# --- aliases and tags -------------------------------------------------------------------------------------


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


def test_an_alias_never_dangles(registry: Registry) -> None:
    register(registry)
    targets: list[tuple[str, int | None]] = [("fraud", 2), ("nobody", 1), ("fraud", None)]
    for name, to in targets:
        with pytest.raises(VersionNotRegistered):
            registry.set_alias(name, "stable", to, expect=ANY, actor="ada", why="go")
    assert registry.aliases("fraud") == {}


def test_what_was_serving_at_a_moment_stays_answerable(registry: Registry, place: Place) -> None:
    register(registry, content=b"1")
    register(registry, content=b"2")
    for to, expect in ((1, None), (2, 1), (None, 2), (1, None)):
        place.clock.advance(60)
        registry.set_alias("fraud", "stable", to, expect=expect, actor="ada", why=f"to {to}")
    moments = [START, *(START + number * MINUTE for number in (1, 1.5, 2, 3, 4, 99))]
    assert [registry.alias_at("fraud", "stable", when) for when in moments] == [None, 1, 1, 2, None, 1, 1]
    (served,) = registry.serving_at(START + 2.5 * MINUTE)
    assert (served.name, served.alias, served.number, served.since) == ("fraud", "stable", 2, START + 2 * MINUTE)
    assert (served.why, served.digest) == ("to 2", registry.resolve("fraud:2").digest)


def test_a_clock_that_goes_back_does_not_take_the_history_with_it(registry: Registry, place: Place) -> None:
    register(registry)
    place.clock.advance(3600)
    registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="go")
    place.clock.advance(-1800)
    moved = registry.set_alias("fraud", "stable", None, expect=1, actor="ada", why="gone")
    assert moved.at == START + 60 * MINUTE
    assert registry.alias_at("fraud", "stable", moved.at) is None


def test_a_moment_without_a_zone_is_no_moment(registry: Registry) -> None:
    with pytest.raises(InvalidArgument, match="time zone"):
        registry.serving_at(dt.datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


def test_tags_are_set_replaced_and_deleted(registry: Registry) -> None:
    register(registry)
    registry.set_tag("fraud", 1, "owner", "risk", actor="ada")
    registry.set_tag("fraud", 1, "owner", "", actor="ada")
    registry.set_tag("fraud", 1, "stage", "lab", actor="ada")
    assert registry.versions("fraud")[0].tags == {"owner": "", "stage": "lab"}
    registry.delete_tag("fraud", 1, "owner", actor="ada")
    assert registry.resolve("fraud").tags == {"stage": "lab"}
    with pytest.raises(VersionNotRegistered, match="owner"):
        registry.delete_tag("fraud", 1, "owner", actor="ada")
    with pytest.raises(VersionNotRegistered):
        registry.set_tag("fraud", 2, "owner", "x", actor="ada")


# --- the log ----------------------------------------------------------------------------------------------


def test_every_change_is_in_the_log(registry: Registry) -> None:
    register(registry)
    registry.set_tag("fraud", 1, "owner", "risk", actor="ada")
    registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="go")
    entries = registry.audit_log()
    assert [(entry.seq, entry.kind, entry.subject) for entry in entries] == [
        (1, "version-registered", "fraud:1"),
        (2, "tag-set", "fraud:1"),
        (3, "alias-moved", "fraud@stable"),
    ]
    assert registry.audit_log(after=1, limit=1) == entries[1:2]
    assert registry.verify_audit() == 3


TAMPERING = {
    "an entry changed": ("UPDATE taxiway_audit SET actor = 'eve' WHERE seq = 3", "entry 3 was changed"),
    "an entry taken out": ("DELETE FROM taxiway_audit WHERE seq = 3", "entry 3 is missing"),
    "the last entry taken off": ("DELETE FROM taxiway_audit WHERE seq = 5", "entry 6 is missing|entry 5 is missing"),
    "an alias moved": ("UPDATE taxiway_alias SET number = 2", "fraud@stable is 2; the audit log says 1"),
    "an alias deleted": ("DELETE FROM taxiway_alias", "fraud@stable is not there"),
    "a history rewritten": ("UPDATE taxiway_alias_move SET why = 'no'", "moves: 3 is"),
    "facts changed": ("UPDATE taxiway_version SET facts = '{}' WHERE number = 1", "versions: fraud:1"),
    "files exchanged": (
        "UPDATE taxiway_version SET manifest = (SELECT max(manifest) FROM taxiway_version)",
        "versions: fraud:1",
    ),
    "a tag changed": ("UPDATE taxiway_tag SET value = 'me'", "tags: fraud:1 owner is me; the audit log says risk"),
    "a lineage deleted": ("DELETE FROM taxiway_edge WHERE seq = 1", "lineage: 1 is not there"),
    "a name's meaning changed": (
        "UPDATE taxiway_model SET last_number = 1",
        "models: fraud is 1; the audit log says 2",
    ),
    "a recipe changed": ("UPDATE taxiway_variant SET recipe = '{}'", "variants: fraud:1-int8"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_seen_and_its_place_is_named(registry: Registry, place: Place, how: str) -> None:
    register(registry, content=b"1")
    register(registry, content=b"2")
    registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="go")
    registry.set_tag("fraud", 1, "owner", "risk", actor="ada")
    manifest = manifest_of(registry, {"@/model.onnx": b"small"})
    registry.add_variant("fraud:1-int8", manifest, recipe={"q": 8}, actor="ada")
    assert registry.verify_audit() == 5
    statement, message = TAMPERING[how]
    place.sql(statement)
    with pytest.raises(AuditBroken, match=message):
        registry.verify_audit()


# --- schema -----------------------------------------------------------------------------------------------


def test_a_schema_of_a_later_release_is_refused(place: Place) -> None:
    place.open().close()
    place.sql("INSERT INTO taxiway_migration (number, title, at) VALUES (999, 'from the future', '')")
    with pytest.raises(SchemaTooNew, match="999"):
        place.open()
