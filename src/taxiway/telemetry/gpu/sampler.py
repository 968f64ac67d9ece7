"""Reads the GPUs again and again on a thread of its own: a driver that hangs delays no scrape, and no request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final, Protocol

from taxiway.telemetry.gpu.families import LATE, UP
from taxiway.telemetry.gpu.nvml import GpusUnavailableError, Nvml
from taxiway.telemetry.gpu.points import points_of
from taxiway.telemetry.gpu.reading import GpuReading
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.gpu")
RETRY_S: Final = 5.0
"""How long after a driver was lost it is asked again."""
_STALE: Final = 3.0
"""A reading that is so many intervals old is not told any more."""


class Session(Protocol):
    """What is read from."""

    def read(self) -> list[GpuReading]:
        """Every GPU now.

        Raises:
            GpusUnavailableError: they were lost.
        """

    def close(self) -> None:
        """End it."""


class GpuSampler:
    """What is known of the GPUs.

    Args:
        interval_s: from one reading to the next.
        dcgm: whether series are told under the names of DCGM exporter too.
        required: whether GPUs that are not there are something to be told.
        open_session: begins to read; raises GpusUnavailableError where there is nothing.
    """

    def __init__(
        self,
        interval_s: float,
        *,
        dcgm: bool,
        required: bool = False,
        open_session: Callable[[], Session] = Nvml,
        retry_s: float = RETRY_S,
    ) -> None:
        self._interval_s = interval_s
        self._dcgm = dcgm
        self._required = required
        self._open = open_session
        self._retry_s = retry_s
        self._readings: Sequence[GpuReading] = ()
        self._read_s = 0.0
        self._seen = False
        self._late = 0
        self._is_late = False
        self._troubled = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no more; a driver that hangs is not waited for."""
        self._over.set()
        self._thread.join(0.5)

    def points(self) -> Iterator[Point]:
        """Every series, as of the last reading; nothing where there never was a GPU."""
        if not self._seen:
            return
        fresh = bool(self._readings) and not self._has_become_late()
        yield Point(UP, (), int(fresh))
        yield Point(LATE, (), self._late)
        if fresh:
            yield from points_of(self._readings, dcgm=self._dcgm)

    def _has_become_late(self) -> bool:
        """Counts each time that the driver stops to answer."""
        is_late = monotonic() - self._read_s > max(_STALE * self._interval_s, 1.0)
        if is_late and not self._is_late:
            self._late += 1
            _log.warning("gpu_read_late", hint="the driver does not answer; `nvidia-smi` would hang too")
        self._is_late = is_late
        return is_late

    # --- its thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                session = self._open()
            except GpusUnavailableError as problem:
                if not (self._seen or self._required):
                    return
                self._tell(problem)
            else:
                self._read_from(session)
            self._over.wait(self._retry_s)

    def _read_from(self, session: Session) -> None:
        try:
            while not self._over.is_set():
                readings = session.read()
                self._readings, self._read_s = readings, monotonic()
                self._seen = self._seen or bool(readings)
                self._troubled = False
                self._over.wait(self._interval_s)
        except GpusUnavailableError as problem:
            self._readings = ()
            self._tell(problem)
        except Exception as problem:  # noqa: BLE001 - the boundary: a binding's defect ends no server
            self._readings = ()
            _log.error("bug", error=problem)
        finally:
            session.close()

    def _tell(self, problem: Exception) -> None:
        if not self._troubled:
            self._troubled = True
            _log.warning("gpus_lost", reason=str(problem), hint="they are asked again every few seconds")
