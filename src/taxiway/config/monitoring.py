"""The section `monitoring`: what is watched of models in service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taxiway.config.sections import Bytes, Section


class SamplingSettings(Section):
    """Rows that the data plane copies for whoever watches."""

    enabled: bool = True
    """Whether any are, where somebody watches: drift, capture."""

    rows_per_s: Annotated[float, Field(gt=0, le=1e6)] = 200.0
    """Of each version in each process; of more traffic a share is sampled, by chance."""

    max_bytes: Bytes = 16 << 20
    """What each process keeps until it is fetched; what there is no room for is dropped and counted."""


class MonitoringSettings(Section):
    """The whole of it."""

    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    """Rows that the data plane copies for whoever watches."""
