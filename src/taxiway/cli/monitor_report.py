"""`taxiway monitor report MODEL -o FILE`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from taxiway.cli.control_client import ControlClient, with_control
from taxiway.core.errors import FailedPrecondition
from taxiway.monitor.page import conclusion, report_page


@click.command("report")
@click.argument("model")
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The page. [default: MODEL.html]",
)
@click.option("--version", type=click.IntRange(1), default=None, help="Which version. [default: the newest]")
@with_control
def command(client: ControlClient, model: str, file: Path | None, version: int | None) -> None:
    """Write what is known of a model in service as one page of HTML that opens offline.

    \b
      taxiway monitor report fraud -o fraud.html
      taxiway monitor report fraud --version 3 -o fraud-3.html
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    chosen = "" if version is None else f"?version={version}"
    report = client.get(f"/v1/monitor/drift/{quote(model, safe='')}{chosen}")
    path = file or Path(f"{quote(model, safe='')}.html")
    try:
        path.write_text(report_page(report), encoding="utf-8")
    except OSError as problem:
        raise FailedPrecondition(f"{path} cannot be written: {problem}", hint="name another file with -o") from None
    click.echo(f"{path}: {conclusion(report)}")
