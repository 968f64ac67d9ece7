"""`taxiway serving-at TIME`."""

from __future__ import annotations

import datetime as dt

import click

from taxiway.cli.desk import output_option, tell, with_registry
from taxiway.core.clock import SystemClock
from taxiway.core.errors import InvalidArgument
from taxiway.registry import Registry
from taxiway.registry.report import served_text


@click.command("serving-at")
@click.argument("when", metavar="TIME")
@click.option("--model", default="", help="Only this one.")
@output_option
@with_registry
def command(registry: Registry, _actor: str, when: str, model: str, output: str) -> None:
    """What each alias pointed to at TIME: ISO 8601 with its zone, or now.

    \b
      taxiway serving-at 2026-01-31T12:00:00Z
      taxiway serving-at 2026-01-31T12:00:00+01:00 --model fraud
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    served = registry.serving_at(_moment(when), name=model or None)
    tell(output, served, lambda: served_text(served))


def _moment(text: str) -> dt.datetime:
    if text == "now":
        return SystemClock().now_utc()
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            f"{text!r} is no time", hint="write it as 2026-01-31T12:00:00Z, or now", value=text
        ) from None
