"""`taxiway rollout start|status|list|pause|resume|advance|promote|abort|undo|extend|approve|history|replay`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from taxiway.cli.control_client import ControlClient, with_control
from taxiway.cli.desk import output_option, tell, why_option
from taxiway.cli.rollout_words import plan_words
from taxiway.core.errors import (
    AwaitingApproval,
    FailedPrecondition,
    NotFound,
    TaxiwayError,
    VerdictFailed,
    VerdictInconclusive,
)
from taxiway.rollout.report import history_text, rollouts_text, status_text

_LOOK_S = 1.0
_ENDS: Mapping[str, type[TaxiwayError]] = {
    "rolled-back": VerdictFailed,
    "failed-infra": FailedPrecondition,
    "superseded": FailedPrecondition,
}

service_argument = click.argument("service", metavar="NAME|ID")
optional_why_option = click.option("--why", default="", help="The reason, for those who come later.")
expect_option = click.option(
    "--expect-generation", type=click.IntRange(0), default=None, help="Only if it is of this generation."
)


@click.group("rollout")
def command() -> None:
    """Move traffic from one version to another by evidence, and back in an instant.

    \b
      taxiway rollout start fraud --to 7 --strategy canary
      taxiway rollout status fraud -w
      taxiway rollout abort fraud --why "the dashboards look odd"
    """  # noqa: D301 - \b is click's mark for lines to be left alone


@command.command("start")
@click.argument("service", metavar="NAME")
@click.option("--to", default=None, metavar="VERSION|VARIANT|ALIAS", help="What is to answer: 7, 7-int8.")
@click.option(
    "--strategy",
    type=click.Choice(("canary", "ab", "shadow", "blue-green", "rolling")),
    default=None,
    help="How. [default: canary]",
)
@click.option("--steps", default=None, metavar="PERCENT,...", help="Its shares. [default: 1,5,10,25,50,100]")
@click.option("--arm", "arms", multiple=True, metavar="NAME=VERSION:PERCENT", help="An arm of an A/B/n test.")
@click.option("--plan", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The plan, in YAML.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One key of it: guards.alpha=0.01.")
@click.option("--force", is_flag=True, help="Although this very version was rolled back before; needs --why.")
@click.option("--wait", is_flag=True, help="Until it has ended; the exit code says how.")
@optional_why_option
@output_option
@with_control
def start_command(  # noqa: PLR0913 - one for each option
    client: ControlClient,
    service: str,
    to: str | None,
    strategy: str | None,
    steps: str | None,
    arms: tuple[str, ...],
    file: Path | None,
    settings: tuple[str, ...],
    *,
    force: bool,
    wait: bool,
    why: str,
    output: str,
) -> None:
    """Begin to move NAME's traffic to another version.

    \b
      taxiway rollout start fraud --to 7
      taxiway rollout start fraud --to candidate --strategy blue-green
      taxiway rollout start fraud --strategy ab --arm new=7:10 --arm newer=8:10 --set max_duration_s=1209600
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    given = {"to": to, "strategy": strategy, "steps": steps, "arms": arms}
    plan = plan_words(file, given, settings)
    told = client.post("/v1/rollouts", {"service": service, "plan": plan, "force": force, "reason": why})
    if wait:
        told = _watch(client, told["rollout"]["id"], output)
    else:
        tell(output, told, lambda: status_text(told))
    _exit_by(told, wait=wait)


@command.command("status")
@service_argument
@click.option("-w", "--watch", is_flag=True, help="Again and again, until it has ended; the exit code says how.")
@output_option
@with_control
def status_command(client: ControlClient, service: str, *, watch: bool, output: str) -> None:
    """Phase, weights, and every guard with its effect, interval and evidence; what it would take to decide."""
    rollout_id = _id_of(client, service)
    if watch:
        _exit_by(_watch(client, rollout_id, output), wait=True)
        return
    told = client.get(f"/v1/rollouts/{quote(rollout_id)}")
    tell(output, told, lambda: status_text(told))


@command.command("list")
@click.argument("service", metavar="[NAME]", default="")
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@output_option
@with_control
def list_command(client: ControlClient, service: str, *, active: bool, output: str) -> None:
    """Rollouts, the newest first."""
    query = f"?service={quote(service)}" if service else "?"
    told = client.get(f"/v1/rollouts{query}{'&active=true' if active else ''}")
    tell(output, told, lambda: rollouts_text(told))


@command.command("history")
@service_argument
@output_option
@with_control
def history_command(client: ControlClient, service: str, output: str) -> None:
    """Every event of a rollout: when, what, by whom, and on which evidence."""
    told = client.get(f"/v1/rollouts/{quote(_id_of(client, service))}/history")
    tell(output, told, lambda: history_text(told))


@command.command("replay")
@click.argument("rollout_id", metavar="ID")
@output_option
@with_control
def replay_command(client: ControlClient, rollout_id: str, output: str) -> None:
    """Compute every verdict of a rollout again, from the stored evidence: the same, bit for bit, or exit code 1."""
    told = client.get(f"/v1/rollouts/{quote(rollout_id)}/replay")
    tell(output, told, lambda: [str(line) for line in told["lines"]])
    if not told["same"]:
        raise click.exceptions.Exit(1)


