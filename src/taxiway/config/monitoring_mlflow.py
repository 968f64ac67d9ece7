"""The section `monitoring.mlflow`: what is known of models in service, told to MLflow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taxiway.config.sections import Count, Section


class MlflowExportSettings(Section):
    """Drift and quality as runs of MLflow, one for each version, in the MLflow of mlflow.tracking_uri."""

    enabled: bool = False
    """Whether they are told."""

    experiment: Annotated[str, Field(min_length=1, max_length=250)] = "taxiway"
    """The experiment that the runs belong to; made if there is none."""

    every_s: Annotated[float, Field(ge=1, le=86400)] = 60.0
    """How often."""

    max_waiting: Count = 1000
    """What waits while MLflow does not answer; of more, the oldest is dropped and counted."""
