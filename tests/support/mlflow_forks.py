"""A process that forks followers of an MLflow, each killed at a point of its work; see registry_forks.py.

Orders: `["points", folder]`, `["die", folder, point]`, `["die delivered", folder]`, `["finish", folder]`. Forking from
here, where mlflow is imported and no database is open, costs milliseconds where a new process costs seconds. Both
databases, ours and MLflow's, are spoken to through SQLAlchemy, so each statement to either is a point.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event
from tests.support.mlflow_places import MlflowPlace, quiet
from tests.support.registries import START, ToldClock
from tests.support.registry_forks import Points, ended, forked

from taxiway.intake.mlflow.following import Follower, Wish
from taxiway.intake.mlflow.mirror import Deliverer, Told
from taxiway.intake.mlflow.server import Mlflow
from taxiway.intake.mlflow.source import mlflow_schemes
from taxiway.intake.mlflow.uris import MlflowUri
from taxiway.intake.walk import Office
from taxiway.registry import Registry
from taxiway.registry.outbox import LEASE_S

WISH: Final = Wish(MlflowUri.parse("models:/fraud@champion"), "candidate", "go", "ci")
ACKNOWLEDGED: Final = "UPDATE taxiway_outbox SET done_at"


def open_registry(folder: Path, later_s: float = 0.0) -> Registry:
    clock = ToldClock(START + dt.timedelta(seconds=later_s))
    return Registry.open(f"sqlite:///{folder}/registry.db", str(folder / "blobs"), clock=clock)


def follow(folder: Path, registry: Registry) -> list[list[str]]:
    """What `taxiway mlflow follow --once` does; returns what MLflow was told."""
    told: list[Told] = []

    def connect() -> Mlflow:
        return Mlflow.connect(MlflowPlace(folder).uri)

    office = Office(folder / "work", schemes=mlflow_schemes(connect, folder / "work"))
    Follower(connect, registry, office, lambda look: None).reconcile_followed([WISH])
    Deliverer(connect, registry, "ci", told.append).reconcile_mirror()
    return [[one.subject, one.outcome] for one in told]


def prepare(folder: Path) -> None:
    """An alias that was followed and mirrored, and that has moved in MLflow since."""
    place = MlflowPlace.new(folder)
    for amount in (1, 2):
        place.log_adder(amount)
    place.point("champion", "1")
    with open_registry(folder) as registry:
        follow(folder, registry)
        registry.mirrors.turn_on("mlflow", "fraud", actor="ada")
        follow(folder, registry)
    place.point("champion", "2")


def follow_until(folder: Path, fatal: int) -> int:
    points = Points(fatal)
    points.watch()
    with open_registry(folder) as registry:
        follow(folder, registry)
    return points.passed


def follow_until_delivered(folder: Path) -> None:
    """Die where something was told, and is to be marked as told."""

    def die(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith(ACKNOWLEDGED):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", die)
    follow_until(folder, 0)


def finish(folder: Path) -> dict[str, Any]:
    """What another follower makes of it, once the lease of the dead one has run out."""
    place = MlflowPlace(folder)
    before = place.aliases()
    with open_registry(folder, LEASE_S + 1) as registry:
        told = follow(folder, registry)
        registry.verify_audit()
        return {
            "before": before,
            "told": told,
            "theirs": place.aliases(),
            "tags": [place.tags(version) for version in ("1", "2")],
            "ours": registry.aliases("fraud"),
            "moves": [move.to_version for move in registry.alias_history("fraud", "candidate")],
            "versions": [version.origin["model_version"] for version in registry.versions("fraud")],
            "lineage": sorted(step.edge.kind for step in registry.why("fraud:2").lineage),
            "problems": [letter.problem for letter in registry.outbox.letters("mlflow") if letter.problem],
            "waiting": len(registry.outbox.letters("mlflow", waiting=True)),
        }


def obey(order: str, folder: str, *numbers: int) -> object:
    jobs = {
        "points": lambda: follow_until(Path(folder), 0),
        "die": lambda: follow_until(Path(folder), *numbers),
        "die delivered": lambda: follow_until_delivered(Path(folder)),
        "finish": lambda: finish(Path(folder)),
    }
    return ended(*forked(jobs[order]))


def main() -> None:
    with quiet():
        for line in sys.stdin:
            print(json.dumps(obey(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
