"""`taxiway record MODEL`."""

from __future__ import annotations

import contextlib
import getpass
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from taxiway.cli.control_client import ControlClient, http_url_of
from taxiway.cli.options import load_from, read_output
from taxiway.core.errors import (
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    NotFound,
    TaxiwayError,
    VerdictInconclusive,
)
from taxiway.profile.recording import RecordedWorkload

_POLL_S = 0.25


@click.command("record")
@click.argument("model")
@click.option("--sample", default="10%", show_default=True, help="The share of requests that is kept.")
@click.option(
    "--max", "most", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="And no more."
)
@click.option("--for", "seconds", type=click.FloatRange(0.1), metavar="SECONDS", help="End after so long.")
@click.option("--with-inputs", is_flag=True, help="The content of inputs too; else datatypes and shapes.")
@click.option("-o", "--output", type=read_output, metavar="FILE", required=True, help="The workload.")
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
    waits for it. If it fails, what was fetched until then is written. Requests that come through ensembles and models'
    own calls are not recorded.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    if output.exists() and not force:
        raise AlreadyExists(f"{output} is there already", hint="name another file, or --force", path=str(output))
    share = _share(sample)
    settings = load_from(where["config_file"], {}).settings
    url = (where["url"] or http_url_of(settings)).rstrip("/")
    server = ControlClient(url, where["key"], where["authority"], getpass.getuser(), what="the server")
    try:
        with RecordedWorkload(output, f"{share:.3g} of the requests of {model}") as workload, _stopping() as stop:
            recording = _Recording(server, f"/v2/models/{quote(model, safe='')}/recording", workload, most, stop)
            problem = recording.run({"share": share, "most": most, "with_inputs": with_inputs}, seconds)
            if not workload.count:
                raise problem or VerdictInconclusive(
                    f"model {model!r} was asked nothing", hint="is it asked at all? record for longer"
                )
            _finish(workload, output)
    except OSError as error:
        raise _not_written(output, error) from None
    click.echo(recording.summary(output) + ("" if problem is None else "; it ended early"))
    if problem is not None:
        raise problem


class _Recording:
    """What one run of the verb fetches: from the beginning until there is enough, the time is up, or it is stopped."""

    def __init__(
        self, server: ControlClient, path: str, workload: RecordedWorkload, most: int, stop: threading.Event
    ) -> None:
        self._server = server
        self._path = path
        self._workload = workload
        self._most = most
        self._stop = stop
        self._seen = 0
        self._dropped = 0

    def run(self, words: Mapping[str, Any], seconds: float | None) -> TaxiwayError | None:
        """Record as `words` say, for so long; what ended it before its time, where anything was fetched until then.

        Raises:
            TaxiwayError: it could not begin.
        """
        self._server.post(self._path, words)
        try:
            try:
                self._fetch_for(math.inf if seconds is None else seconds)
                self._fetch_rest()
            finally:
                with contextlib.suppress(TaxiwayError):  # it ends by itself, too
                    self._server.post(f"{self._path}/end", {})
        except TaxiwayError as error:
            return error
        except OSError as error:
            return _not_written(self._workload.lines_at, error)
        except KeyboardInterrupt:
            return Cancelled("stopped before all that the server had kept was fetched")
        return None

    def summary(self, output: Path) -> str:
        """What was written."""
        workload = self._workload
        told = [
            f"{workload.count} of {self._seen} requests written to {output}; {self._dropped} dropped",
            "the file is as long as a workload may be" if workload.is_full else "",
            f"{workload.shortened} too long for a line are without content" if workload.shortened else "",
        ]
        return "; ".join(filter(None, told))

    def _fetch_for(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._is_enough and not self._stop.is_set():
            held = self._fetch()
            left = ends - time.monotonic()
            if left <= 0:
                return
            if not held:
                self._stop.wait(min(_POLL_S, left))

    def _fetch_rest(self) -> None:
        """What the server has kept until now, and nothing that comes later."""
        if self._is_enough:
            return
        self._server.post(f"{self._path}/end", {"keep": True})
        with contextlib.suppress(NotFound):  # nothing is left
            while self._fetch() and not self._is_enough:
                pass

    def _fetch(self) -> int:
        """How many are still there."""
        answer = self._server.post(f"{self._path}/fetch", {})
        self._seen, self._dropped = answer["seen"], answer["dropped"]
        for one in answer["requests"]:
            if not self._is_enough:
                self._workload.take(one)
        return int(answer["held"])

    @property
    def _is_enough(self) -> bool:
        return self._workload.count >= self._most or self._workload.is_full


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM, so that no line is cut; a second one does not wait (KeyboardInterrupt)."""
    stop = threading.Event()

    def hear(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(workload: RecordedWorkload, output: Path) -> None:
    try:
        workload.finish()
    except OSError as error:
        refused = _not_written(output, error)
        refused.hint = f"{workload.lines_at} has what was fetched, a workload without times: move it, and make room"
        raise refused from None


def _not_written(path: Path, error: OSError) -> FailedPrecondition:
    return FailedPrecondition(f"{path} cannot be written: {error.strerror}", hint="-o names a file in another folder")


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
