"""The section `monitoring`: what is watched of models in service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taxiway.config.monitoring_capture import CaptureSettings
from taxiway.config.monitoring_drift import DriftSettings
from taxiway.config.monitoring_gpu import GpuSettings
from taxiway.config.monitoring_history import HistorySettings
from taxiway.config.monitoring_mlflow import MlflowExportSettings
from taxiway.config.monitoring_slos import ModelSlos
from taxiway.config.sections import Bytes, FileName, Section


class SamplingSettings(Section):
    """Rows that the data plane copies for whoever watches."""

    enabled: bool = True
    """Whether any are, where somebody watches: drift, capture."""

    rows_per_s: Annotated[float, Field(gt=0, le=1e6)] = 200.0
    """About how many of each version in each process; of more traffic a share is sampled, by chance."""

    max_bytes: Bytes = 8 << 20
    """What is kept until it is fetched, in all processes together; what there is no room for is dropped and counted."""


class MonitoringSettings(Section):
    """The whole of it."""

    directory: FileName = ""
    """Where what is known of models in service is kept; empty: `taxiway/monitoring` in XDG_DATA_HOME, which is
    ~/.local/share if it is not set."""

    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    """Rows that the data plane copies for whoever watches."""

    drift: DriftSettings = Field(default_factory=DriftSettings)
    """When rows differ from a reference, and when today is unlike any day before."""

    capture: CaptureSettings = Field(default_factory=CaptureSettings)
    """Sampled requests and their answers, kept as Parquet for `taxiway monitor query`."""

    mlflow: MlflowExportSettings = Field(default_factory=MlflowExportSettings)
    """Drift and quality as runs of MLflow, in the MLflow of mlflow.tracking_uri."""

    gpu: GpuSettings = Field(default_factory=GpuSettings)
    """GPUs, read through the driver's own library."""

    slos: dict[str, ModelSlos] = Field(default_factory=dict)
    """What was promised of models, by name; `"*"` of all others: `{"fraud": {"availability_percent": 99.9, "latency":
    [{"percent": 99, "under_ms": 100}]}}`. `taxiway monitor export prometheus DIR` makes alerts of it."""

    runbooks: Annotated[str, Field(max_length=2048)] = "https://github.com/taxiway/taxiway/blob/main/docs/runbooks.md"
    """Address of the page that alerts link to; each has an anchor there."""

    history: HistorySettings = Field(default_factory=HistorySettings)
    """What the console draws of the past."""
