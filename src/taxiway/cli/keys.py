"""`taxiway keys new`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from taxiway.config.keys import SCOPES, KeyEntry, Scope, hash_key, new_key
from taxiway.config.keys_edit import add_entry, make_entry, write_entry
from taxiway.core.clock import SystemClock


@click.group("keys")
def command() -> None:
    """API keys: make one for the file that `auth.keys_file` names."""


@command.command("new")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="May be repeated.")
@click.option("--model", "models", multiple=True, metavar="GLOB", help="Only these models; may be repeated.")
@click.option("--expires", "days", type=click.IntRange(1, 36500), metavar="DAYS", help="Refused after so many days.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append the entry to this keys file (made if it is not there) instead of printing it.",
)
def new_command(
    name: str, scopes: tuple[Scope, ...], models: tuple[str, ...], days: int | None, file: Path | None
) -> None:
    """Make a key for NAME. It is printed once, here, and stored nowhere: the entry holds its hash.

    \b
      taxiway keys new ci --scope infer --model 'resnet*' --expires 90
      taxiway keys new prometheus --scope metrics --file keys.yaml
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    key = new_key()
    expires = None if days is None else SystemClock().now_utc().replace(microsecond=0) + dt.timedelta(days=days)
    entry: KeyEntry = make_entry(name, hash_key(key), scopes, models or ("*",), expires)
    if file is not None:
        add_entry(file, entry)
    click.echo(key)
    if file is None:
        click.echo(
            f"\n# its entry, under `keys:` in the file that auth.keys_file names\n{write_entry(entry)}", nl=False
        )
