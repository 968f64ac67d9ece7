"""`taxiway monitor export prometheus|grafana DIR`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from taxiway.cli.options import load_from
from taxiway.core.errors import FailedPrecondition
from taxiway.monitor.dashboards.boards import BOARDS
from taxiway.monitor.dashboards.grafana import dashboard_text, provider_text
from taxiway.monitor.slos.files import alertmanager_text, prometheus_text, rules_text

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TAXIWAY_CONFIG",
    help="Settings in YAML (also TAXIWAY_CONFIG).",
)
folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


@click.group("export")
def command() -> None:
    """Write what Prometheus, Alertmanager and Grafana are set up with.

    \b
      taxiway monitor export prometheus monitoring/ --config taxiway.yaml
      taxiway monitor export grafana monitoring/grafana
    """  # noqa: D301 - \b is click's mark for lines to be left alone


@command.command("prometheus")
@folder_argument
@click.option("--target", default="", metavar="HOST:PORT", help="Of the metrics. [default: as the settings say]")
@config_option
def prometheus_command(folder: Path, target: str, config_file: Path | None) -> None:
    """Rules and alerts of the manifest's objectives, and a Prometheus and an Alertmanager that follow them."""
    settings = load_from(config_file, {}).settings
    metrics = target or f"{settings.metrics.host}:{settings.metrics.port}"
    files = {
        "taxiway.rules.yml": rules_text(settings.monitoring),
        "prometheus.yml": prometheus_text(metrics),
        "alertmanager.yml": alertmanager_text(),
    }
    _write(folder, files)
    if not settings.monitoring.slos:
        click.echo("monitoring.slos promises nothing: there are no alerts on error budgets", err=True)


@command.command("grafana")
@folder_argument
def grafana_command(folder: Path) -> None:
    """Dashboards, and the file that has Grafana read them: link or copy DIR/provisioning into its own.

    What they show comes from the data source that is chosen at their top.
    """
    boards = {f"dashboards/{board.uid}.json": dashboard_text(board) for board in BOARDS}
    provider = provider_text(str((folder / "dashboards").resolve()))
    _write(folder, {**boards, "provisioning/dashboards/taxiway.yml": provider})


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as problem:
            raise FailedPrecondition(f"{path} cannot be written: {problem}", hint="name another directory") from None
        click.echo(str(path))
