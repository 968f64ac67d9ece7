"""Everything that taxiway keeps, in one file: the registry with its files, and the journal of rollouts.

The journal is read first. It names versions, which stay in the registry once they are there, and what it still has to
tell the registry is told again after a restore, which is as well as once: so it may be the older of the two.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxiway.core.clock import SystemClock
from taxiway.core.errors import NotFound
from taxiway.registry import backup as one_file
from taxiway.registry.backup import Kept, Tell, quiet
from taxiway.registry.database import Database
from taxiway.registry.ledger import LEDGER as REGISTRY
from taxiway.registry.report import size_words, table
from taxiway.registry.stores import open_store
from taxiway.rollout.ledger import LEDGER as JOURNAL

_LEDGERS: Final = (JOURNAL, REGISTRY)


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies: URLs of the two databases, and where the registry's files are."""

    registry: str
    blobs: str
    journal: str


def back_up(path: Path, places: Places, tell: Tell = quiet) -> Mapping[str, Any]:
    """Write everything to a new `.tar`, or a new directory, while servers run; returns what is in it.

    Raises:
        NotFound: there is nothing.
        AlreadyExists: `path` is there.
        DataLoss: a file of the registry is gone or damaged.
    """
    with _opened(places) as kept:
        if not any(one.database.is_there() for one in kept):
            raise NotFound(
                f"there is neither a registry {places.registry} nor a journal {places.journal}",
                hint="say where they are: --registry.url and --control.journal",
            )
        return one_file.back_up(path, kept, functools.partial(open_store, places.blobs), SystemClock(), tell)


def restore(path: Path, places: Places, actor: str, *, replace: bool = False, tell: Tell = quiet) -> Mapping[str, Any]:
    """Have the registry and the journal be what they were when `path` was written; returns what was in it.

    Raises:
        AlreadyExists: one is not empty, and is not to be replaced.
        NotLeader: a control process leads.
        DataLoss: the backup is damaged; nothing was changed.
    """
    open_blobs = functools.partial(open_store, places.blobs)
    with _opened(places) as kept:
        return one_file.restore(path, kept, open_blobs, SystemClock(), actor, replace=replace, tell=tell)


def verify(path: Path, tell: Tell = quiet) -> Mapping[str, Any]:
    """Prove a backup as a restore does, and change nothing; returns what is in it."""
    with one_file.unpacked(path, _LEDGERS, SystemClock(), tell) as backup:
        return backup.header


@contextlib.contextmanager
def _opened(places: Places) -> Iterator[Sequence[Kept]]:
    urls = {JOURNAL.name: places.journal, REGISTRY.name: places.registry}
    with contextlib.ExitStack() as stack:
        kept = [Kept(one, Database.open(urls[one.name], one.purpose)) for one in _LEDGERS]
        for one in kept:
            stack.callback(one.database.close)
        yield kept


def backup_text(path: Path, said: Mapping[str, Any]) -> list[str]:
    """What is in a backup, for people."""
    rows = [
        (name, str(one["schema"]), one["holds"] or "nothing", one["hash"][:12])
        for name, one in sorted(said["databases"].items(), reverse=True)
    ]
    files = f"{said['blobs']} files of {size_words(said['bytes'])}"
    return [f"{path}: written {said['written_at']} by taxiway {said['release']}, {files}", *table(_HEAD, rows)]


_HEAD: Final = ("DATABASE", "SCHEMA", "HOLDS", "LAST HASH")
