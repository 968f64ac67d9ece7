"""`taxiway why REF`."""

from __future__ import annotations

import click

from taxiway.cli.desk import output_option, tell, with_registry
from taxiway.registry import Registry
from taxiway.registry.report import why_text


@click.command("why")
@click.argument("ref")
@output_option
@with_registry
def command(registry: Registry, _actor: str, ref: str, output: str) -> None:
    """Why the version that REF means is here: its lineage, its aliases' moves, and the log about it."""
    told = registry.why(ref)
    tell(output, told, lambda: why_text(told))
