"""Does one thing again and again until it is told to stop; what fails is told, and waits longer each time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from taxiway.core.errors import InternalError, TaxiwayError
from taxiway.intake.mlflow.deciding import delay_after


def run_every(
    step: Callable[[], None], every_s: float, stop: threading.Event, tell: Callable[[TaxiwayError], None]
) -> None:
    """Call `step` every `every_s` seconds until `stop` is set; a step that is under way then is finished."""
    failures = 0
    while not stop.is_set():
        try:
            step()
            failures = 0
        except TaxiwayError as error:
            failures += 1
            tell(error)
        except Exception as problem:  # noqa: BLE001 - the one boundary of this process: it goes on
            failures += 1
            tell(InternalError(f"{type(problem).__name__}: {problem}", hint="this is worth a report"))
        stop.wait(delay_after(failures, every_s))


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
