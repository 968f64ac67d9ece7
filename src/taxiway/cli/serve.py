"""`taxiway serve PATH...`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import uvloop

from taxiway.cli.options import load_from, settings_options
from taxiway.cli.served_refs import Sources, find_sources
from taxiway.config.settings import RegistrySettings, Settings
from taxiway.core.errors import EXIT_CODES, ErrorKind, TaxiwayError
from taxiway.deploy.local.machine import Verdict
from taxiway.deploy.local.succession import Predecessor
from taxiway.deploy.local.supervisor import Addresses, Outcome, Supervisor
from taxiway.telemetry.logs import Log, RepeatLimit, configure_logs

_log = Log("taxiway.server")


@click.command("serve")
@click.argument("words", nargs=-1, metavar="PATH|REF...")
@settings_options
def command(words: tuple[str, ...], config_file: Path | None, **flags: Any) -> None:  # noqa: ANN401 - click's values
    """Serve models: ONNX files, directories of them, Triton model repositories, or registered models.

    \b
      taxiway serve model.onnx
      taxiway serve models/ --http.port 9000 --compat triton
      taxiway serve fraud@stable credit:3

    Stops cleanly on SIGTERM and Ctrl-C: after SIGTERM it says for --limits.drain-delay-s that it is not ready, and
    serves; then what was taken is answered, for at most --limits.drain-timeout-s; if that runs out the exit code is 5.
    A second signal stops it at once, with 128 and the signal's number (130, 143). SIGUSR2 has another server,
    started by the same command, take its place without losing a request, as `taxiway admin upgrade` does.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    outcome = uvloop.run(_run(words, config_file, flags))
    if outcome.error is not None:
        raise outcome.error
    if outcome.late:
        sys.exit(EXIT_CODES[ErrorKind.DEADLINE_EXCEEDED])


async def _run(words: tuple[str, ...], config_file: Path | None, flags: dict[str, Any]) -> Outcome:
    predecessor = await Predecessor.of(os.environ)
    settings = load_from(config_file, flags).settings
    if words:
        sources = _sources(words, settings.registry, predecessor)
        settings = load_from(config_file, flags, sources.paths).settings.trusting(sources.trust)
    limit = configure_logs(form=settings.log.format, level=settings.log.level)
    return await _serve(settings, limit, predecessor)


def _sources(words: tuple[str, ...], registry: RegistrySettings, predecessor: Predecessor | None) -> Sources:
    """An alias may have moved since the server was started whose place we take; its versions have not."""
    if predecessor is None:
        return find_sources(words, registry, os.environ)
    trust = {name: tuple(digests) for name, digests in predecessor.trust.items()}
    return Sources(tuple(map(Path, predecessor.paths)), trust)


async def _serve(settings: Settings, limit: RepeatLimit, predecessor: Predecessor | None) -> Outcome:
    supervisor = Supervisor(settings, _announce, lambda: limit.suppressed, predecessor, _succeeded)
    stop = _Stop(supervisor, settings.limits.drain_delay_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.heard, number)
    upgrade = _Upgrade(supervisor)
    loop.add_signal_handler(signal.SIGUSR2, upgrade.heard)
    outcome = await supervisor.run()
    if outcome.verdict is Verdict.STOPPED_AT_START:
        _die_of(stop.first)
    return outcome


class _Stop:
    """What signals do: the first drains, the second ends at once."""

    def __init__(self, supervisor: Supervisor, delay_s: float) -> None:
        self.first = signal.SIGTERM
        self._supervisor = supervisor
        self._delay_s = delay_s
        self._asked = False

    def heard(self, number: signal.Signals) -> None:
        """Somebody who presses Ctrl-C routes nothing to us: no delay."""
        _log.info("signal", signal=number.name)
        if self._asked:
            self._supervisor.kill()
            _leave(128 + number)
        self.first, self._asked = number, True
        _notify("STOPPING=1")
        self._supervisor.stop(self._delay_s if number == signal.SIGTERM else 0.0)


class _Upgrade:
    """SIGUSR2, as for other servers: start another one in our place."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._asking: asyncio.Task[None] | None = None

    def heard(self) -> None:
        """Somebody wants it."""
        _log.info("signal", signal="SIGUSR2")
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        try:
            await self._supervisor.upgrade()
        except TaxiwayError as problem:
            _log.error("upgrade_failed", error=problem)


def _succeeded(pid: int) -> None:
    """Systemd is to watch the server that serves in our place."""
    _notify(f"MAINPID={pid}")


def _die_of(number: signal.Signals) -> NoReturn:
    """End as if the signal had not been caught: nothing was owed to anybody yet."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    _leave(128 + number)


def _leave(code: int) -> NoReturn:
    """Exit now."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _notify(state: str) -> None:
    """Tell systemd, where it asked to be told (`Type=notify`; sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        manager.send(state.encode())


def _announce(addresses: Addresses) -> None:
    lines = [f"taxiway is ready: {addresses.http}"]
    if addresses.metrics:
        lines.append(f"metrics: {addresses.metrics}/metrics")
    if addresses.http_unix:
        lines.append(f"unix socket: {addresses.http_unix}")
    if addresses.grpc:
        lines.append(f"grpc: {addresses.grpc}")
    if addresses.control:
        lines.append(f"control: {addresses.control}")
    _notify("READY=1")
    try:
        click.echo("\n".join(lines))
    except OSError:  # nobody reads it, which is no reason to end; what is left of it shall not fail at the end either
        with open(os.devnull, "w", encoding="ascii") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
