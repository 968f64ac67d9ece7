"""The metrics port of a whole server. Imported once a worker is on its way: the two start at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.deploy.local.scraping import Scraper
from taxiway.server.reloading import run_reloading
from taxiway.server.wire.metrics import MetricsPort
from taxiway.server.wire.reception import Reception


@asynccontextmanager
async def serving_metrics(settings: Settings, scraper: Scraper) -> AsyncIterator[str | None]:
    """Serve the metrics port while the block runs; gives its address, None if it is off.

    Raises:
        FailedPrecondition: the port cannot be had.
        InvalidConfig: the keys file, or a file of TLS, cannot be read or breaks a rule.
    """
    if not settings.metrics.enabled:
        yield None
        return
    reception = Reception.of(settings, SystemClock())
    scraper.include(reception.points)
    port = MetricsPort(settings, reception, scraper.scrape)
    reloading = asyncio.create_task(run_reloading(reception.reloadable()))
    try:
        yield await port.open()
    finally:
        reloading.cancel()
        await port.close()
