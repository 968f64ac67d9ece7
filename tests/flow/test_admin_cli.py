"""Backup, proof and restore from the terminal: what is printed, what scripts read, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.journals import lead
from tests.support.stores import Store, fill, fill_otherwise

from taxiway.control import backup as everything

Run = Callable[..., tuple[int, str, str]]


def store_in(folder: Path) -> Store:
    """Where everything lies by habit."""
    here = folder / "taxiway"
    places = everything.Places(f"sqlite:///{here}/registry.db", str(here / "blobs"), f"sqlite:///{here}/rollouts.db")
    return Store(places)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = store_in(tmp_path / "here")
    fill(made)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def invoke(home: str, *words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-W", "error", "-m", "taxiway", "admin", *words]
        environment = {"XDG_DATA_HOME": str(tmp_path / home), "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, env=environment, cwd=tmp_path
        )
        return done.returncode, done.stdout, done.stderr

    return invoke


def test_everything_is_backed_up_proven_and_restored(run: Run, store: Store, tmp_path: Path) -> None:
    code, told, problems = run("here", "backup", "today.tar")
    assert (code, problems) == (0, "")
    head, columns, registry, journal = told.splitlines()
    assert head.startswith("today.tar: written ")
    assert head.endswith("files of 2.0 MB")
    assert columns.split() == ["DATABASE", "SCHEMA", "HOLDS", "LAST", "HASH"]
    assert "models: 1, versions: 2, audit entries: 4" in registry
    assert "rollouts: 2, of them going on: 1, events: 12, feedback: 2" in journal
    assert run("nowhere", "verify", "today.tar") == (0, told, "")
    assert run("there", "restore", "today.tar") == (0, told, "")
    assert store_in(tmp_path / "there").tables() == store.tables()


def test_scripts_read_json(run: Run, store: Store) -> None:
    code, told, _ = run("here", "backup", "today", "--output", "json")
    said = json.loads(told)
    assert code == 0
    assert said["databases"]["registry"]["tables"]["alias"]["rows"] == 1
    assert json.loads(run("here", "verify", "today", "--output", "json")[1]) == said
    assert json.loads(run("there", "restore", "today", "--output", "json")[1]) == said


def test_refusals_say_the_next_step_and_end_by_their_kind(run: Run, store: Store, tmp_path: Path) -> None:
    code, _, told = run("nowhere", "backup", "today.tar")
    assert (code, "hint: say where they are: --registry.url" in told) == (3, True)
    run("here", "backup", "today.tar")
    code, _, told = run("here", "backup", "today.tar")
    assert (code, "today.tar is there already" in told) == (4, True)
    code, _, told = run("here", "verify", "yesterday.tar")
    assert (code, "there is no backup yesterday.tar" in told) == (3, True)
    there = store_in(tmp_path / "there")
    fill_otherwise(there)
    code, _, told = run("there", "restore", "today.tar")
    assert (code, "not empty (models: 1, versions: 1" in told or "not empty (rollouts: 1" in told) == (4, True)
    assert "--replace" in told
    with there.journal() as journal:
        leader = lead(journal)
        code, _, told = run("there", "restore", "today.tar", "--replace")
        assert (code, "hint: stop that server" in told) == (4, True)
        journal.lease.give_back(leader)
    assert run("there", "restore", "today.tar", "--replace")[0] == 0
    assert there.tables() == store.tables()
    data = bytearray((tmp_path / "today.tar").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "today.tar").write_bytes(data)
    code, _, told = run("there", "restore", "today.tar", "--replace")
    assert (code, "nothing was restored" in told) == (1, True)
    (tmp_path / "today.tar").write_bytes(b"no tar")
    assert run("there", "verify", "today.tar")[0] == 2
