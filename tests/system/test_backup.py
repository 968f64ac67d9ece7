"""A restore that is killed at any moment, and a rollout that goes on in another place."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.raw_http import wait_until
from tests.support.registry_forks import forker
from tests.support.rollouts import MODEL, Crowd, Shop, good, open_shop
from tests.support.stores import Store, Tables, fill, fill_otherwise, new_store

from taxiway.control import backup as everything
from taxiway.rollout.evidence import GONE_S

Ask = Callable[..., Any]


# --- killed at a point ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with forker("tests.support.backup_forks") as asked:
        yield asked


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    return lambda: new_store(request.param, tmp_path, lambda: request.getfixturevalue("postgres"))


@pytest.fixture
def two(new: Callable[[], Store], tmp_path: Path) -> dict[Path, Tables]:
    """Backups of two states that have nothing in common, and what each holds."""
    made = {}
    for name, write in (("one.tar", fill), ("other.tar", fill_otherwise)):
        store = new()
        write(store)
        everything.back_up(tmp_path / name, store.places)
        made[tmp_path / name] = store.tables()
    return made


def order(file: Path, store: Store) -> tuple[str, ...]:
    places = store.places
    return (str(file), places.registry, places.blobs, places.journal)


def go_through(ask: Ask, store: Store, two: dict[Path, Tables], at_most: int) -> set[bool]:
    """Restore what is not there, killed at one point after the other: then it is there whole, or not at all."""
    here, other = two
    everything.restore(other, store.places, "bob")
    code, count = ask("points", *order(here, store))
    assert code == 0
    seen = set()
    for point in itertools.count(1, max(1, count // at_most | 1)):
        code, _ = ask("die", *order(other, store), point)
        assert code in (-9, 0), point
        store.assert_sound()
        found = store.tables()
        assert found in (two[here], two[other]), point
        seen.add(found == two[other])
        if code == 0:
            assert found == two[other]
            return seen
        if found == two[other]:
            here, other = other, here
    raise AssertionError


def test_a_restore_killed_at_some_points_leaves_the_old_or_the_new(
    ask: Ask, new: Callable[[], Store], two: dict[Path, Tables]
) -> None:
    go_through(ask, new(), two, at_most=24)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_restore_killed_at_every_point_leaves_the_old_or_the_new(
    ask: Ask, new: Callable[[], Store], two: dict[Path, Tables]
) -> None:
    assert go_through(ask, new(), two, at_most=10_000) == {False, True}


# --- a rollout goes on elsewhere -----------------------------------------------------------------------


def admin(shop: Shop, verb: str, file: Path, *words: str) -> Any:
    """What the verb prints for scripts; its errors fail the test."""
    places = {"registry.url": shop.url, "registry.blobs": shop.folder / "blobs"}
    flags = [word for name, value in places.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "taxiway", "admin", verb, str(file), "--output", "json", *flags, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return json.loads(done.stdout) if done.returncode == 0 else (done.returncode, done.stderr)


@pytest.mark.timeout(240)
def test_a_rollout_in_flight_goes_on_where_it_was_restored(tmp_path: Path) -> None:
    shop, there = open_shop(tmp_path / "shop", good, good), Shop(tmp_path / "there")
    plan: dict[str, Any] = {"min_step_s": 0.3, "settle_s": 0.1, "guard_for_s": 0.3, "twin": False}
    plan["guards"] = {"min_requests": 20, "metrics": [{"metric": "errors", "allowance": 0.3}]}
    file = tmp_path / "backup.tar"
    with shop.serve() as server:
        rollout = server.start(to="2", **plan, steps=[20, 100])
        server.wait_for(rollout, "step")
        wait_until(lambda: server.see(f"/v1/rollouts/{rollout}")["verdict"] is not None, "it was looked at")
        said = admin(shop, "backup", file)
        assert "going on: 1" in said["databases"]["journal"]["holds"]
        assert server.rollout(rollout)["phase"] == "step", "nobody minds a backup"
        code, told = admin(shop, "restore", file, "--replace")
        assert (code, "leads the rollouts" in told) == (4, True), told
        os.kill(server.process.process.pid, signal.SIGKILL)
    shop.folder.rename(tmp_path / "gone")
    assert admin(there, "restore", file) == said
    with there.serve() as server:
        assert server.rollout(rollout)["step"] == 0
        with Crowd(server.process.address) as crowd:
            # Where it takes seconds to get here, the process that was killed is missed until it counts as gone.
            told = server.wait_for(rollout, "succeeded", "rolled-back", "failed-infra", patience_s=GONE_S + 30)
        assert told["phase"] == "succeeded", told
        assert set(crowd.statuses) == {200}
        assert server.answer()[1] == 2.0
        assert server.see(f"/v1/rollouts/{rollout}/replay")["same"]
        with there.registry() as registry:
            wait_until(lambda: registry.aliases(MODEL)["stable"] == 2, "the alias has moved")
            registry.verify_audit()
