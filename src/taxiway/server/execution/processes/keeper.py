"""Has the processes of one version from their start to their burial: once it is closed, none is left.

What takes time is done in threads, and told on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence

from taxiway.core.errors import TaxiwayError
from taxiway.runtimes.hosted.frames import Learn
from taxiway.server.execution.processes.plan import LaunchPlan
from taxiway.server.execution.processes.process import Ending, ModelProcess
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")


class Keeper:
    """Starts processes in the place of others, and buries those.

    Args:
        learn: what each process is told before its first run.
        processes: opened already.
    """

    def __init__(
        self, plan: LaunchPlan, learn: Learn, loop: asyncio.AbstractEventLoop, processes: Sequence[ModelProcess]
    ) -> None:
        self._plan = plan
        self._learn = learn
        self._loop = loop
        self._lock = threading.Lock()
        self._open = set(processes)
        self._opening: set[ModelProcess] = set()
        self._is_closed = False
        for process in processes:
            process.tell(learn)

    def start(self, index: int, started: Callable[[ModelProcess], None], failed: Callable[[str], None]) -> None:
        """Start a process; one of the two is called on the loop, unless all is closed meanwhile."""
        self._in_thread(f"starting-{self._plan.name}_{index}", lambda: self._start(index, started, failed))

    def bury(self, process: ModelProcess, told: Callable[[Ending], None]) -> None:
        """Find out what a process died of, and tell it on the loop."""
        self._in_thread(f"burying-{process.name}", lambda: self._bury(process, told))

    def close(self) -> None:
        """End all of them. Blocks."""
        with self._lock:
            self._is_closed = True
            opening, processes = list(self._opening), list(self._open)
        for process in opening:
            process.kill()
        ends = [*(process.close for process in processes), *(process.bury for process in opening)]
        threads = [threading.Thread(target=end, name="closing") for end in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for process in (*processes, *opening):
            process.release()
        with self._lock:
            self._open.clear()

    def _start(self, index: int, started: Callable[[ModelProcess], None], failed: Callable[[str], None]) -> None:
        process: ModelProcess | None = None
        try:
            process = ModelProcess(self._plan, index)
            if not self._take_in(process):
                return
            process.open()
            process.tell(self._learn)
        except Exception as problem:  # noqa: BLE001 - the boundary: whatever it is, another is started later
            reason = problem.message if isinstance(problem, TaxiwayError) else repr(problem)
            if not self._is_closed:
                _log.error("model_process_not_started", **self._plan.labels, instance=index, error=problem)
            self._call(lambda: failed(reason))
        else:
            opened = process
            with self._lock:
                self._open.add(opened)
            self._call(lambda: started(opened))
        finally:
            with self._lock:
                self._opening -= {process}

    def _take_in(self, process: ModelProcess) -> bool:
        """Whether it is still wanted; else it is no more."""
        with self._lock:
            if not self._is_closed:
                self._opening.add(process)
                return True
        process.kill()
        process.bury()
        return False

    def _bury(self, process: ModelProcess, told: Callable[[Ending], None]) -> None:
        ending = process.told_end()
        with self._lock:
            self._open.discard(process)
        self._call(lambda: told(ending))

    def _in_thread(self, name: str, do: Callable[[], None]) -> None:
        threading.Thread(target=do, name=name, daemon=True).start()

    def _call(self, tell: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(tell)
