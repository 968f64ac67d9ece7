"""The metrics port of a whole server. Imported once a worker is on its way: the two start at the same time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.deploy.local.scraping import Scraper
from taxiway.server.reloading import run_reloading
from taxiway.server.wire.metrics import MetricsPort
from taxiway.server.wire.reception import Reception


@asynccontextmanager
async def serving_metrics(
    settings: Settings, scraper: Scraper, sockets: Sequence[socket.socket]
) -> AsyncIterator[None]:
    """Serve the metrics port on these bound sockets while the block runs; none: it is off.

    Raises:
        FailedPrecondition: somebody else has begun to listen there.
        InvalidConfig: the keys file, or a file of TLS, cannot be read or breaks a rule.
    """
    if not sockets:
        yield
        return
    reception = Reception.of(settings, SystemClock())
    scraper.include(reception.points)
    port = MetricsPort(settings, reception, scraper.scrape)
    reloading = asyncio.create_task(run_reloading(reception.reloadable()))
    try:
        await port.open(sockets)
        yield
    finally:
        reloading.cancel()
        await port.close()
