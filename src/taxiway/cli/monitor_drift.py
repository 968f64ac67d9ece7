"""`taxiway monitor drift [MODEL]`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from taxiway.cli.control_client import ControlClient, with_control
from taxiway.cli.desk import output_option, tell
from taxiway.core.errors import VerdictFailed
from taxiway.monitor.drift.words import report_lines, summary_lines


@click.command("drift")
@click.argument("model", required=False)
@click.option("--version", type=click.IntRange(1), default=None, help="Which version. [default: the newest]")
@click.option("--check", is_flag=True, help="Exit with 6 if drift was found, for scripts.")
@output_option
@with_control
def command(client: ControlClient, model: str | None, version: int | None, output: str, *, check: bool) -> None:
    """What is known of drift: of all models, or of one, feature by feature.

    \b
      taxiway monitor drift
      taxiway monitor drift fraud --version 3

    Evidence is told as a power of ten; it is an alarm at its threshold, whenever one looks. Sizes (PSI and the others)
    say how large a change is, and not whether it is one.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    if model is None:
        told: dict[str, Any] = client.get("/v1/monitor/drift")
        found = told["watches"]
        tell(output, told, lambda: summary_lines(found))
    else:
        chosen = "" if version is None else f"?version={version}"
        told = client.get(f"/v1/monitor/drift/{quote(model, safe='')}{chosen}")
        found = [told]
        tell(output, told, lambda: report_lines(told))
    drifted = [f"{one['model']}:{one['version']}" for one in found if one["alarm"] or one["block_alarm"]]
    if check and drifted:
        raise VerdictFailed(f"drift was found: {', '.join(drifted)}", hint="`taxiway monitor drift MODEL` tells more")
