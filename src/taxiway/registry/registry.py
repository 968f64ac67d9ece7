"""The registry's face. Blocking; threads may share one, processes each open their own on the same database."""

from __future__ import annotations

import datetime as dt
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from taxiway.core.clock import Clock, SystemClock
from taxiway.core.refs import ModelRef
from taxiway.registry import audit, backup, keeping, materialising, reading, writing
from taxiway.registry.blobs import BlobStore
from taxiway.registry.canonical import checked_text, time_text
from taxiway.registry.database import Database
from taxiway.registry.disk import make_private, require_private
from taxiway.registry.explaining import Explanation, explain
from taxiway.registry.following import Followings
from taxiway.registry.garbage import GRACE_S, Garbage, collect_garbage, find_garbage
from taxiway.registry.ledger import LEDGER
from taxiway.registry.migrations import migrate
from taxiway.registry.mirroring import Mirrors
from taxiway.registry.nouns import (
    AliasMove,
    AuditEntry,
    Edge,
    EdgeKind,
    Expected,
    Manifest,
    ModelSummary,
    NewVersion,
    RegistryInfo,
    Served,
    StoredFile,
    Variant,
    Version,
)
from taxiway.registry.outbox import Outbox
from taxiway.registry.stores import open_store
from taxiway.registry.verifying import BlobReport, verify_audit, verify_blobs

Ref = ModelRef | str


