"""What the verbs about the registry share: its options, an open registry, and two ways to print."""

from __future__ import annotations

import functools
import getpass
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from taxiway.cli.options import load_from, section_options
from taxiway.config.places import MlflowPlaces, RegistryPlaces, journal_url, mlflow_places, registry_places
from taxiway.intake.read.plain import plain_json, plain_lines
from taxiway.registry import Registry
from taxiway.registry.plain import to_plain

_SECTIONS = ("registry.", "mlflow.")
_PREFIXES = ("registry__", "mlflow__", "control__")

why_option = click.option("--why", required=True, help="The reason, for those who come later.")


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the registry and the journal of rollouts lie, who asks, and which MLflow they have to do with."""

    places: RegistryPlaces
    actor: str
    mlflow: MlflowPlaces
    journal: str

    def open(self) -> Registry:
        """The registry."""
        return Registry.open(self.places.url, self.places.blobs)


def at_desk(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the registry's options to a verb; it is given a Desk first."""
    return section_options(_SECTIONS[0])(_with_desk(function))


def at_mlflow_desk(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `at_desk`, with MLflow's options."""
    return section_options(*_SECTIONS)(_with_desk(function))


def at_stores_desk(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `at_desk`, with the option that says where the journal is."""
    return section_options(_SECTIONS[0], "control.journal")(_with_desk(function))


def _with_desk(function: Callable[..., Any]) -> Callable[..., Any]:

    @functools.wraps(function)
    def run(config_file: Path | None, **values: Any) -> Any:  # noqa: ANN401 - click's values
        flags = {name: value for name, value in values.items() if name.startswith(_PREFIXES)}
        settings = load_from(config_file, flags).settings
        desk = Desk(
            registry_places(settings.registry, os.environ),
            settings.registry.actor or getpass.getuser(),
            mlflow_places(settings.mlflow, os.environ),
            journal_url(settings, os.environ),
        )
        return function(desk, **{name: value for name, value in values.items() if name not in flags})

    return run


def with_registry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the registry's options to a verb; it is given the open registry and who asks."""

    @functools.wraps(function)
    def run(desk: Desk, **values: Any) -> Any:  # noqa: ANN401 - click's values
        with desk.open() as registry:
            return function(registry, desk.actor, **values)

    return at_desk(run)


output_option = click.option(
    "--output", type=click.Choice(("text", "json")), default="text", help="How to print. [default: text]"
)


def tell(output: str, value: object, lines: Callable[[], Sequence[str]]) -> None:
    """Print `value` as JSON for a script, or `lines` for a person."""
    if output == "json":
        click.echo(plain_json(json.dumps(to_plain(value), indent=2, ensure_ascii=False)))
    else:
        click.echo(plain_lines("\n".join(lines())))
