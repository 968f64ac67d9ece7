"""Files that a command writes at its end."""

from __future__ import annotations

import os
from pathlib import Path

import click


def writable_file(value: str) -> Path:
    """A file that can be written, which is better known before the work than after it.

    Raises:
        click.BadParameter: it cannot.
    """
    path = Path(value)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"{value!r} cannot be written: its folder is not there, or not ours")
    return path
