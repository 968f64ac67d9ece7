"""The keys file: what is read, what is refused and where, and what `taxiway keys new` writes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from click.testing import CliRunner

from taxiway.cli.main import taxiway
from taxiway.config.keys import KeyEntry, hash_key, new_key, read_keys
from taxiway.config.keys_edit import add_entry, write_entry
from taxiway.core.errors import FailedPrecondition, InvalidConfig

HASH = "ab" * 32


def _read(tmp_path: Path, text: str) -> tuple[KeyEntry, ...]:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    return read_keys(path).entries


def _problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as told:
        _read(tmp_path, text)
    return [line.strip().removeprefix(f"{tmp_path}/") for line in told.value.message.splitlines()[1:]]


def test_an_entry_says_who_what_and_until_when(tmp_path: Path) -> None:
    (one,) = _read(
        tmp_path,
        f"keys:\n- name: ci\n  sha256: {HASH}\n  scopes: [infer, read]\n  models: ['a*', b]\n  expires: 2027-01-31\n",
    )
    assert (one.name, one.scopes, one.models) == ("ci", ("infer", "read"), ("a*", "b"))
    assert one.expires == dt.datetime(2027, 1, 31, tzinfo=dt.UTC)


@pytest.mark.parametrize("text", ["", "keys:", "keys: {}", "keys: tw_secret", "tw_secret"])
def test_a_file_without_a_list_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    (told,) = _problems(tmp_path, text)
    assert "secret" not in told


def test_an_empty_list_lets_nobody_in(tmp_path: Path) -> None:
    assert _read(tmp_path, "keys: []") == ()


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = f"""\
kees: 1
keys:
- name: "bad name"
  sha256: {HASH}
  scopes: [infer, write]
- name: b
  sha256: {"AB" * 32}
  scopes: []
  modles: [x]
  expires: 2027
- name: c
- just text
- name: d
  sha256: {"cd" * 32}
  scopes: [read]
- name: d
  sha256: {"cd" * 32}
  scopes: [read]
"""
    told = _problems(tmp_path, text)
    assert [line.partition(": ")[0] for line in told] == [
        "keys.yaml:1:1",
        "keys.yaml:3:3",
        "keys.yaml:5:19",
        "keys.yaml:7:3",
        "keys.yaml:8:3",
        "keys.yaml:10:3",
        "keys.yaml:9:3",
        "keys.yaml:11:3",
        "keys.yaml:11:3",
        "keys.yaml:12:3",
        "keys.yaml:16:3",
        "keys.yaml:16:3",
    ]
    whole = "\n".join(told)
    assert "did you mean 'keys'?" in whole
    assert "did you mean 'models'?" in whole
    assert "'infer', 'read', 'rollout', 'admin' or 'metrics'" in whole
    assert "2027-01-31" in whole
    assert "the first is at" in whole
    assert "must be a mapping with name, sha256 and scopes" in whole


def test_a_key_written_where_its_hash_belongs_is_not_repeated(tmp_path: Path) -> None:
    key = new_key()
    (told,) = _problems(tmp_path, f"keys:\n- name: a\n  sha256: {key}\n  scopes: [infer]\n")
    assert key not in told
    assert "never the key" in told


def test_what_is_open_to_others_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("keys: []")
    for mode, noticed in ((0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o660, True)):
        path.chmod(mode)
        assert read_keys(path).open_to_others is noticed


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="No such file"):
        read_keys(tmp_path / "none.yaml")


def test_keys_are_long_and_differ() -> None:
    one, other = new_key(), new_key()
    assert one != other
    assert len(one) >= 43
    assert hash_key(one) != hash_key(other)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    until = dt.datetime(2027, 1, 31, 12, tzinfo=dt.UTC)
    entry = KeyEntry(name="123", sha256=HASH, scopes=("infer", "admin"), models=("*x", "null", "a: b"), expires=until)
    plain = KeyEntry(name="b", sha256="0" * 64, scopes=("read",))
    assert _read(tmp_path, "keys:\n" + write_entry(entry) + write_entry(plain)) == (entry, plain)


def test_adding_makes_the_file_for_its_owner_and_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_entry(path, KeyEntry(name="a", sha256=HASH, scopes=("infer",)))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text() + "  # a comment, and no line end")
    path.chmod(0o640)
    add_entry(path, KeyEntry(name="b", sha256="0" * 64, scopes=("read",)))
    assert [entry.name for entry in read_keys(path).entries] == ["a", "b"]
    assert "# a comment" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["keys: []\n", f"keys: [{{name: z, sha256: {HASH}, scopes: [infer]}}]\n"])
def test_what_cannot_be_appended_to_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(FailedPrecondition, match="cannot be appended"):
        add_entry(path, KeyEntry(name="a", sha256="0" * 64, scopes=("infer",)))
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_is_not_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_entry(path, KeyEntry(name="a", sha256=HASH, scopes=("infer",)))
    with pytest.raises(FailedPrecondition, match="given twice") as told:
        add_entry(path, KeyEntry(name="a", sha256="0" * 64, scopes=("infer",)))
    assert "take a name that is not there yet" in (told.value.hint or "")


def test_the_command_prints_the_key_and_files_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    words = ["keys", "new", "ci", "--scope", "infer", "--scope", "read", "--model", "a*", "--expires", "7"]
    printed = CliRunner().invoke(taxiway, words)
    assert printed.exit_code == 0, printed.output
    key, _, entry = printed.output.partition("\n")
    assert f"sha256: {hash_key(key)}" in entry
    assert "models: [a*]" in entry
    filed = CliRunner().invoke(taxiway, [*words, "--file", str(path)])
    assert filed.exit_code == 0, filed.output
    (one,) = read_keys(path).entries
    assert one.sha256 == hash_key(filed.output.strip())
    assert filed.output.strip() not in path.read_text()


def test_the_command_refuses_a_name_that_the_file_would() -> None:
    told = CliRunner().invoke(taxiway, ["keys", "new", "two words", "--scope", "infer"])
    assert told.exception is not None
    assert "name" in str(told.exception)
