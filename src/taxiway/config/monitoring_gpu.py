"""The section `monitoring.gpu`: how GPUs are read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from taxiway.config.sections import Section


class GpuSettings(Section):
    """GPUs, read through the driver's own library."""

    enabled: Literal["auto", "on", "off"] = "auto"
    """auto: if there is a driver when the server starts. on: it is waited for, and missed."""

    interval_s: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """From one reading to the next."""

    dcgm: bool = True
    """Whether series are told under the names of DCGM exporter too; false where one is scraped beside us."""
