"""What imports work with, from the settings: for the verbs that take models in."""

from __future__ import annotations

import functools

from taxiway.cli.desk import Desk
from taxiway.intake.mlflow.server import Mlflow
from taxiway.intake.mlflow.source import Connect, mlflow_schemes
from taxiway.intake.walk import Office


def mlflow_of(desk: Desk) -> Connect:
    """The MLflow of the settings, connected to once it is asked for."""
    return functools.cache(lambda: Mlflow.connect(desk.mlflow.tracking_uri, desk.mlflow.registry_uri))


def office_of(desk: Desk, connect: Connect) -> Office:
    """Where models are taken in, and who brings those of MLflow."""
    workplace = desk.places.cache.parent / "imports"
    return Office(workplace, schemes=mlflow_schemes(connect, workplace))
