"""The guard: who is let pass, who is told what, and what a changed file does."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from taxiway.config.keys import KeyEntry, hash_key
from taxiway.config.keys_edit import write_entry
from taxiway.core.errors import InvalidConfig, PermissionDenied, Unauthenticated
from taxiway.server.guard import Guard, bearer
from taxiway.telemetry import catalogue as names

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class HandClock:
    """Moves when told."""

    now = START

    def monotonic_ns(self) -> int:
        return 0

    def now_utc(self) -> dt.datetime:
        return self.now


def _write(path: Path, *entries: KeyEntry) -> None:
    beside = path.with_suffix(".new")
    beside.write_text("keys:\n" + "".join(map(write_entry, entries)))
    beside.chmod(0o600)
    beside.replace(path)  # another inode, so that no clock is too coarse to see it


def _entry(name: str, *scopes: str, models: tuple[str, ...] = ("*",), expires: dt.datetime | None = None) -> KeyEntry:
    return KeyEntry.model_validate(
        {"name": name, "sha256": hash_key(f"key-{name}"), "scopes": scopes, "models": models, "expires": expires}
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    _write(
        path,
        _entry("all", "infer", "read", "admin", "metrics"),
        _entry("some", "infer", "read", models=("res*", "bert")),
        _entry("short", "infer", expires=START + dt.timedelta(seconds=10)),
    )
    return path


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def guard(path: Path, clock: HandClock) -> Guard:
    return Guard(path, clock)


def _refused(guard: Guard) -> dict[str, object]:
    return {
        point.labels[0]: point.value for point in guard.points() if point.family is names.AUTH_REFUSED and point.value
    }


def _reloads(guard: Guard) -> dict[str, object]:
    return {point.labels[1]: point.value for point in guard.points() if point.family is names.RELOADS}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_known_key_passes_and_tells_its_name(guard: Guard, scheme: str) -> None:
    assert guard.check(f"{scheme} key-all", "admin", None).name == "all"
    assert guard.check(bearer("key-all"), "infer", "anything").name == "all"
    assert _refused(guard) == {}


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "no_key"),
        ("", "no_key"),
        ("Bearer", "no_key"),
        ("Bearer ", "no_key"),
        ("Basic a2V5LWFsbA==", "no_key"),
        ("key-all", "no_key"),
        ("Bearer nobody", "unknown_key"),
        ("Bearer KEY-ALL", "unknown_key"),
        ("Bearer " + "x" * 100_000, "unknown_key"),
        ("Bearer \udcff\xff", "unknown_key"),
        ("Bearer " + hash_key("key-all"), "unknown_key"),
    ],
)
def test_without_a_known_key_nobody_passes(guard: Guard, authorization: str | None, reason: str) -> None:
    for scope in ("infer", "any"):
        with pytest.raises(Unauthenticated) as told:
            guard.check(authorization, scope, "resnet")
        assert "key-all" not in told.value.message
    assert _refused(guard) == {reason: 2}


def test_a_key_reaches_as_far_as_its_scopes_and_models(guard: Guard) -> None:
    for model in ("resnet", "res", "bert"):
        assert guard.check("Bearer key-some", "infer", model).name == "some"
    assert guard.check("Bearer key-some", "any", None).name == "some"
    with pytest.raises(PermissionDenied, match="key 'some' does not have the scope 'admin'"):
        guard.check("Bearer key-some", "admin", "resnet")
    for model in ("bert2", "Resnet", "a-res"):
        with pytest.raises(PermissionDenied, match=f"key 'some' may not use model '{model}' .scope 'infer'"):
            guard.check("Bearer key-some", "infer", model)
    with pytest.raises(PermissionDenied, match="the whole server"):
        guard.check("Bearer key-some", "read", None)
    assert _refused(guard) == {"scope": 1, "model": 4}


def test_an_expired_key_is_refused_and_whoever_remembers_it_is_told(guard: Guard, clock: HandClock) -> None:
    before = guard.keyring
    assert guard.check("Bearer key-short", "infer", "m").name == "short"
    guard.reload()
    assert guard.keyring is before
    clock.now = START + dt.timedelta(seconds=10)
    with pytest.raises(Unauthenticated, match="key 'short' expired at 2026-01-01T00:00:10"):
        guard.check("Bearer key-short", "infer", "m")
    guard.reload()
    assert guard.keyring is not before
    after = guard.keyring
    guard.reload()
    assert guard.keyring is after


def test_a_changed_file_is_taken_up_and_a_removed_key_is_refused(guard: Guard, path: Path) -> None:
    before = guard.keyring
    _write(path, _entry("new", "infer"))
    guard.reload()
    assert guard.keyring is not before
    assert guard.check("Bearer key-new", "infer", "m").name == "new"
    with pytest.raises(Unauthenticated):
        guard.check("Bearer key-all", "infer", "m")
    assert _reloads(guard) == {"taken": 1, "refused": 0}


def test_a_broken_or_missing_file_leaves_the_keys_in_force(
    guard: Guard, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("keys:\n- name: half")
    guard.reload()
    guard.reload()
    path.unlink()
    guard.reload()
    assert guard.check("Bearer key-all", "infer", "m").name == "all"
    assert _reloads(guard) == {"taken": 0, "refused": 2}
    assert [record.msg for record in caplog.records] == ["reload_failed"] * 2
    _write(path, _entry("late", "infer"))
    guard.reload()
    assert guard.check("Bearer key-late", "infer", "m").name == "late"


def test_a_swapped_link_is_a_change(tmp_path: Path, clock: HandClock) -> None:
    """As Kubernetes changes what a pod sees of a secret."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _write(tmp_path / name / "keys.yaml", _entry(name, "infer"))
    (tmp_path / "data").symlink_to("one")
    guard = Guard(tmp_path / "data" / "keys.yaml", clock)
    assert guard.check("Bearer key-one", "infer", None).name == "one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    guard.reload()
    assert guard.check("Bearer key-two", "infer", None).name == "two"
    with pytest.raises(Unauthenticated):
        guard.check("Bearer key-one", "infer", None)


def test_a_file_open_to_others_is_warned_of(path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    path.chmod(0o644)
    Guard(path, clock)
    assert [record.msg for record in caplog.records] == ["keys_file_open"]


def test_a_broken_file_at_the_start_is_an_error(tmp_path: Path, clock: HandClock) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        Guard(tmp_path / "none.yaml", clock)
