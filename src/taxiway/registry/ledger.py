"""What a backup has to know of the registry's database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, column, func, select

from taxiway.core.clock import Clock
from taxiway.registry import schema
from taxiway.registry.database import REGISTRY
from taxiway.registry.dumping import Ledger
from taxiway.registry.migrations import MIGRATIONS
from taxiway.registry.verifying import verify_audit


def _contents(connection: Connection, _schema: int) -> str:
    entries = connection.scalar(select(schema.head.c.seq)) or 0
    models = connection.scalar(select(func.count()).select_from(schema.model))
    versions = connection.scalar(select(func.count()).select_from(schema.version))
    return f"models: {models}, versions: {versions}, audit entries: {entries}" if entries else ""


def _take_over(_connection: Connection, _clock: Clock) -> Callable[[], None]:
    """Its writers wait for each other and hold nothing in between: nobody is disturbed."""
    return lambda: None


LEDGER: Final = Ledger(
    name="registry",
    purpose=REGISTRY,
    prefix=schema.PREFIX,
    tables=(
        *("model", "version", "variant", "idempotency", "alias", "alias_move"),
        *("tag", "edge", "blob", "blob_use", "audit", "head"),
        *("outbox", "mirror", "followed"),
    ),
    steps=MIGRATIONS,
    log=schema.migration,
    verify=verify_audit,
    contents=_contents,
    take_over=_take_over,
    kept={"blob": column("sha256").in_(select(schema.blob_use.c.sha256))},  # others would come back without their bytes
)
