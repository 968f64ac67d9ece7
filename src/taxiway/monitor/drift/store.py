"""Keeps watches on the disk, so that a control process that ends at any moment goes on where it was.

One file for each version, exchanged as a whole: what is read is what was written at one moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from taxiway.core.errors import TaxiwayError
from taxiway.monitor.drift.reference import Reference
from taxiway.monitor.drift.watch import Watch, WatchPlan
from taxiway.telemetry.logs import Log

_log = Log("taxiway.monitor")
_NAME: Final = re.compile(r"(?P<model>.+)~(?P<version>\d+)\.watch")
_FORMAT: Final = 1


class WatchStore:
    """The watches in one directory, which is made when the first is kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._failing = False

    def kept(self) -> Iterator[tuple[str, int]]:
        """The versions of which a watch is kept."""
        for path in sorted(self._directory.glob("*.watch")):
            if found := _NAME.fullmatch(path.name):
                yield unquote(found["model"]), int(found["version"])

    def load(self, key: tuple[str, int], plan: WatchPlan) -> Watch | None:
        """The watch of a version, to be gone on with by this plan; None: none is kept, or it cannot be read."""
        try:
            content = self._path(key, "watch").read_bytes()
        except OSError:
            return None
        try:
            told = msgspec.msgpack.decode(content)
            return None if told["format"] != _FORMAT else Watch.restored(plan, told["watch"])
        except (msgspec.DecodeError, LookupError, TypeError, ValueError, TaxiwayError) as problem:
            reason = f"what was known cannot be read: {problem}"
            _log.warning("drift_forgotten", model=key[0], version=str(key[1]), reason=reason)
            return None

    def save(self, key: tuple[str, int], watch: Watch) -> None:
        """Keep a watch; what goes wrong is logged once."""
        content = msgspec.msgpack.encode({"format": _FORMAT, "watch": watch.state()})
        if self._write(self._path(key, "watch"), content):
            watch.saved_rows = watch.rows

    def reference(self, key: tuple[str, int]) -> Reference | None:
        """The reference that a version was given; None: it was given none."""
        try:
            return Reference.decode(self._path(key, "reference").read_bytes())
        except OSError:
            return None
        except TaxiwayError as problem:
            _log.warning("drift_forgotten", model=key[0], version=str(key[1]), reason=problem.message)
            return None

    def keep_reference(self, key: tuple[str, int], reference: Reference) -> None:
        """Keep the reference that a version is given."""
        self._write(self._path(key, "reference"), reference.encode())

    def forget(self, key: tuple[str, int]) -> None:
        """Keep nothing of a version."""
        for kind in ("watch", "reference"):
            self._path(key, kind).unlink(missing_ok=True)

    def _path(self, key: tuple[str, int], kind: str) -> Path:
        return self._directory / f"{quote(key[0], safe='')}~{key[1]}.{kind}"

    def _write(self, path: Path, content: bytes) -> bool:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content)
            draft.replace(path)
        except OSError as problem:
            if not self._failing:
                _log.error("drift_not_saved", path=str(path), error=problem, hint="is there space left on the disk?")
            self._failing = True
            draft.unlink(missing_ok=True)
            return False
        self._failing = False
        return True
