"""`taxiway monitor reference MODEL`."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from taxiway.cli.control_client import ControlClient, http_url_of, with_control
from taxiway.cli.desk import output_option, tell
from taxiway.cli.options import load_from
from taxiway.config.settings import Settings
from taxiway.core.errors import InvalidArgument
from taxiway.monitor.drift.columns import columns_of
from taxiway.monitor.drift.data import answers_of, read_arrays, rows_of
from taxiway.monitor.drift.reference import Reference
from taxiway.monitor.drift.words import report_lines


@click.command("reference")
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path, dir_okay=False), help="An .npz with an array for each input.")
@click.option("--like", type=click.IntRange(1), default=None, metavar="VERSION", help="The last rows of a version.")
@click.option("--learn", is_flag=True, help="Forget the reference, and learn one from the next rows in service.")
@click.option("--version", type=click.IntRange(1), default=None, help="Which version. [default: the one that answers]")
@click.option(
    "--url", "http", default="", metavar="URL", help="Of the server's HTTP port. [default: as the settings say]"
)
@output_option
@with_control
def command(
    client: ControlClient,
    model: str,
    data: Path | None,
    version: int | None,
    like: int | None,
    http: str,
    output: str,
    *,
    learn: bool,
) -> None:
    """Hold a model against training data, or have it learn a reference anew.

    \b
      taxiway monitor reference fraud --data train.npz
      taxiway monitor reference fraud --version 4 --like 3
      taxiway monitor reference fraud --learn

    The rows of the file are sent to the model, so that its answers are watched as well as its inputs.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    if [data is not None, like is not None, learn].count(True) != 1:
        raise InvalidArgument("give one of --data FILE, --like VERSION and --learn", hint="--data train.npz")
    settings = load_from(None, {}).settings
    server = replace(client, url=(http or http_url_of(settings)).rstrip("/"), what="the server")
    number = version or _answering(server, model)
    path = f"/v1/monitor/drift/{quote(model, safe='')}"
    if like is not None:
        client.send("POST", f"{path}/reference?version={number}&like={like}", b"")
    elif data is None:
        client.send("DELETE", f"{path}/reference?version={number}", b"")
    else:
        reference = _made(server, model, number, data, settings)
        client.send("PUT", f"{path}/reference?version={number}", reference.encode())
    told = client.get(f"{path}?version={number}")
    tell(output, told, lambda: report_lines(told))


def _made(server: ControlClient, model: str, version: int, data: Path, settings: Settings) -> Reference:
    path = f"/v2/models/{quote(model, safe='')}/versions/{version}"
    metadata = server.get(path)
    inputs = read_arrays(data, metadata["inputs"])
    types = {one["name"]: one["datatype"] for one in metadata["inputs"]}

    def infer(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = server.send("POST", f"{path}/infer", json.dumps({"inputs": tensors}).encode())[
            "outputs"
        ]
        return told

    rows = rows_of(model, version, inputs, answers_of(infer, inputs, types))
    own = settings.monitoring.drift.models.get(model)
    columns = columns_of(rows, {} if own is None else own.features)
    watched = [column for column in columns if own is None or column.name not in own.ignore]
    return Reference.of(watched, f"{data.name}", time.time_ns())


def _answering(server: ControlClient, model: str) -> int:
    return max(int(version) for version in server.get(f"/v2/models/{quote(model, safe='')}")["versions"])
