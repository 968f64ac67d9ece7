"""`taxiway monitor ...`: the group; each of its verbs is a module that is imported only when it runs."""

from __future__ import annotations

import importlib

import click

_VERBS: dict[str, tuple[str, str]] = {
    "check-dashboard": ("taxiway.cli.monitor_check", "List the dead queries of any dashboard of Grafana."),
    "drift": ("taxiway.cli.monitor_drift", "What is known of drift: of all models, or of one."),
    "export": ("taxiway.cli.monitor_export", "Write what Prometheus, Alertmanager and Grafana are set up with."),
    "query": ("taxiway.cli.monitor_query", "Ask captured requests something, in SQL."),
    "reference": ("taxiway.cli.monitor_reference", "Hold a model against training data, or have it learn anew."),
    "report": ("taxiway.cli.monitor_report", "Write what is known of a model as one page of HTML."),
}


class _LazyVerbs(click.Group):
    """Lists verbs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of the verbs."""
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the verb that was asked for."""
        if cmd_name not in _VERBS:
            return None
        verb: click.Command = importlib.import_module(_VERBS[cmd_name][0]).command
        return verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list for --help, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _VERBS[name][1]) for name in sorted(_VERBS)])


@click.group("monitor", cls=_LazyVerbs)
def command() -> None:
    """Watch models in service: drift, dashboards, alerts, captured requests."""
