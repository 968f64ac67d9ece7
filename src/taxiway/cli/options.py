"""Every setting as an option: `batching.max_delay_ms` is `--batching.max-delay-ms`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from taxiway.config.loader import FlagSpec, Loaded, flag_table, load

_NOT_FLAGS = ("models.paths",)
"""Settings that have a better place on the command line."""


def read_output(value: str) -> Path:
    """A file that can be written, which is better known before the work than after it: the type of an option."""
    path = Path(value)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"{value!r} cannot be written: its folder is not there, or not ours")
    return path


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config FILE` and one option per setting to a verb."""
    return section_options("")(function)


def section_options(*sections: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `settings_options`, with only the settings whose path begins with one of `sections`."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for spec in reversed(flag_table()):
            if spec.path.startswith(sections) and spec.path not in _NOT_FLAGS:
                function = _option(spec)(function)
        return _config_option(function)

    return add


def _config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    config = click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="TAXIWAY_CONFIG",
        help="Settings in YAML (also TAXIWAY_CONFIG).",
    )
    return config(function)


def load_from(config_file: Path | None, flags: dict[str, Any], paths: tuple[Path, ...] = ()) -> Loaded:
    """The settings: defaults < file < environment < flags.

    Raises:
        InvalidConfig: every problem of every source.
    """
    given = {_path_of(name): value for name, value in flags.items() if value not in (None, ())}
    if paths:
        given["models.paths"] = list(paths)
    return load(config_file, os.environ, given)


def _option(spec: FlagSpec) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if spec.type == "bool":
        declaration = f"{spec.flag}/--no-{spec.flag[2:]}"
        return click.option(declaration, _name_of(spec.path), default=None, help=_help(spec))
    return click.option(
        spec.flag,
        _name_of(spec.path),
        default=None,
        multiple=spec.type == "list",
        metavar="|".join(spec.choices) or spec.type.upper(),
        help=_help(spec),
    )


def _help(spec: FlagSpec) -> str:
    return f"{spec.help} [default: {spec.default}]"


def _name_of(path: str) -> str:
    return path.replace(".", "__")


def _path_of(name: str) -> str:
    return name.replace("__", ".")
