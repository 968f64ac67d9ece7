"""`taxiway import SOURCE`."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from taxiway.cli.desk import Desk, at_mlflow_desk, output_option, tell
from taxiway.cli.offices import converters_of, mlflow_of, office_of
from taxiway.cli.progress import Progress
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.report import as_json, format_report
from taxiway.intake.walk import Imported, Office, Wanted, import_models

_TENSOR = re.compile(r"(?P<name>[^:\s]+):(?P<datatype>[A-Z0-9]+)\[(?P<shape>(-?\d+(,-?\d+)*)?)\]")
_TENSOR_FORM = "NAME:DATATYPE[SHAPE]"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _read_tensor(value: str) -> TensorSpec:
    """`NAME:DATATYPE[SHAPE]`, as `x:FP32[-1,4]`."""
    match = _TENSOR.fullmatch(value.replace(" ", ""))
    datatype = Datatype.by_name(match["datatype"]) if match else None
    if match is None or datatype is None:
        known = ", ".join(one.wire_name for one in Datatype)
        raise click.BadParameter(f"{value!r} is not NAME:DATATYPE[SHAPE], as x:FP32[-1,4]; datatypes are {known}")
    return TensorSpec(match["name"], datatype, tuple(int(size) for size in match["shape"].split(",") if size))


def read_digest(value: str) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    if not _DIGEST.fullmatch(value.lower()):
        raise click.BadParameter(f"{value!r} is not sha256: and 64 hexadecimal digits; sha256sum FILE prints them")
    return value.lower()


trust_option = click.option(
    "--trust",
    multiple=True,
    type=read_digest,
    metavar="sha256:DIGEST",
    help="Let this very file pass though it is a pickle. Repeatable.",
)
require_signature_option = click.option(
    "--require-signature", is_flag=True, help="Refuse it unless its OpenSSF signature is verified."
)
public_key_option = click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A signer's, in PEM. Repeatable.",
)


@click.command("import")
@click.argument("source")
@click.option("--name", default="", help="What the model is called; else as it is where it comes from.")
@trust_option
@require_signature_option
@public_key_option
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=_read_tensor,
    metavar=_TENSOR_FORM,
    help="Where the file does not tell. Repeatable.",
)
@click.option(
    "--output-tensor",
    "outputs",
    multiple=True,
    type=_read_tensor,
    metavar=_TENSOR_FORM,
    help="Likewise. Repeatable.",
)
@click.option("--native", is_flag=True, help="Keep the framework's own format where it could be converted to ONNX.")
@click.option(
    "--samples",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Rows (.npy, .npz, .csv) on which ONNX has to answer as the framework does; else they are made.",
)
@click.option("--alias", default="", help="Point this alias to the version.")
@click.option("--why", default="", help="The reason, for those who come later; needed unless it is a dry run.")
@click.option("--dry-run", is_flag=True, help="Look, understand, and register nothing.")
@output_option
@at_mlflow_desk
def command(
    desk: Desk,
    output: str,
    *,
    dry_run: bool,
    native: bool,
    samples: Path | None,
    **said: Any,  # noqa: ANN401 - click's values
) -> None:
    """Take in a model from SOURCE: recognise, scan, verify and register it.

    Models of scikit-learn, XGBoost, LightGBM and CatBoost become ONNX if it is proven to answer as they do; else, and
    with --native, their own library serves them.

    \b
      taxiway import model.onnx --name fraud --why "trained on the data of May"
      taxiway import wine.skops --samples rows.csv --why "the first forest"
      taxiway import model.pkl --trust sha256:... --why "made by our own job 123"
      taxiway import models/ --dry-run
      taxiway import models:/fraud@champion --why "the best of this week"
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    if not said["why"] and not dry_run:
        raise click.UsageError("Missing option '--why': the reason, for those who come later.")
    if native and samples:
        raise click.UsageError("--samples are rows to prove ONNX on, which --native does without: leave one out.")
    wanted = Wanted(**{**said, "trust": frozenset(said["trust"])}, actor=desk.actor)
    with Progress(sys.stderr) as progress:
        converters = {} if native else converters_of(samples)
        office = replace(office_of(desk, mlflow_of(desk)), converters=converters, tell=progress.tell)
        imported = _import(desk, wanted, office, dry_run=dry_run)
    tell(output, as_json(imported), lambda: [format_report(imported)])


def _import(desk: Desk, wanted: Wanted, office: Office, *, dry_run: bool) -> tuple[Imported, ...]:
    if dry_run:
        return import_models(wanted, office, None)
    with desk.open() as registry:
        return import_models(wanted, office, registry)
