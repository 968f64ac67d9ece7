"""`taxiway config explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from taxiway.cli.options import load_from, settings_options
from taxiway.config.loader import explain


@click.group("config")
def command() -> None:
    """Show every setting, its value and where that came from."""


@command.command("explain")
@click.argument("prefix", default="")
@settings_options
def explain_command(prefix: str, config_file: Path | None, **flags: Any) -> None:  # noqa: ANN401 - click's values
    """Print each setting (those that begin with PREFIX): value, source, meaning."""
    for line in explain(load_from(config_file, flags), prefix):
        click.echo(f"{line.path} = {line.value!r}    ({line.where})")
        click.echo(f"    {line.help}")
