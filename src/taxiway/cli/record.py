"""`taxiway record MODEL`."""

from __future__ import annotations

import contextlib
import getpass
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from taxiway.cli.control_client import ControlClient
from taxiway.cli.options import load_from
from taxiway.config.settings import Settings
from taxiway.core.errors import AlreadyExists, VerdictInconclusive
from taxiway.profile.recording import recorded_requests
from taxiway.profile.workload import Workload, write_workload

_POLL_S = 0.25


@click.command("record")
@click.argument("model")
@click.option("--sample", default="10%", show_default=True, help="The share of requests that is kept.")
@click.option(
    "--max", "most", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="And no more."
)
@click.option("--for", "seconds", type=click.FloatRange(0.1), metavar="SECONDS", help="End after so long.")
@click.option("--with-inputs", is_flag=True, help="The content of inputs too; else datatypes and shapes.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The workload.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--url", default="", help="Of the server's HTTP port. [default: as the settings say]")
@click.option("--key", envvar="TAXIWAY_API_KEY", default="", help="An API key of scope admin (TAXIWAY_API_KEY).")
@click.option("--ca", "authority", default="", metavar="FILE", help="PEM file of an authority to believe.")
@click.option("--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), envvar="TAXIWAY_CONFIG")
def command(
    model: str,
    sample: str,
    most: int,
    seconds: float | None,
    output: Path,
    *,
    with_inputs: bool,
    force: bool,
    **where: Any,  # noqa: ANN401
) -> None:
    """Write what a running server is asked to a workload, until there is enough, or Ctrl-C.

    \b
      taxiway serve models --recording.mode shapes
      taxiway record fraud --sample 10% --max 10000 -o workload.jsonl

    The server keeps what was not fetched yet within bounds; what does not fit is left out and counted, and no request
    waits for it. Requests that come through ensembles and models' own calls are not recorded.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    if output.exists() and not force:
        raise AlreadyExists(f"{output} is there already", hint="name another file, or --force", path=str(output))
    share = _share(sample)
    settings = load_from(where["config_file"], {}).settings
    url = (where["url"] or _url_of(settings)).rstrip("/")
    server = ControlClient(url, where["key"], where["authority"], getpass.getuser(), what="the server")
    path = f"/v2/models/{quote(model, safe='')}/recording"
    server.post(path, {"share": share, "most": most, "with_inputs": with_inputs})
    told: list[dict[str, Any]] = []
    counts = {"seen": 0, "dropped": 0}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _fetch_until(server, path, told, counts, most, seconds)
    finally:
        server.post(f"{path}/end", {})
    if not told:
        raise VerdictInconclusive(f"model {model!r} was asked nothing", hint="is it asked at all? record for longer")
    write_workload(output, Workload(recorded_requests(told[:most]), f"{share:.3g} of the requests of {model}"))
    click.echo(f"{min(len(told), most)} of {counts['seen']} requests written to {output}; {counts['dropped']} dropped")


def _fetch_until(
    server: ControlClient,
    path: str,
    told: list[dict[str, Any]],
    counts: dict[str, int],
    most: int,
    seconds: float | None,
) -> None:
    """Fetch into `told` and `counts` until there are `most`, or the time is up."""
    began = time.monotonic()
    while len(told) < most:
        answer = server.post(f"{path}/fetch", {})
        told += answer["requests"]
        counts.update(seen=answer["seen"], dropped=answer["dropped"])
        left = float("inf") if seconds is None else began + seconds - time.monotonic()
        if left <= 0 and not answer["held"]:
            return
        if not answer["held"]:
            time.sleep(min(_POLL_S, max(left, 0.0)))


def _share(text: str) -> float:
    """`10%` or `0.1`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise click.BadParameter(
            f"{text!r} is not a share above 0 and at most 100%, as 10% or 0.1", param_hint="--sample"
        )
    return share


def _url_of(settings: Settings) -> str:
    host, port = settings.http.host, settings.http.port
    scheme = "https" if settings.tls.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
