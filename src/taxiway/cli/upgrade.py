"""`taxiway admin upgrade`: asks for another server, and waits until it serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from taxiway.cli.control_client import ControlClient, with_control
from taxiway.cli.desk import output_option, tell
from taxiway.core.errors import FailedPrecondition, TaxiwayError, Unavailable

_LOOK_EVERY_S: Final = 0.2


@click.command("upgrade")
@with_control
@click.option("--status", is_flag=True, help="Only tell which server serves, and how its last upgrade went.")
@click.option("--timeout-s", type=click.FloatRange(min=0), default=1800.0, show_default=True, help="How long to wait.")
@output_option
def command(client: ControlClient, output: str, timeout_s: float, *, status: bool) -> None:
    """Have a new server take the place of the running one, on the same ports, without losing a request.

    It is started by the command that the running one was started with: after `pip install --upgrade taxiway` it is
    the new release, after a change of the settings it is one that follows them. It needs memory for both at the same
    time. If it cannot serve, the running one goes on.

    \b
      pip install --upgrade taxiway && taxiway admin upgrade
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    before = client.get("/v1/server")
    if status:
        tell(output, before, lambda: _status_lines(before))
        return
    client.post("/v1/server/upgrade", {})
    now = _once_replaced(client, before["pid"], timeout_s)
    tell(output, now, lambda: [f"taxiway {now['version']} serves now (process {now['pid']})"])


def _status_lines(told: Mapping[str, Any]) -> list[str]:
    lines = [f"taxiway {told['version']}, process {told['pid']}"]
    upgrade = told["upgrade"]
    if upgrade["state"] != "none":
        lines.append(f"last upgrade: {upgrade['state']}{': ' if upgrade['error'] else ''}{upgrade['error']}")
    return lines


def _once_replaced(
    client: ControlClient, pid: int, timeout_s: float, now_s: Callable[[], float] = time.monotonic
) -> Mapping[str, Any]:
    """What the new server says of itself, once it decides.

    Raises:
        FailedPrecondition: it came to nothing.
        Unavailable: it does not serve within `timeout_s`.
    """
    until_s = now_s() + timeout_s
    while now_s() < until_s:
        told = _told(client)
        if told is not None and told["pid"] != pid:
            return told
        if told is not None and told["upgrade"]["state"] == "failed":
            raise FailedPrecondition(
                f"the server was not replaced: {told['upgrade']['error']}", hint=f"process {pid} serves on"
            )
        time.sleep(_LOOK_EVERY_S)
    raise Unavailable(
        f"the new server does not serve after {timeout_s:g} s",
        hint="`taxiway admin upgrade --status` tells how it goes",
    )


def _told(client: ControlClient) -> Mapping[str, Any] | None:
    """None while one control process has ended and the next one has not begun."""
    try:
        told: Mapping[str, Any] = client.get("/v1/server")
    except TaxiwayError:
        return None
    return told
