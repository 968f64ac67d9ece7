"""The group of verbs. A verb's module is imported only when that verb runs: `taxiway --help` is quick."""

from __future__ import annotations

import importlib
import sys

import click

from taxiway import __version__
from taxiway.core.errors import EXIT_CODES, TaxiwayError
from taxiway.intake.read.plain import plain_lines

_VERBS = {
    "admin": ("taxiway.cli.admin", "Look after a server: back everything up, restore it, upgrade without a pause."),
    "alias": ("taxiway.cli.alias", "Move an alias of a model, delete it, see its history."),
    "audit": ("taxiway.cli.audit", "Read the log of every change, and prove that nobody changed it."),
    "config": ("taxiway.cli.config", "Show every setting, its value and where that came from."),
    "convert": ("taxiway.cli.convert", "Make ONNX of a framework's model, proven to answer alike."),
    "import": ("taxiway.cli.import_", "Take in a model: recognise, scan, verify and register it."),
    "keys": ("taxiway.cli.keys", "Make API keys."),
    "mlflow": ("taxiway.cli.mlflow", "Follow aliases in MLflow, and tell it what became of its models."),
    "models": ("taxiway.cli.models", "List the registered models, or the versions of one."),
    "monitor": ("taxiway.cli.monitor", "Watch models in service: drift, dashboards, alerts, captured requests."),
    "optimize": ("taxiway.cli.optimize", "Make a model faster and smaller without making it worse."),
    "profile": ("taxiway.cli.profile", "Measure a server or a version under load, and say what may be believed."),
    "record": ("taxiway.cli.record", "Write what a running server is asked to a workload."),
    "registry": ("taxiway.cli.registry", "Look after the registry: space, proof, copies."),
    "rollout": ("taxiway.cli.rollout", "Move traffic from one version to another by evidence, and back."),
    "serve": ("taxiway.cli.serve", "Serve models over HTTP and gRPC."),
    "serving-at": ("taxiway.cli.serving_at", "What each alias pointed to at a moment."),
    "show": ("taxiway.cli.show", "All about one version: files, signature, tags, variants."),
    "tag": ("taxiway.cli.tag", "Tag a model or one of its versions."),
    "why": ("taxiway.cli.why", "Why a version is here: where it came from, who moved it where."),
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
        command: click.Command = importlib.import_module(_VERBS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list for --help, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _VERBS[name][1]) for name in sorted(_VERBS)])


@click.group(cls=_LazyVerbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="taxiway")
def taxiway() -> None:
    """From a model file to a production endpoint that can be trusted, and kept there."""


def main() -> None:
    """Run; an error of ours is told in two lines and becomes the exit code of its kind."""
    try:
        taxiway()
    except TaxiwayError as error:
        click.echo(f"error: {plain_lines(error.message)}", err=True)
        if error.hint:
            click.echo(f"hint: {plain_lines(error.hint)}", err=True)
        sys.exit(EXIT_CODES[error.kind])


if __name__ == "__main__":
    main()
