"""Keys files for tests: the key of NAME is `key-NAME`."""

from __future__ import annotations

from pathlib import Path

from taxiway.config.keys import KeyEntry, hash_key
from taxiway.config.keys_edit import write_entry


def write_keys(path: Path, **scopes: str) -> Path:
    """Replace the file at once: by name, scopes and, behind a colon, models (`a="infer,read:res*"`)."""
    beside = path.with_suffix(".new")
    beside.write_text("keys:\n" + "".join(write_entry(_entry(name, said)) for name, said in scopes.items()))
    beside.chmod(0o600)
    beside.replace(path)  # another inode, so that no clock is too coarse to see it
    return path


def _entry(name: str, said: str) -> KeyEntry:
    scopes, _, models = said.partition(":")
    return KeyEntry.model_validate(
        {
            "name": name,
            "sha256": hash_key(f"key-{name}"),
            "scopes": scopes.split(","),
            "models": models.split(",") if models else ["*"],
        }
    )
