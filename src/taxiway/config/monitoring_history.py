"""The section `monitoring.history`: what the console draws of the past."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taxiway.config.sections import Bytes, Count, Section


class HistorySettings(Section):
    """Seconds for ten minutes, tens of seconds for six hours, five minutes for days."""

    enabled: bool = True
    """Whether the control process looks at the metrics once a second, and keeps what it saw; without it the console
    shows no charts."""

    days: Annotated[int, Field(ge=1, le=400)] = 30
    """How long five minutes are kept."""

    max_bytes: Bytes = 256 << 20
    """About what the file may take on the disk; of more, the oldest is forgotten earlier."""

    max_series: Count = 1000
    """Versions, GPUs, rollouts that are kept apart; what comes beyond that is not kept, and counted."""
