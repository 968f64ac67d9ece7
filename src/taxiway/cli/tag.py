"""`taxiway tag set|delete`."""

from __future__ import annotations

import click

from taxiway.cli.desk import with_registry
from taxiway.core.refs import ModelRef
from taxiway.registry import Registry


@click.group("tag")
def command() -> None:
    """Words on a model or on one of its versions; they mean what you want them to."""


@command.command("set")
@click.argument("ref")
@click.argument("key")
@click.argument("value")
@with_registry
def set_command(registry: Registry, actor: str, ref: str, key: str, value: str) -> None:
    """Tag REF: fraud is the model itself, fraud:3 and fraud@stable are versions."""
    name, number = _tagged(registry, ref)
    registry.set_tag(name, number, key, value, actor=actor)


@command.command("delete")
@click.argument("ref")
@click.argument("key")
@with_registry
def delete_command(registry: Registry, actor: str, ref: str, key: str) -> None:
    """Take the tag KEY off REF."""
    name, number = _tagged(registry, ref)
    registry.delete_tag(name, number, key, actor=actor)


def _tagged(registry: Registry, text: str) -> tuple[str, int | None]:
    ref = ModelRef.parse(text)
    if ref == ModelRef(ref.name):
        return ref.name, None
    return ref.name, registry.resolve(ref).number
