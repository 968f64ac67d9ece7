"""`taxiway alias set|delete|history`."""

from __future__ import annotations

import click

from taxiway.cli.desk import output_option, tell, why_option, with_registry
from taxiway.core.errors import InvalidArgument
from taxiway.core.refs import ModelRef
from taxiway.registry import ANY, Registry
from taxiway.registry.nouns import Expected
from taxiway.registry.report import history_text, move_text


@click.group("alias")
def command() -> None:
    """Names that move: `fraud@stable` is version 3 today, and who moved it there is known."""


def _expected(_context: click.Context, _option: click.Parameter, value: str | None) -> Expected:
    """`none` says that the alias is believed not to be there; without the option it may point anywhere."""
    if value is None:
        return ANY
    if value == "none":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither the number of a version nor none")
    return int(value)


expect_option = click.option(
    "--expect",
    callback=_expected,
    metavar="VERSION|none",
    help="Only if it points there now (none: is not there); otherwise nothing is changed.",
)


@command.command("set")
@click.argument("ref", metavar="NAME@ALIAS")
@click.argument("version", type=click.IntRange(1))
@expect_option
@why_option
@output_option
@with_registry
def set_command(
    registry: Registry, actor: str, ref: str, version: int, expect: Expected, why: str, output: str
) -> None:
    """Point NAME@ALIAS to VERSION.

    \b
      taxiway alias set fraud@stable 3 --expect 2 --why "better on last week's traffic"
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    name, alias = _alias(ref)
    move = registry.set_alias(name, alias, version, expect=expect, actor=actor, why=why)
    tell(output, move, lambda: [move_text(move)])


@command.command("delete")
@click.argument("ref", metavar="NAME@ALIAS")
@expect_option
@why_option
@output_option
@with_registry
def delete_command(registry: Registry, actor: str, ref: str, expect: Expected, why: str, output: str) -> None:
    """Take NAME@ALIAS away; its history stays."""
    name, alias = _alias(ref)
    move = registry.set_alias(name, alias, None, expect=expect, actor=actor, why=why)
    tell(output, move, lambda: [move_text(move)])


@command.command("history")
@click.argument("ref", metavar="NAME@ALIAS")
@output_option
@with_registry
def history_command(registry: Registry, _actor: str, ref: str, output: str) -> None:
    """Every move of NAME@ALIAS: when, from where to where, by whom and why."""
    moves = registry.alias_history(*_alias(ref))
    tell(output, moves, lambda: history_text(moves))


def _alias(text: str) -> tuple[str, str]:
    ref = ModelRef.parse(text)
    if ref.alias is None:
        raise InvalidArgument(f"{text!r} names no alias", hint="write NAME@ALIAS, as in fraud@stable", value=text)
    return ref.name, ref.alias
