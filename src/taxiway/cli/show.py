"""`taxiway show REF`."""

from __future__ import annotations

import click

from taxiway.cli.desk import output_option, tell, with_registry
from taxiway.registry import Registry
from taxiway.registry.plain import to_plain
from taxiway.registry.report import version_text


@click.command("show")
@click.argument("ref")
@output_option
@with_registry
def command(registry: Registry, _actor: str, ref: str, output: str) -> None:
    """All about the version that REF means: fraud, fraud:3, fraud:3-int8 or fraud@stable."""
    version = registry.resolve(ref)
    variants = [] if version.variant else registry.variants(version.name, version.number)
    aliases = [alias for alias, to in registry.aliases(version.name).items() if to == version.number]
    whole = to_plain(version) | {"aliases": aliases, "variants": to_plain(variants)}
    tell(output, whole, lambda: version_text(version, aliases, variants))
