"""Keeps sampled requests and answers until there are enough of them for a file. One thread uses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from taxiway.config.monitoring_capture import CaptureSettings
from taxiway.core.errors import TaxiwayError
from taxiway.core.samples import SampledRows
from taxiway.monitor.capture.columns import Column, Redaction
from taxiway.monitor.capture.files import remove_drafts, remove_old, write
from taxiway.monitor.capture.key import key_of
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.monitor")
_PAUSE_NS: Final = 10 * 10**9
"""How long nothing is written after that failed."""
_TIDY_NS: Final = 600 * 10**9
"""How often what is old is removed where nothing is written."""

Key = tuple[str, int]


@dataclass(slots=True)
class _Waiting:
    """Rows of one version, and one set of columns, that are in no file yet."""

    since_ns: int
    parts: list[Sequence[Column]] = field(default_factory=list)
    rows: int = 0
    nbytes: int = 0


class Capture:
    """Writes what it is shown. It is a `SampleSink`.

    Args:
        directory: where the files are kept.
        key_file: of the secret that hashes are made with.
        features: what the elements of tensors are called, by model and tensor.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        directory: Path,
        key_file: Path,
        features: Mapping[str, Mapping[str, Sequence[str]]],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._key_file = key_file
        self._features = features
        self._chance = np.random.default_rng()
        self._waiting: dict[tuple[Key, object], _Waiting] = {}
        self._rows: Counter[Key] = Counter()
        self._dropped: Counter[Key] = Counter()
        self._bytes = 0
        self._tidied_ns: int | None = None
        self._not_before_ns = 0
        self._troubled: set[str] = set()

    @property
    def is_on(self) -> bool:
        """Whether any model is captured."""
        return bool(self._settings.models)

    def take(self, rows: SampledRows) -> None:
        """Rows that were sampled; what there is no room for is dropped."""
        if not rows.rows or not {"*", rows.model} & {*self._settings.models}:
            return
        key = (rows.model, rows.version)
        chosen = self._chance.random(len(rows.counts)) < self._settings.share
        wanted = int(np.array(rows.counts)[chosen].sum())
        if not wanted:
            return
        try:
            columns = self._redaction(rows.model).columns(rows, chosen)
        except Exception as problem:  # noqa: BLE001 - the boundary: what cannot be redacted is not written
            self._dropped[key] += wanted
            self._tell("capture_not_kept", problem)
            return
        self._keep(key, columns, wanted, rows.ended_ns)

    def look(self, now_ns: int) -> None:
        """Write what has waited long enough, and remove what is old."""
        least = self._settings.rotate_s * 1e9
        for own, waiting in list(self._waiting.items()):
            if waiting.rows >= self._settings.rotate_rows or now_ns - waiting.since_ns >= least:
                self._write(own, now_ns)
        if self._tidied_ns is None or now_ns - self._tidied_ns >= _TIDY_NS:
            self._tidy(now_ns)

    def close(self, now_ns: int) -> None:
        """Write what waits."""
        self._not_before_ns = 0
        for own in list(self._waiting):
            self._write(own, now_ns)

    def points(self) -> Iterator[Point]:
        """Every series."""
        for (model, version), rows in self._rows.items():
            yield Point(names.CAPTURE_ROWS, (model, str(version)), rows)
        for (model, version), rows in self._dropped.items():
            yield Point(names.CAPTURE_DROPPED, (model, str(version)), rows)
        if self.is_on:
            yield Point(names.CAPTURE_BYTES, (), self._bytes)

    def _redaction(self, model: str) -> Redaction:
        hashes = "hash" in self._settings.redact.values()
        key = key_of(self._key_file) if hashes else b""
        return Redaction(self._settings, key, self._features.get(model, {}))

    def _keep(self, key: Key, columns: list[Column], rows: int, now_ns: int) -> None:
        nbytes = sum(column.nbytes for column in columns)
        if self._room() < nbytes:
            for own in sorted(self._waiting, key=lambda one: -self._waiting[one].nbytes):
                self._write(own, now_ns)
        self._rows.setdefault(key, 0)
        self._dropped.setdefault(key, 0)
        if self._room() < nbytes:
            self._dropped[key] += rows
            return
        own = (key, tuple((column.name, column.type) for column in columns))
        waiting = self._waiting.setdefault(own, _Waiting(now_ns))
        waiting.parts.append(columns)
        waiting.rows += rows
        waiting.nbytes += nbytes
        if waiting.rows >= self._settings.rotate_rows:
            self._write(own, now_ns)

    def _room(self) -> int:
        return self._settings.buffer_bytes - sum(one.nbytes for one in self._waiting.values())

    def _write(self, own: tuple[Key, object], now_ns: int) -> None:
        """What cannot be written waits, while there is room."""
        if now_ns < self._not_before_ns:
            return
        waiting, key = self._waiting[own], own[0]
        try:
            written = write(self._directory, *key, waiting.parts, now_ns)
        except (OSError, TaxiwayError) as problem:
            self._not_before_ns = now_ns + _PAUSE_NS
            self._tell("capture_not_written", problem)
            return
        del self._waiting[own]
        self._rows[key] += waiting.rows
        self._bytes += written.nbytes
        if self._troubled:
            _log.info("capture_written_again", path=str(self._directory))
            self._troubled.clear()
        if self._bytes > self._settings.max_bytes:
            self._tidy(now_ns)

    def _tidy(self, now_ns: int) -> None:
        self._tidied_ns = now_ns
        remove_drafts(self._directory)
        self._bytes = remove_old(self._directory, now_ns, self._settings.retention_days, self._settings.max_bytes)

    def _tell(self, event: str, problem: Exception) -> None:
        """Once, until it works again."""
        if event not in self._troubled:
            self._troubled.add(event)
            hint = "rows wait in memory while there is room (monitoring.capture.buffer_bytes), and are dropped then"
            _log.error(event, path=str(self._directory), error=problem, hint=hint)
