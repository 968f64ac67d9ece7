"""`taxiway monitor query SQL`."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from taxiway.cli.options import load_from
from taxiway.config.places import capture_place, monitoring_place
from taxiway.intake.read.plain import plain_json, plain_lines
from taxiway.monitor.capture.query import Answer, Limits, ask

_WIDEST: Final = 40
"""Characters of a cell in a table."""


@click.command("query")
@click.argument("sql")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Of captured requests. [default: as the settings say]",
)
@click.option(
    "--format", "form", type=click.Choice(("table", "json", "csv")), default="table", help="How to print. [table]"
)
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, help="Rows that are printed. [1000]")
@click.option("--timeout", type=click.FloatRange(0, 86400, min_open=True), default=60.0, help="Seconds. [60]")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TAXIWAY_CONFIG",
    help="Settings in YAML (also TAXIWAY_CONFIG).",
)
def command(sql: str, directory: Path | None, form: str, limit: int, timeout: float, config_file: Path | None) -> None:
    """Ask captured requests something, in DuckDB's SQL.

    \b
      taxiway monitor query "select model, version, count(*) from requests group by all"
      taxiway monitor query "select * from fraud order by answered_at desc limit 10" --format json

    `requests` is of all models; each model has a view of its own name beside it. Nothing is ever written.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    settings = load_from(config_file, {}).settings.monitoring
    place = capture_place(settings.capture.directory, monitoring_place(settings.directory, os.environ))
    limits = Limits(limit, settings.capture.query_memory_bytes, timeout, settings.capture.query_files)
    answer = ask(directory or place, sql, limits)
    click.echo(_FORMS[form](answer))
    if answer.is_cut:
        click.echo(f"there are more rows than these {limit}: give --limit", err=True)
    if answer.files_left_out:
        click.echo(f"{answer.files_left_out} older files were not read (monitoring.capture.query_files)", err=True)


def _as_table(answer: Answer) -> str:
    rows = [[_cell(value) for value in row] for row in answer.rows]
    widths = [max(len(line[at]) for line in [answer.columns, *rows]) for at in range(len(answer.columns))]
    return plain_lines("\n".join(_table_lines(answer.columns, rows, widths)))


def _table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for line in (columns, ["-" * width for width in widths], *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cell(value: object) -> str:
    plain = _plain(value)
    text = "" if plain is None else plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    text = text.replace("\n", "\\n")
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _as_json(answer: Answer) -> str:
    told = [dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows]
    return plain_json(json.dumps(told, indent=2, ensure_ascii=False))


def _as_csv(answer: Answer) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in answer.rows:
        cells = [_plain(value) for value in row]
        writer.writerow([json.dumps(cell) if isinstance(cell, bool | list | dict) else cell for cell in cells])
    return file.getvalue().removesuffix("\n")


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """As JSON has it; what it has no number for is told as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return value.isoformat() if isinstance(value, dt.date) else str(value)


_FORMS: Final = {"table": _as_table, "json": _as_json, "csv": _as_csv}