class Registry:
    """Versions, variants, aliases, tags and lineage in a database; their files in a store of blobs."""

    def __init__(self, database: Database, store: BlobStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self.outbox = Outbox(database, clock)
        """What others are to be told, for those who deliver it."""
        self.mirrors = Mirrors(database, clock)
        """Which models' changes are told to whom."""
        self.followings = Followings(database, clock)
        """Which aliases follow others elsewhere."""

    @classmethod
    def open(cls, url: str, blobs: str, *, clock: Clock | None = None) -> Self:
        """Open a registry, made if it is not there, its tables brought up to this release.

        Args:
            url: `sqlite:///PATH` or `postgresql://...`.
            blobs: a directory, or any URL that fsspec knows.
            clock: tells the time of each change.

        Raises:
            SchemaTooNew: a later release wrote it.
            RegistryUnavailable: it cannot be reached.
        """
        clock = clock or SystemClock()
        database = Database.open(url)
        try:
            migrate(database, time_text(clock.now_utc()))
            return cls(database, open_store(blobs), clock)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- files -----------------------------------------------------------------------------------------

    def put_file(self, path: Path) -> StoredFile:
        """Keep a file's bytes; the same bytes are kept once. Unless a version comes to use them they are garbage."""
        return keeping.keep(self._database, self._store, self._clock, lambda: path.open("rb"))

    def put_bytes(self, data: bytes) -> StoredFile:
        """Keep bytes, as `put_file` does."""
        return keeping.keep(self._database, self._store, self._clock, lambda: cast("BinaryIO", io.BytesIO(data)))

    def materialise(self, refs: Sequence[Ref], directory: Path) -> Path:
        """Lay versions out as a Triton model repository, in a directory that is empty or not there yet.

        Raises:
            FilesDisagree: two versions of one model cannot share a repository.
            DataLoss: a blob is gone or damaged; nothing was written.
        """
        layout = materialising.lay_out([self.resolve(ref) for ref in refs])
        return materialising.write_repository(self._store, layout, directory)

    def cached(self, refs: Sequence[Ref], cache: Path) -> Path:
        """As `materialise`, once, in a directory of `cache` that is named by its content and verified at each use.

        Raises:
            FailedPrecondition: others may write to `cache`.
            FilesDisagree, DataLoss: as `materialise`.
        """
        layout = materialising.lay_out([self.resolve(ref) for ref in refs])
        make_private(cache)
        require_private(cache, "the cache of models")
        directory = cache / materialising.layout_name(layout)
        if directory.is_symlink():
            directory.unlink()
        elif directory.is_dir():
            if materialising.is_intact(layout, directory):
                return directory
            shutil.rmtree(directory)
        return materialising.write_repository(self._store, layout, directory)

    # --- versions --------------------------------------------------------------------------------------

    def register(self, new: NewVersion, *, actor: str, why: str, idempotency_key: str | None = None) -> Version:
        """Make `new` the next version of its model.

        Raises:
            AlreadyRegistered: the same files are a version of it already; not so under the same idempotency key,
                where that version is returned.
            BlobMissing: a file was not put before.
        """
        writing.checked_name(new.name)
        checked_text("why", why)
        with audit.change(self._database, self._clock, actor) as change:
            return writing.register(change, new, why, idempotency_key)

    def add_variant(
        self, ref: Ref, manifest: Manifest, *, recipe: Mapping[str, Any], actor: str, parent: Ref | None = None
    ) -> Variant:
        """Add an optimized sibling `name:3-int8`, made from `parent` (else from `name:3`) by `recipe`."""
        with audit.change(self._database, self._clock, actor) as change:
            return writing.add_variant(change, _ref(ref), manifest, recipe, None if parent is None else _ref(parent))

    def add_lineage(
        self, child: Ref, kind: EdgeKind, parent: str, *, actor: str, facts: Mapping[str, Any] | None = None
    ) -> Edge:
        """Record what a version came from, or what was found of it."""
        with audit.change(self._database, self._clock, actor) as change:
            return writing.add_lineage(change, _ref(child), kind, parent, facts or {})

    def edges(self, children: Sequence[str]) -> list[Edge]:
        """The steps by which these references came to be, and what was found of them."""
        with self._database.read() as connection:
            return reading.edges_from(connection, children)

    def resolve(self, ref: Ref) -> Version:
        """What a reference means now. A bare name means the newest version; `name:3-int8` has the variant's files.

        Raises:
            VersionNotRegistered: nothing.
        """
        with self._database.read() as connection:
            return reading.resolve(connection, _ref(ref))

    def models(self, *, prefix: str = "", limit: int = 100, after: str = "") -> list[ModelSummary]:
        """Models by name; `after` is the last name of the page before."""
        with self._database.read() as connection:
            return reading.models(connection, prefix, limit, after)

    def versions(self, name: str, *, limit: int = 100, after: int | None = None) -> list[Version]:
        """Versions of a model, newest first; `after` is the last number of the page before."""
        with self._database.read() as connection:
            return reading.versions(connection, name, limit, after)

    def variants(self, name: str, number: int) -> list[Variant]:
        """Variants of a version, by name."""
        with self._database.read() as connection:
            return reading.variants(connection, name, number)

    # --- aliases and tags ------------------------------------------------------------------------------

    def set_alias(self, name: str, alias: str, to: int | None, *, expect: Expected, actor: str, why: str) -> AliasMove:
        """Move an alias (to None: delete it), if it points to `expect`: None for "is not there", ANY for "wherever".

        Raises:
            AliasMoved: it points elsewhere.
        """
        ref = writing.checked_alias(name, alias)
        checked_text("why", why)
        with audit.change(self._database, self._clock, actor) as change:
            return writing.set_alias(change, ref, to, expect, why)

    def aliases(self, name: str) -> dict[str, int]:
        """Every alias of a model and its version."""
        with self._database.read() as connection:
            return reading.aliases(connection, name)

    def alias_history(self, name: str, alias: str) -> list[AliasMove]:
        """Every move of an alias, oldest first."""
        with self._database.read() as connection:
            return reading.alias_moves(connection, name, alias)

    def alias_at(self, name: str, alias: str, when: dt.datetime) -> int | None:
        """The version that an alias pointed to at a moment."""
        found = self.serving_at(when, name=name)
        return next((served.number for served in found if served.alias == alias), None)

    def serving_at(self, when: dt.datetime, *, name: str | None = None) -> list[Served]:
        """What each alias pointed to at a moment."""
        with self._database.read() as connection:
            return reading.serving_at(connection, when, name)

    def set_tag(self, name: str, number: int | None, key: str, value: str, *, actor: str) -> None:
        """Tag a version, or the model itself (None)."""
        writing.checked_name(name)
        with audit.change(self._database, self._clock, actor) as change:
            writing.set_tag(change, ModelRef(name, number), key, value)

    def delete_tag(self, name: str, number: int | None, key: str, *, actor: str) -> None:
        """Take a tag away."""
        writing.checked_name(name)
        with audit.change(self._database, self._clock, actor) as change:
            writing.set_tag(change, ModelRef(name, number), key, None)

    # --- the log ---------------------------------------------------------------------------------------

    def audit_log(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Changes in the order they were made; `after` is the last number of the page before."""
        with self._database.read() as connection:
            return audit.entries(connection, after=after, limit=limit)

    def latest_changes(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Changes, the last one first; `before` is the last number of the page before."""
        with self._database.read() as connection:
            return audit.latest(connection, before=before, limit=limit)

    def verify_audit(self) -> int:
        """Check every entry of the log, and that the tables hold what it tells; returns how many entries there are.

        Raises:
            AuditBroken: names the first that is not as it was written.
        """
        with self._database.read() as connection:
            return verify_audit(connection)

    def why(self, ref: Ref) -> Explanation:
        """All that is known of a version: where it came from, what was made of it, who moved which alias to it."""
        with self._database.read() as connection:
            return explain(connection, _ref(ref))

    def info(self) -> RegistryInfo:
        """Where it lies, how large it is, and the hash of its last change."""
        with self._database.read() as connection:
            return reading.info(connection, self._database.url, self._store.url)

    # --- upkeep ----------------------------------------------------------------------------------------

    def collect_garbage(self, *, actor: str, dry_run: bool = False, grace_s: float = GRACE_S) -> Garbage:
        """Delete the blobs that no version uses and nobody touched for `grace_s`; `dry_run` only says which."""
        if dry_run:
            return find_garbage(self._database, self._store, self._clock, grace_s)
        return collect_garbage(self._database, self._store, self._clock, grace_s, actor)

    def verify_blobs(self) -> BlobReport:
        """Read every blob, and say which are gone or damaged and who needs them."""
        return verify_blobs(self._database, self._store)

    def backup(self, path: Path) -> Mapping[str, Any]:
        """Write everything to a new `.tar`, or to a new directory, while others go on; returns what is in it."""
        return backup.back_up(path, [backup.Kept(LEDGER, self._database)], lambda: self._store, self._clock)

    @classmethod
    def restore(cls, path: Path, url: str, blobs: str, *, actor: str, clock: Clock | None = None) -> Self:
        """A new registry filled from a backup, in whichever database.

        Raises:
            AlreadyExists: the registry there is not empty.
            DataLoss: the backup is damaged; nothing was restored.
        """
        clock = clock or SystemClock()
        database = Database.open(url)
        try:
            store = open_store(blobs)
            backup.restore(path, [backup.Kept(LEDGER, database)], lambda: store, clock, actor)
            return cls(database, store, clock)
        except BaseException:
            database.close()
            raise


def _ref(ref: Ref) -> ModelRef:
    return ModelRef.parse(ref) if isinstance(ref, str) else ref
