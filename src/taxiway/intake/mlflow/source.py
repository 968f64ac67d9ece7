"""A model named by an MLflow URI, brought to this machine with all that is known of how it came to be."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from taxiway.core.errors import NotFound
from taxiway.intake.limits import DEFAULT_LIMITS, Limits
from taxiway.intake.mlflow.server import Mlflow, RegisteredVersion, Training, shown
from taxiway.intake.mlflow.uris import MlflowUri, run_uri, version_uri
from taxiway.intake.naming import model_name
from taxiway.intake.sources import Bring, Brought

KIND: Final = "mlflow"
"""What the origin of such a version has as its `kind`; also the target that mirrors it."""

MAX_KEPT: Final = 50
"""Metrics, and parameters, of a run that an origin keeps: the registry is not a tracking server."""

_MAX_VALUE: Final = 250

Connect = Callable[[], Mlflow]


@dataclass(frozen=True, slots=True)
class Found:
    """A model as it was found in MLflow.

    Attributes:
        source: a URI that always means these files.
        location: where they lie.
        name: what it is called there.
        registered: if it is a version of a registered model.
        aliases: those that pointed to it.
    """

    source: str
    location: str
    name: str
    training: Training
    model_id: str = ""
    registered: RegisteredVersion | None = None
    aliases: tuple[str, ...] = ()


def mlflow_schemes(connect: Connect, workplace: Path, limits: Limits = DEFAULT_LIMITS) -> dict[str, Bring]:
    """Who brings `models:` and `runs:`; `connect` is called once something is brought."""

    @contextmanager
    def bring(source: str) -> Iterator[Brought]:
        uri = MlflowUri.parse(source)
        mlflow = connect()
        found = find(mlflow, uri)
        workplace.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=workplace, prefix="mlflow-") as directory:
            path = mlflow.fetch(found.location, Path(directory), limits)
            run = found.training.run_id
            origin = origin_of(uri, found, mlflow.url)
            yield Brought(path, origin, model_name(found.name), trained_by=run_uri(run) if run else "")

    return {"models": bring, "runs": bring}


# --- looking it up -------------------------------------------------------------------------------------


def find(mlflow: Mlflow, uri: MlflowUri) -> Found:
    """Look up what a URI means now.

    Raises:
        NotFound: nothing.
    """
    if uri.name:
        return _registered(mlflow, uri)
    if uri.model_id:
        return _logged(mlflow, uri.model_id)
    name = uri.path.rstrip("/").rpartition("/")[2]
    return Found(uri.text, mlflow.run_artifact(uri.run_id, uri.path), name, mlflow.training(uri.run_id))


def _registered(mlflow: Mlflow, uri: MlflowUri) -> Found:
    aliases = mlflow.aliases(uri.name)
    number = uri.version or aliases.get(uri.alias, "")
    if not number:
        raise NotFound(
            f"model {uri.name!r} in MLflow has no alias {uri.alias!r}",
            hint=f"its aliases: {', '.join(sorted(aliases)) or 'none'}",
            uri=uri.text,
        )
    version = mlflow.version(uri.name, number)
    training = _training(mlflow, version.run_id, version.model_id)
    pointing = tuple(sorted(alias for alias, to in aliases.items() if to == number))
    location = mlflow.location(uri.name, number)
    if location.startswith("runs:/"):
        artifact = MlflowUri.parse(location)
        location = mlflow.run_artifact(artifact.run_id, artifact.path)
    return Found(version_uri(uri.name, number), location, uri.name, training, version.model_id, version, pointing)


def _logged(mlflow: Mlflow, model_id: str) -> Found:
    model = mlflow.logged_model(model_id)
    training = _training(mlflow, model.training.run_id, model_id)
    return Found(f"models:/{model_id}", model.location, model.name or model_id, training, model_id)


def _training(mlflow: Mlflow, run_id: str, model_id: str) -> Training:
    """What run and logged model recorded together; a run that was deleted since is still named."""
    logged = Training()
    try:
        logged = mlflow.logged_model(model_id).training if model_id else logged
        run_id = run_id or logged.run_id
        run = mlflow.training(run_id) if run_id else replace(logged, experiment="")
    except NotFound:
        run = Training(run_id)
    return replace(run, metrics={**logged.metrics, **run.metrics}, params={**logged.params, **run.params})


# --- remembering it ------------------------------------------------------------------------------------


def origin_of(uri: MlflowUri, found: Found, url: str) -> dict[str, Any]:
    """What a registered version remembers of where it came from."""
    registered = found.registered
    about: dict[str, Any] = {
        "source": found.source,
        "kind": KIND,
        "asked": uri.text,
        "mlflow": url,
        "location": shown(found.location),
        "run_id": found.training.run_id,
        "experiment": found.training.experiment,
        "model_id": found.model_id,
        "metrics": _kept(found.training.metrics),
        "params": _kept(found.training.params),
    }
    if registered is not None:
        about |= {"registered_model": registered.name, "model_version": registered.version}
        about |= {"created_ms": registered.created_ms, "aliases": list(found.aliases)}
    return {key: value for key, value in about.items() if value not in ("", {}, [])}


def _kept(values: Mapping[str, float] | Mapping[str, str]) -> dict[str, float | str]:
    """The first of them by name. JSON has no NaN."""
    return {key: _value(values[key]) for key in sorted(values)[:MAX_KEPT]}


def _value(value: float | str) -> float | str:
    if isinstance(value, str):
        return value[:_MAX_VALUE]
    return value if math.isfinite(value) else str(value)
