"""`taxiway serve PATH...`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import click
import uvloop

from taxiway.cli.options import load_from, settings_options
from taxiway.config.settings import Settings
from taxiway.core.errors import FailedPrecondition
from taxiway.server.app import Addresses, DataPlane
from taxiway.telemetry.logs import configure_logs


@click.command("serve")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@settings_options
def command(paths: tuple[Path, ...], config_file: Path | None, **flags: Any) -> None:  # noqa: ANN401 - click's values
    """Serve models: ONNX files, directories of them, or Triton model repositories.

    \b
      taxiway serve model.onnx
      taxiway serve models/ --http.port 9000 --compat triton

    Stops cleanly on SIGTERM and Ctrl-C: what was taken is answered.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    settings = load_from(config_file, flags, paths).settings
    configure_logs(form=settings.log.format, level=settings.log.level)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    plane = DataPlane(settings)
    try:
        addresses = await plane.start()
    except OSError as problem:
        raise FailedPrecondition(
            f"cannot listen: {problem}",
            hint="choose other ports: --http.port and --metrics.port (0 takes a free one)",
        ) from problem
    _announce(addresses)
    await stopped.wait()
    await plane.stop()


def _announce(addresses: Addresses) -> None:
    click.echo(f"taxiway is ready: {addresses.http}")
    if addresses.metrics:
        click.echo(f"metrics: {addresses.metrics}/metrics")