@command.command("promote")
@service_argument
@click.option("--full", is_flag=True, help="At once to all of its traffic, whatever the guards say; needs --why.")
@click.option("--arm", default="", help="Of an A/B/n test: the arm that is to answer.")
@expect_option
@optional_why_option
@output_option
@with_control
def promote_command(
    client: ControlClient, service: str, *, full: bool, arm: str, expect_generation: int | None, why: str, output: str
) -> None:
    """One step on, or with --full to the end: a person's decision, recorded with its reason."""
    words = {"full": full, "arm": arm}
    _command(client, service, "promote", expect_generation, why, output, words)


@command.command("undo")
@click.argument("service", metavar="NAME")
@click.option("--to", type=click.IntRange(1), default=None, metavar="VERSION", help="[default: the one before]")
@expect_option
@optional_why_option
@output_option
@with_control
def undo_command(
    client: ControlClient, service: str, to: int | None, expect_generation: int | None, why: str, output: str
) -> None:
    """Back to the version before, at once while it is still loaded."""
    words: dict[str, Any] = {"reason": why, "expect_generation": expect_generation}
    if to is not None:
        words["to"] = to
    told = client.post(f"/v1/services/{quote(service)}/undo", words)
    tell(output, told, lambda: status_text(told))


@command.command("extend")
@service_argument
@click.option("--by-s", type=click.FloatRange(1), required=True, help="Seconds.")
@expect_option
@optional_why_option
@output_option
@with_control
def extend_command(
    client: ControlClient, service: str, by_s: float, expect_generation: int | None, why: str, output: str
) -> None:
    """Give it more time to decide."""
    _command(client, service, "extend", expect_generation, why, output, {"by_s": by_s})


def _simple(verb: str, text: str, reason: Callable[..., Any]) -> None:
    @command.command(verb, help=text)
    @service_argument
    @expect_option
    @reason
    @output_option
    @with_control
    def run(client: ControlClient, service: str, expect_generation: int | None, why: str, output: str) -> None:
        _command(client, service, verb, expect_generation, why, output, {})


_simple("pause", "Hold everything as it is. Guards still turn a harmful candidate back.", optional_why_option)
_simple("resume", "Go on after a pause.", optional_why_option)
_simple("advance", "Go to the next step without waiting for the guards.", why_option)
_simple("approve", "Say yes to what it waits for.", optional_why_option)
_simple("abort", "Send all traffic back to the version that served before, now.", optional_why_option)


def _command(
    client: ControlClient,
    service: str,
    verb: str,
    expect_generation: int | None,
    why: str,
    output: str,
    words: Mapping[str, Any],
) -> None:
    rollout_id = _id_of(client, service)
    said = {"reason": why, "expect_generation": expect_generation, **words}
    told = client.post(f"/v1/rollouts/{quote(rollout_id)}/{verb}", said)
    tell(output, told, lambda: status_text(told))


def _id_of(client: ControlClient, word: str) -> str:
    """The rollout of this id; or the newest of the service of this name that has not ended, else the newest."""
    if word.startswith("r-"):
        return word
    found = client.get(f"/v1/rollouts?service={quote(word)}")["rollouts"]
    if not found:
        raise NotFound(
            f"no rollout of {word!r} is known",
            hint=f"`taxiway rollout start {word} --to VERSION` begins one; `taxiway rollout list` shows them all",
            value=word,
        )
    active = [one for one in found if one["active"]]
    return str((active or found)[0]["id"])


def _watch(client: ControlClient, rollout_id: str, output: str) -> dict[str, Any]:
    """Print its status whenever that changes, until it has ended or waits for a person."""
    printed = None
    while True:
        told: dict[str, Any] = client.get(f"/v1/rollouts/{quote(rollout_id)}")
        lines = status_text(told)
        if lines != printed:
            tell(output, told, lambda lines=lines: [*lines, ""])  # type: ignore[misc]
            printed = lines
        if told["ended"] or told["rollout"]["approval"]:
            return told
        time.sleep(_LOOK_S)


def _exit_by(told: Mapping[str, Any], *, wait: bool) -> None:
    """Raise what makes the exit code.

    Raises:
        VerdictFailed, VerdictInconclusive, AwaitingApproval, FailedPrecondition: it ended otherwise, or waits.
    """
    rollout = told["rollout"]
    if not wait:
        return
    if rollout["approval"]:
        raise AwaitingApproval(
            f"rollout {rollout['id']} waits: {rollout['approval']}",
            hint=f"`taxiway rollout approve {rollout['service']}`, or `abort`",
        )
    kind = _ENDS.get(rollout["phase"])
    if kind is not None:
        hint = f"`taxiway rollout history {rollout['id']}` tells what happened"
        raise kind(f"rollout {rollout['id']}: {rollout['reason']}", hint=hint)
    verdict = told.get("verdict")
    if rollout["phase"] != "succeeded" and verdict is not None and verdict["outcome"] == "inconclusive":
        raise VerdictInconclusive(f"rollout {rollout['id']}: {verdict['sentence']}", hint="")
