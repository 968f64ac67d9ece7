"""`taxiway models`."""

from __future__ import annotations

import click

from taxiway.cli.desk import output_option, tell, with_registry
from taxiway.registry import Registry
from taxiway.registry.report import models_text, versions_text


@click.command("models")
@click.argument("name", default="")
@click.option("--prefix", default="", help="Only models whose name begins so.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
@click.option("--after", default="", help="Those after this name; with NAME, those below this version.")
@output_option
@with_registry
def command(registry: Registry, _actor: str, name: str, prefix: str, limit: int, after: str, output: str) -> None:
    """List the registered models; with NAME, the versions of that one, newest first."""
    if not name:
        models = registry.models(prefix=prefix, limit=limit, after=after)
        tell(output, models, lambda: models_text(models))
        return
    versions = registry.versions(name, limit=limit, after=_number(after))
    tell(output, versions, lambda: versions_text(versions, registry.aliases(name)))


def _number(after: str) -> int | None:
    if not after:
        return None
    if not after.isdecimal():
        raise click.BadParameter(f"{after!r} is not the number of a version", param_hint="--after")
    return int(after)
