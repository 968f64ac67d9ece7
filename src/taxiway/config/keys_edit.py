"""Adding a key to the file of API keys: by its text, so that comments and order stay, and all of it or nothing."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from taxiway.config.keys import KeyEntry, Scope, read_keys
from taxiway.core.errors import FailedPrecondition, InvalidArgument, TaxiwayError

_NEW_FILE = "# API keys, by the SHA-256 of each: see `taxiway keys new`. Read again when it changes.\nkeys:\n"


def make_entry(
    name: str, sha256: str, scopes: Sequence[Scope], models: Sequence[str], expires: dt.datetime | None
) -> KeyEntry:
    """An entry that keeps the file's rules.

    Raises:
        InvalidArgument: it does not.
    """
    try:
        return KeyEntry(name=name, sha256=sha256, scopes=tuple(scopes), models=tuple(models), expires=expires)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}", hint="see `taxiway keys new --help`"
        ) from None


def write_entry(entry: KeyEntry) -> str:
    """The entry as an item of the list `keys`."""
    told: dict[str, object] = {"name": entry.name, "sha256": entry.sha256, "scopes": list(entry.scopes)}
    if entry.models != ("*",):
        told["models"] = list(entry.models)
    if entry.expires is not None:
        told["expires"] = entry.expires.isoformat().replace("+00:00", "Z")
    lines: list[str] = []
    for member, value in told.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        lines.append(f"{'  - ' if not lines else '    '}{member}: {text}\n")
    return "".join(lines)


def add_entry(path: Path, entry: KeyEntry) -> None:
    """Append an entry to a keys file, which is made, for its owner only, if it is not there.

    The file is replaced in one step: a server that reads it meanwhile sees the old one or the new.

    Raises:
        InvalidConfig: the file is broken, or has such a name already; it is left as it is.
        FailedPrecondition: it cannot be written.
    """
    target = path.resolve()  # a link stays a link
    try:
        known = len(read_keys(target).entries) if target.exists() else 0
        text = target.read_text("utf-8") if target.exists() else _NEW_FILE
        if text and not text.endswith("\n"):
            text += "\n"
        _replace(target, text + write_entry(entry), known + 1)
    except OSError as problem:
        raise FailedPrecondition(
            f"cannot write the keys file {path}: {problem.strerror}", hint="`taxiway keys new` without --file prints it"
        ) from problem


def _replace(target: Path, text: str, count: int) -> None:
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _check_written(written, target, count)
        written.chmod(mode)
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)


def _check_written(written: Path, target: Path, count: int) -> None:
    """The text was put together without understanding it, so it is read before it counts."""
    try:
        entries = read_keys(written).entries
    except TaxiwayError as error:
        raise FailedPrecondition(
            f"the entry cannot be appended to {target}: {error.message.replace(str(written), str(target))}",
            hint="take a name that is not there yet, or add what `taxiway keys new` prints without --file by hand",
        ) from None
    if len(entries) != count:
        raise FailedPrecondition(
            f"the entry cannot be appended to {target}: `keys` is not its last list",
            hint="add what `taxiway keys new` prints without --file by hand",
        )
