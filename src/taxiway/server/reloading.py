"""Looks, every second, whether files that were read at start have changed, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from taxiway.telemetry.logs import Log

_log = Log("taxiway.server")
LOOK_EVERY_S = 1.0


class Reloadable(Protocol):
    """Something made of files."""

    def reload(self) -> None:
        """Read them again if they changed. Called from a thread; whoever uses what they made sees it whole or not."""


async def run_reloading(sources: Sequence[Reloadable]) -> None:
    """Ask each source again and again, until cancelled. A disk that hangs holds up this and nothing else."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for source in sources:
            try:
                await loop.run_in_executor(None, source.reload)
            except Exception as problem:  # noqa: BLE001 - the boundary: what was read before stays, and the loop goes on
                _log.error("bug", error=problem)
