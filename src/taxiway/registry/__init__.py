"""What is known of every model: immutable versions, movable aliases, where each came from, and who changed what.

In: files to keep, a `NewVersion` to register, an alias to move; a database's URL and a place for blobs.
Out: `Version`, numbered and never changed; its files, verified; the history of aliases; an audit log that cannot lie.
Never: deciding what is live; frameworks; serving.
Read: nouns.py, registry.py, then database.py and keeping.py for what makes it safe.
"""

from taxiway.registry.nouns import (
    ANY,
    AliasMove,
    AuditEntry,
    Edge,
    FileEntry,
    Manifest,
    NewVersion,
    StoredFile,
    Variant,
    Version,
)
from taxiway.registry.registry import Registry

__all__ = [
    "ANY",
    "AliasMove",
    "AuditEntry",
    "Edge",
    "FileEntry",
    "Manifest",
    "NewVersion",
    "Registry",
    "StoredFile",
    "Variant",
    "Version",
]
