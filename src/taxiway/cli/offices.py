"""What imports work with, from the settings: for the verbs that take models in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from taxiway.cli.desk import Desk
from taxiway.intake.converting import CONVERTIBLE, OnnxConverter
from taxiway.intake.mlflow.server import Mlflow
from taxiway.intake.mlflow.source import Connect, mlflow_schemes
from taxiway.intake.walk import Converter, Office


def mlflow_of(desk: Desk) -> Connect:
    """The MLflow of the settings, connected to once it is asked for."""
    return functools.cache(lambda: Mlflow.connect(desk.mlflow.tracking_uri, desk.mlflow.registry_uri))


def office_of(desk: Desk, connect: Connect) -> Office:
    """Where models are taken in, and who brings those of MLflow."""
    workplace = desk.places.cache.parent / "imports"
    return Office(workplace, schemes=mlflow_schemes(connect, workplace), converters=converters_of())


def converters_of(samples: Path | None = None) -> Mapping[str, Converter]:
    """What makes ONNX of the models that can become it, proven on the rows of a file if one is given."""
    return dict.fromkeys(CONVERTIBLE, OnnxConverter(samples))
