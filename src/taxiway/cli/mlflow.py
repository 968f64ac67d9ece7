"""`taxiway mlflow follow|sync|mirror|status`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import click

from taxiway.cli.desk import Desk, at_mlflow_desk, output_option, tell, why_option
from taxiway.cli.import_ import public_key_option, require_signature_option, trust_option
from taxiway.cli.offices import mlflow_of, office_of
from taxiway.core.errors import EXIT_CODES, ErrorKind, TaxiwayError
from taxiway.intake.mlflow.following import Follower, Look, Wish
from taxiway.intake.mlflow.looping import run_every, stopped_by_signals
from taxiway.intake.mlflow.mirror import TARGET, Deliverer, Told
from taxiway.intake.mlflow.report import letter_text, look_text, status_text, told_text
from taxiway.intake.mlflow.uris import MlflowUri
from taxiway.registry import Registry

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}
_LEAST_S = 0.1


@click.group("mlflow")
def command() -> None:
    """An MLflow registry as a source that is followed, and as a mirror of what becomes of its models here."""


def _duration(_context: click.Context, _option: click.Parameter, value: str) -> float:
    """`5s`, `2m`."""
    match = _DURATION.fullmatch(value)
    seconds = float(match["number"]) * _UNITS[match["unit"]] if match else 0.0
    if seconds < _LEAST_S:
        raise click.BadParameter(f"{value!r} is no duration of at least {_LEAST_S:g} s, as 5s or 2m")
    return seconds


def _how_often(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--once` and `--every` to a verb."""
    every = click.option(
        "--every", "every_s", default="5s", callback=_duration, metavar="DURATION", help="How often. [default: 5s]"
    )
    return click.option("--once", is_flag=True, help="Look once, and end.")(every(function))


def _run(step: Callable[[], None], every_s: float, *, once: bool) -> None:
    """Once, where an error ends the verb; or until a signal, where it is told."""
    if once:
        step()
        return
    with stopped_by_signals() as stop:
        run_every(step, every_s, stop, _tell_error)


def _tell_error(error: TaxiwayError) -> None:
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


class _Teller:
    """Prints what is new; what is as it was a look ago is not told again."""

    def __init__(self) -> None:
        self.kept_out = False
        self._looks: dict[tuple[str, str], Look] = {}

    def look(self, look: Look) -> None:
        """One look at an alias."""
        key = (look.source, look.alias)
        if self._looks.get(key) != look and (look.outcome != "rested" or look.problem or key not in self._looks):
            click.echo(look_text(look))
        self._looks[key] = look
        self.kept_out |= look.outcome in ("refused", "conflict")

    def told(self, told: Told) -> None:
        """One letter."""
        click.echo(told_text(told))
        self.kept_out |= bool(told.problem)

    def end(self) -> None:
        """The exit code of a single pass that somebody must look at."""
        if self.kept_out:
            click.get_current_context().exit(EXIT_CODES[ErrorKind.FAILED_PRECONDITION])


# --- follow and sync -----------------------------------------------------------------------------------


@command.command("follow")
@click.argument("sources", nargs=-1, required=True, metavar="models:/NAME@ALIAS...")
@click.option("--to", "alias", default="candidate", show_default=True, help="The alias of ours that follows.")
@click.option("--name", default="", help="What the model is called here; else as in MLflow.")
@trust_option
@require_signature_option
@public_key_option
@_how_often
@why_option
@at_mlflow_desk
def follow_command(desk: Desk, sources: tuple[str, ...], every_s: float, *, once: bool, **said: Any) -> None:  # noqa: ANN401
    """Take in what an alias in MLflow points to, and move ours after it, as long as nobody else moves ours.

    \b
      taxiway mlflow follow models:/fraud@champion --to candidate --why "what training calls best"
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    if said["name"] and len(sources) > 1:
        raise click.UsageError("--name is for a single source.")
    said["trust"] = frozenset(said["trust"])
    wishes = [Wish(MlflowUri.parse(source), actor=desk.actor, **said) for source in sources]
    connect, teller = mlflow_of(desk), _Teller()
    with desk.open() as registry:
        follower = Follower(connect, registry, office_of(desk, connect), teller.look)
        deliverer = Deliverer(connect, registry, desk.actor, teller.told)

        def step() -> None:
            try:
                follower.reconcile_followed(wishes)
            finally:
                deliverer.reconcile_mirror()

        _run(step, every_s, once=once)
    if once:
        teller.end()


@command.command("sync")
@_how_often
@at_mlflow_desk
def sync_command(desk: Desk, every_s: float, *, once: bool) -> None:
    """Tell MLflow what changed here of the models that are mirrored: aliases of the same name, and tags."""
    teller = _Teller()
    with desk.open() as registry:
        deliverer = Deliverer(mlflow_of(desk), registry, desk.actor, teller.told)
        _run(deliverer.reconcile_mirror, every_s, once=once)
        if once:
            for letter in registry.outbox.letters(TARGET, waiting=True):
                click.echo(letter_text(letter))
    if once:
        teller.end()


# --- what is told --------------------------------------------------------------------------------------


@command.group("mirror")
def mirror_command() -> None:
    """Which models MLflow is told of: those that came from it, if you say so."""


def _mirror_verb(function: Callable[[Registry, str, str], None]) -> Callable[..., None]:
    @functools.wraps(function)
    def run(desk: Desk, name: str) -> None:
        with desk.open() as registry:
            function(registry, name, desk.actor)

    return click.argument("name")(at_mlflow_desk(run))


@mirror_command.command("on")
@_mirror_verb
def on_command(registry: Registry, name: str, actor: str) -> None:
    """Tell MLflow of the aliases of NAME, and of the tags of its versions, from now on."""
    registry.mirrors.turn_on(TARGET, name, actor=actor)
    click.echo(f"{name} is mirrored; `taxiway mlflow sync` delivers")


@mirror_command.command("off")
@_mirror_verb
def off_command(registry: Registry, name: str, actor: str) -> None:
    """Tell MLflow no more of NAME; what waits to be told is dropped."""
    registry.mirrors.turn_off(TARGET, name, actor=actor)
    click.echo(f"{name} is no longer mirrored")


@command.command("status")
@output_option
@at_mlflow_desk
def status_command(desk: Desk, output: str) -> None:
    """What is followed, what is mirrored, what waits to be told, and what MLflow was not told and why."""
    with desk.open() as registry:
        followed, mirrored = registry.followings.all(), registry.mirrors.names(TARGET)
        letters = registry.outbox.letters(TARGET)
    open_letters = [letter for letter in letters if letter.done_at is None or letter.problem]
    value = {"followed": followed, "mirrored": mirrored, "letters": open_letters}
    tell(output, value, lambda: status_text(followed, mirrored, open_letters))
