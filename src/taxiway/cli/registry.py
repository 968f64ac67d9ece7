"""`taxiway registry gc|verify|export|info`."""

from __future__ import annotations

from pathlib import Path

import click

from taxiway.cli.desk import output_option, tell, with_registry
from taxiway.core.errors import DataLoss
from taxiway.registry import Registry
from taxiway.registry.garbage import GRACE_S
from taxiway.registry.report import garbage_text, info_text, size_words

_path = click.Path(path_type=Path)


@click.group("registry")
def command() -> None:
    """Look after the registry: space, proof, copies."""


@command.command("info")
@output_option
@with_registry
def info_command(registry: Registry, _actor: str, output: str) -> None:
    """Where it lies and how large it is."""
    info = registry.info()
    tell(output, info, lambda: info_text(info))


@command.command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option(
    "--grace-s", type=click.FloatRange(0), default=GRACE_S, show_default=True, help="Spare what was put since."
)
@output_option
@with_registry
def gc_command(registry: Registry, actor: str, *, dry_run: bool, grace_s: float, output: str) -> None:
    """Delete the files that no version uses. It may run while others import."""
    garbage = registry.collect_garbage(actor=actor, dry_run=dry_run, grace_s=grace_s)
    tell(output, garbage, lambda: garbage_text(garbage, dry_run=dry_run))


@command.command("verify")
@output_option
@with_registry
def verify_command(registry: Registry, _actor: str, output: str) -> None:
    """Prove the audit log, and read every file that is kept: exit code 1 if one is gone or damaged."""
    entries = registry.verify_audit()
    report = registry.verify_blobs()
    good = f"{entries} audit entries and {report.blobs} blobs ({size_words(report.size)}) are as they were written"
    damaged = [f"{damage.problem}; needed by {', '.join(damage.used_by) or 'nobody'}" for damage in report.damaged]
    tell(output, {"entries": entries, "blobs": report}, lambda: damaged or [good])
    if damaged:
        raise DataLoss(
            f"{len(damaged)} of {report.blobs} blobs are damaged", hint="import those models again, or restore a backup"
        )


@command.command("export")
@click.argument("ref")
@click.argument("directory", type=_path)
@with_registry
def export_command(registry: Registry, _actor: str, ref: str, directory: Path) -> None:
    """Lay REF out as a Triton model repository in DIRECTORY, verified while it is copied."""
    click.echo(str(registry.materialise([ref], directory)))
