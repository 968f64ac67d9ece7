"""The control process: `python -m taxiway.control.process FD MAX`, started by the supervisor and by nobody else.

It is asked over the Unix socket FD, in frames of at most MAX bytes: serve, do (what a data-plane process asks), stop.
It may be killed at any moment: what it knows is in its journal. When the supervisor is gone it ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import uvloop

from taxiway.config.settings import Settings
from taxiway.control.wiring import Control
from taxiway.core.errors import EXIT_CODES, ErrorKind, Unavailable
from taxiway.server.channel import Channel, Verb
from taxiway.server.sentinel import Sentinel
from taxiway.telemetry.logs import Log, RepeatLimit, configure_logs
from taxiway.telemetry.slots import SlotWriter

_log = Log("taxiway.control")
_PUBLISH_S = 1.0


class ControlProcess:
    """What the supervisor may ask of this process."""

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._control: Control | None = None
        self._publishing: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serve until the supervisor says that it is over, or is gone; the exit status."""
        verbs: dict[str, Verb] = {"serve": self._serve, "do": self._do, "stop": self._stop}
        self._channel = Channel(verbs, int(sys.argv[2]))
        await self._channel.connect(self._socket)
        self._channel.closed.add_done_callback(lambda _: self._end(EXIT_CODES[ErrorKind.UNAVAILABLE]))
        return await self._over

    async def _serve(self, words: Mapping[str, Any]) -> None:
        settings = Settings.model_validate(words["settings"])
        limit = configure_logs(form=settings.log.format, level=settings.log.level)
        sockets = [socket.socket(fileno=number) for number in words["sockets"]]
        control = Control(settings, self._channel, os.environ)
        await control.open(sockets)
        self._control = control
        slot = SlotWriter(words["slot"])
        self._publishing = asyncio.get_running_loop().create_task(self._publish_always(control, slot, limit))
        _log.info("control_ready", address=words["url"])

    async def _do(self, words: Mapping[str, Any]) -> object:
        if self._control is None:
            raise Unavailable("the control process is starting", hint="try again")
        return await self._control.do(words["verb"], words["words"])

    async def _stop(self, words: Mapping[str, Any]) -> None:
        del words
        if self._control is not None:
            await self._control.close()
        asyncio.get_running_loop().call_soon(self._end, 0)  # once the answer is on its way

    async def _publish_always(self, control: Control, slot: SlotWriter, limit: RepeatLimit) -> NoReturn:
        """What is counted, for the supervisor's scrapes."""
        while True:
            try:
                slot.publish(control.points(limit.suppressed))
            except Exception as problem:  # noqa: BLE001 - the boundary: what was published before stays, and so do we
                _log.error("bug", error=problem)
            await asyncio.sleep(_PUBLISH_S)

    def _end(self, status: int) -> None:
        if not self._over.done():
            self._over.set_result(status)


def main() -> NoReturn:
    """Run; then leave at once: threads may be waiting for a database."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal's Ctrl-C, and systemd's SIGTERM, reach every process: the supervisor answers for all of them.
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    Sentinel(channel).start()
    status = uvloop.run(_run(channel))
    logging.shutdown()
    os._exit(status)


async def _run(channel: socket.socket) -> int:
    return await ControlProcess(channel).run()


if __name__ == "__main__":
    main()
