"""`taxiway admin backup|restore|verify|upgrade`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from taxiway.cli import upgrade
from taxiway.cli.desk import Desk, at_stores_desk, output_option, tell
from taxiway.cli.progress import Progress
from taxiway.control import backup as everything

file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group("admin")
def command() -> None:
    """Look after a server: everything that it keeps in one file, and the server itself replaced without a pause.

    \b
      taxiway admin backup monday.tar
      taxiway admin verify monday.tar
      taxiway admin restore monday.tar
      taxiway admin upgrade
    """  # noqa: D301 - \b is click's mark for lines to be left alone


command.add_command(upgrade.command)


@command.command("backup")
@file_argument
@output_option
@at_stores_desk
def backup_command(desk: Desk, file: Path, output: str) -> None:
    """Write everything to FILE: a tar if its name ends in .tar, else a directory. Servers may run meanwhile."""
    _told(file, output, lambda progress: everything.back_up(file, _places(desk), progress.tell))


@command.command("restore")
@file_argument
@click.option("--replace", is_flag=True, help="Give up what is there.")
@output_option
@at_stores_desk
def restore_command(desk: Desk, file: Path, output: str, *, replace: bool) -> None:
    """Have everything be as it was when FILE was written; all of FILE is proven before anything is changed.

    Servers must be stopped. From SQLite to PostgreSQL too, and back.
    """

    def work(progress: Progress) -> Any:  # noqa: ANN401 - what is in it
        return everything.restore(file, _places(desk), desk.actor, replace=replace, tell=progress.tell)

    _told(file, output, work)


@command.command("verify")
@file_argument
@output_option
def verify_command(file: Path, output: str) -> None:
    """Prove FILE as a restore does, every digest and both chains, and change nothing."""
    _told(file, output, lambda progress: everything.verify(file, progress.tell))


def _places(desk: Desk) -> everything.Places:
    return everything.Places(desk.places.url, desk.places.blobs, desk.journal)


def _told(file: Path, output: str, work: Callable[[Progress], Any]) -> None:
    with Progress(sys.stderr) as progress:
        said = work(progress)
    tell(output, said, lambda: everything.backup_text(file, said))
