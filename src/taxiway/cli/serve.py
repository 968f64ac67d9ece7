"""`taxiway serve PATH...`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import uvloop

from taxiway.cli.options import load_from, settings_options
from taxiway.config.settings import Settings
from taxiway.core.errors import EXIT_CODES, ErrorKind
from taxiway.server.app import Addresses, DataPlane
from taxiway.telemetry.logs import Log, RepeatLimit, configure_logs

_log = Log("taxiway.server")
_STOPPING = (signal.SIGTERM, signal.SIGINT)


@click.command("serve")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@settings_options
def command(paths: tuple[Path, ...], config_file: Path | None, **flags: Any) -> None:  # noqa: ANN401 - click's values
    """Serve models: ONNX files, directories of them, or Triton model repositories.

    \b
      taxiway serve model.onnx
      taxiway serve models/ --http.port 9000 --compat triton

    Stops cleanly on SIGTERM and Ctrl-C: what was taken is answered, for at most --limits.drain-timeout-s; if that
    runs out the exit code is 5. A second signal stops it at once, with 128 and the signal's number (130, 143).
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    settings = load_from(config_file, flags, paths).settings
    limit = configure_logs(form=settings.log.format, level=settings.log.level)
    uvloop.run(_serve(settings, limit))


async def _serve(settings: Settings, limit: RepeatLimit) -> None:
    for number in _STOPPING:
        # Loading holds the loop, so no handler of the loop's would run; nothing is owed to anybody yet.
        signal.signal(number, signal.SIG_DFL)
    plane = DataPlane(settings, suppressed_lines=lambda: limit.suppressed)
    addresses = await plane.start()
    stopped = _stop_on_signals(asyncio.get_running_loop())
    _announce(addresses)
    await stopped.wait()
    if not await plane.stop():
        _leave(EXIT_CODES[ErrorKind.DEADLINE_EXCEEDED])


def _stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    stopped = asyncio.Event()

    def heard(number: signal.Signals) -> None:
        _log.info("signal", signal=number.name)
        if stopped.is_set():
            _leave(128 + number)
        stopped.set()

    for number in _STOPPING:
        loop.add_signal_handler(number, heard, number)
    return stopped


def _leave(code: int) -> NoReturn:
    """Exit now: the interpreter's own end waits for threads, and a model's run may take minutes."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _announce(addresses: Addresses) -> None:
    click.echo(f"taxiway is ready: {addresses.http}")
    if addresses.metrics:
        click.echo(f"metrics: {addresses.metrics}/metrics")
    if addresses.http_unix:
        click.echo(f"unix socket: {addresses.http_unix}")
    if addresses.grpc:
        click.echo(f"grpc: {addresses.grpc}")
