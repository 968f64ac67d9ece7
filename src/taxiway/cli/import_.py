"""`taxiway import SOURCE`."""

from __future__ import annotations

import getpass
import json
import os
import re
from pathlib import Path
from typing import Any

import click

from taxiway.cli.options import load_from, settings_options
from taxiway.config.places import registry_places
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.report import as_json, format_report
from taxiway.intake.walk import Office, Wanted, import_models
from taxiway.registry.registry import Registry

_TENSOR = re.compile(r"(?P<name>[^:\s]+):(?P<datatype>[A-Z0-9]+)\[(?P<shape>(-?\d+(,-?\d+)*)?)\]")
_TENSOR_FORM = "NAME:DATATYPE[SHAPE]"
_OPTIONS = (
    "name", "trust", "inputs", "outputs", "alias", "why", "require_signature", "public_keys", "dry_run", "form",
)  # fmt: skip
"""Options that are no settings."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _read_tensor(value: str) -> TensorSpec:
    """`NAME:DATATYPE[SHAPE]`, as `x:FP32[-1,4]`."""
    match = _TENSOR.fullmatch(value.replace(" ", ""))
    datatype = Datatype.by_name(match["datatype"]) if match else None
    if match is None or datatype is None:
        known = ", ".join(one.wire_name for one in Datatype)
        raise click.BadParameter(f"{value!r} is not NAME:DATATYPE[SHAPE], as x:FP32[-1,4]; datatypes are {known}")
    return TensorSpec(match["name"], datatype, tuple(int(size) for size in match["shape"].split(",") if size))


def _read_digest(value: str) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    if not _DIGEST.fullmatch(value.lower()):
        raise click.BadParameter(f"{value!r} is not sha256: and 64 hexadecimal digits; sha256sum FILE prints them")
    return value.lower()


@click.command("import")
@click.argument("source")
@click.option("--name", default="", help="What the model is called; else as it is where it comes from.")
@click.option(
    "--trust",
    multiple=True,
    type=_read_digest,
    metavar="sha256:DIGEST",
    help="Let this very file pass though it is a pickle. Repeatable.",
)
@click.option("--require-signature", is_flag=True, help="Refuse it unless its OpenSSF signature is verified.")
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A signer's, in PEM. Repeatable.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=_read_tensor,
    metavar=_TENSOR_FORM,
    help="Where the file does not tell. Repeatable.",
)
@click.option(
    "--output-tensor", "outputs", multiple=True, type=_read_tensor, metavar=_TENSOR_FORM, help="Likewise. Repeatable."
)
@click.option("--alias", default="", help="Point this alias to the version.")
@click.option("--why", default="", help="The reason, for the audit log.")
@click.option("--dry-run", is_flag=True, help="Look, understand, and register nothing.")
@click.option("--output", "form", type=click.Choice(["text", "json"]), default="text", help="How it is printed.")
@settings_options
def command(source: str, config_file: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Take in a model from SOURCE: recognise, scan, verify and register it.

    \b
      taxiway import model.onnx --name fraud --why "the model of May"
      taxiway import model.pkl --trust sha256:...
      taxiway import models/ --dry-run
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    said = {name: options.pop(name) for name in _OPTIONS}
    settings = load_from(config_file, options).settings
    places = registry_places(settings.registry, os.environ)
    wanted = Wanted(
        source=source,
        name=said["name"],
        trust=frozenset(said["trust"]),
        inputs=said["inputs"],
        outputs=said["outputs"],
        alias=said["alias"],
        why=said["why"] or f"imported from {source}",
        actor=settings.registry.actor or getpass.getuser(),
        require_signature=said["require_signature"],
        public_keys=said["public_keys"],
    )
    office = Office(workplace=places.cache.parent / "imports")
    if said["dry_run"]:
        imported = import_models(wanted, office, None)
    else:
        with Registry.open(places.url, places.blobs) as registry:
            imported = import_models(wanted, office, registry)
    click.echo(json.dumps(as_json(imported), indent=2) if said["form"] == "json" else format_report(imported))
