"""Where traces go, by mode."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from taxiway.config.settings import TraceSettings
from taxiway.core.clock import Clock
from taxiway.server.tracing.export import SpanExport
from taxiway.server.tracing.files import TraceFiles
from taxiway.server.tracing.plan import Mode
from taxiway.server.tracing.trace import Sink


def trace_sinks(settings: TraceSettings, workers: int, clock: Clock) -> Mapping[Mode, Callable[[], Sink]]:
    """Makers of what writes the traces of a mode; nothing is opened before it is needed.

    With several processes each writes files of its own, whose names end in its process id.
    """
    path = Path(f"{settings.file}.{os.getpid()}" if workers > 1 else settings.file)
    return {"triton": lambda: TraceFiles(path), "opentelemetry": lambda: SpanExport(settings.endpoint, clock)}
