"""Everything that taxiway keeps, to be backed up: a registry and a journal, with some of everything in them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, make_url
from tests.support.journals import STAGED, assert_sound, evidence, happen, lead, live, of, score, start
from tests.support.postgres import Cluster
from tests.support.registries import register

from taxiway.control import backup as everything
from taxiway.registry import ANY, Registry
from taxiway.registry.database import Database
from taxiway.registry.dumping import rows_of
from taxiway.registry.ledger import LEDGER as REGISTRY
from taxiway.rollout.journal import Journal
from taxiway.rollout.ledger import LEDGER as JOURNAL

KINDS: Final = ("sqlite", "postgresql", "mixed")
"""Two files; one database; a database and a file."""

ONGOING: Final = "r-ongoing"
_MOVING: Final = frozenset({"registry audit", "registry head", "journal lease"})
"""What a restore writes itself."""

Tables = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Store:
    """Where everything lies."""

    places: everything.Places

    def registry(self) -> Registry:
        return Registry.open(self.places.registry, self.places.blobs)

    def journal(self) -> Journal:
        return Journal.open(self.places.journal)

    def tables(self) -> Tables:
        """Every row of everything that is kept, but for what a restore writes itself."""
        found: Tables = {}
        for ledger, url in ((REGISTRY, self.places.registry), (JOURNAL, self.places.journal)):
            with contextlib.closing(Database.open(url, ledger.purpose)) as database, database.read() as connection:
                for name in ledger.tables:
                    found[f"{ledger.name} {name}"] = list(rows_of(connection, ledger, name))
        return {name: rows for name, rows in found.items() if name not in _MOVING}

    def heads(self) -> tuple[int, int]:
        """How many audit entries and how many events there are: which state it is."""
        with self.registry() as registry, self.journal() as journal:
            return len(registry.audit_log(limit=100_000)), len(journal.history(limit=100_000))

    def sql(self, url: str, statement: str) -> None:
        """Change a database past taxiway, as nobody should."""
        made = make_url(url)
        engine = create_engine(made.set(drivername="postgresql+psycopg") if "postgres" in made.drivername else made)
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def assert_sound(self) -> None:
        """What must be true at every moment."""
        with self.registry() as registry, self.journal() as journal:
            registry.verify_audit()
            assert registry.verify_blobs().damaged == ()
            assert_sound(journal)


NewStore = Callable[[str], Store]

_numbers = itertools.count()


def new_store(kind: str, folder: Path, cluster: Callable[[], Cluster]) -> Store:
    """A place of a kind that nobody has used."""
    here = folder / f"store-{next(_numbers)}"
    registry, journal = f"sqlite:///{here}/registry.db", f"sqlite:///{here}/rollouts.db"
    if kind != "sqlite":
        registry = cluster().new_schema()
    return Store(everything.Places(registry, str(here / "blobs"), registry if kind == "postgresql" else journal))


def fill(store: Store) -> None:
    """Some of everything: versions, a rollout that ended, one that goes on with evidence, letters, feedback."""
    with store.registry() as registry:
        register(registry, content=b"1", key="one")
        register(registry, content=b"2" * 2_000_000)
        registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="zażółć")
        registry.set_tag("fraud", 1, "owner", "risk", actor="ada")
    with store.journal() as journal:
        leader = lead(journal)
        live(journal, leader, "r-1", lambda _: None)
        start(journal, leader, of(ONGOING, "fraud"), *STAGED)
        score(journal, leader, ONGOING)
        journal.keep_working(leader, ONGOING, evidence(7))
        journal.lease.give_back(leader)


def fill_otherwise(store: Store) -> None:
    """Something else: shorter, of other names."""
    with store.registry() as registry:
        register(registry, "other", content=b"other")
        registry.set_alias("other", "stable", 1, expect=ANY, actor="eve", why="another life")
    with store.journal() as journal:
        leader = lead(journal)
        happen(journal, leader, start(journal, leader, of("r-other", "other")).id, *STAGED)
        journal.lease.give_back(leader)
