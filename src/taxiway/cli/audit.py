"""`taxiway audit log|verify`."""

from __future__ import annotations

import click

from taxiway.cli.desk import output_option, tell, with_registry
from taxiway.registry import Registry
from taxiway.registry.report import log_text


@click.group("audit")
def command() -> None:
    """The log of every change: appended, never edited, each entry's hash covering the one before it."""


@command.command("log")
@click.option("--after", type=click.IntRange(0), default=0, help="Entries after this number.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="At most so many.")
@output_option
@with_registry
def log_command(registry: Registry, _actor: str, after: int, limit: int, output: str) -> None:
    """Print the log, oldest first; JSON has each entry's whole payload."""
    entries = registry.audit_log(after=after, limit=limit)
    tell(output, entries, lambda: log_text(entries))


@command.command("verify")
@output_option
@with_registry
def verify_command(registry: Registry, _actor: str, output: str) -> None:
    """Prove that no entry was changed, added or taken out, and that the tables hold what the log tells.

    Whoever owns the database could write a whole new log: note the last hash, which is printed, elsewhere.
    """
    entries = registry.verify_audit()
    head = registry.info().head
    tell(output, {"entries": entries, "head": head}, lambda: [f"{entries} entries, unbroken; the last hash is {head}"])
