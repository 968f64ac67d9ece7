"""One server takes another's place, on the same ports: an upgrade of taxiway, or of its settings, without a pause.

The old server starts the new one, by the command that it was started with itself, and stays as it is until the new one
serves. The new one loads everything, what was loaded meanwhile too; then the old one's control process ends, and who
gets traffic is handed over; then the new one listens beside the old one, and says so; only then does the old one let
its clients go, and end. Whatever becomes of the new one before that, the old one goes on as before.

The two speak through a Unix socket pair (server/channel.py). Either may be of another release: what is said is plain
data, and PROTOCOL tells its form.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict
from time import time
from typing import Any, Final, Self

from taxiway import __version__
from taxiway.config.settings import Settings
from taxiway.core.errors import FailedPrecondition, InternalError, TaxiwayError, Unsupported
from taxiway.deploy.local.control import ControlKeeper
from taxiway.deploy.local.doors import Doors, Heritage
from taxiway.deploy.local.machine import Exit, told_of
from taxiway.deploy.local.relay import Instruction, Relay
from taxiway.server.channel import Channel, Gone, Verb, frame_limit
from taxiway.server.fleet import Lasting
from taxiway.telemetry.logs import Log

_log = Log("taxiway.server")
PROTOCOL: Final = 1
"""Of what two servers say to each other."""
_VARIABLE: Final = "TAXIWAY_SUCCEEDS"
"""Tells a new server, through its environment, where the old one listens: a file number, and the longest frame."""
_PATIENCE_S: Final = 1800.0
"""How long a new server may take to load everything."""


# --- the old server's side -----------------------------------------------------------------------------------


class Succession:
    """Has another server take the place of this one.

    Args:
        settings: of this server.
        doors, relay, control: what it hands over.
        leave: called with the process id of the server that serves now in this one's place.
    """

    def __init__(
        self,
        settings: Settings,
        doors: Doors,
        relay: Relay,
        control: ControlKeeper | None,
        leave: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._doors = doors
        self._relay = relay
        self._control = control
        self._leave = leave
        self._state = "none"
        self._error = ""
        self._since_s = 0.0
        self._steered = False
        self._kept: list[Instruction] = []
        self._process: asyncio.subprocess.Process | None = None
        self._living: asyncio.Task[None] | None = None

    def told(self) -> dict[str, Any]:
        """Who serves, and what became of the last upgrade: `none`, `loading`, `serving` or `failed`.

        Not the command line: there may be a database's password in it.
        """
        upgrade = {"state": self._state, "error": self._error, "since_s": self._since_s}
        return {"pid": os.getpid(), "version": __version__, "upgrade": upgrade}

    async def begin(self) -> dict[str, Any]:
        """Start a server that is to take our place.

        Raises:
            FailedPrecondition: that cannot be done, or is being done.
            InternalError: the system has no room for it.
        """
        self._check()
        self._become("loading")
        try:
            channel = await self._start()
        except (OSError, TaxiwayError) as problem:
            self._become("failed", str(problem))
            raise InternalError(
                f"another server cannot be started: {problem}", hint="see `ulimit -u`, `ulimit -n` and free memory"
            ) from problem
        self._living = asyncio.get_running_loop().create_task(self._live(channel))
        return self.told()

    def kill(self) -> None:
        """This server ends: nobody is to take its place, unless somebody has."""
        if self._process is not None and self._state == "loading":
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _check(self) -> None:
        if self._state in ("loading", "serving"):
            raise FailedPrecondition(
                "an upgrade is under way", hint="`taxiway admin upgrade --status` tells how it goes"
            )
        if os.getpid() == 1:
            raise FailedPrecondition(
                "this server is the first process of its container, which ends with it",
                hint="replace the container: start another one, and send traffic there once it is ready",
            )
        if self._settings.grpc.enabled and self._settings.grpc.unix_socket:
            raise FailedPrecondition(
                f"grpc.unix_socket = {self._settings.grpc.unix_socket}: its file cannot be handed to another server",
                hint="restart the server instead, or use gRPC's port",
            )

    async def _start(self) -> Channel:
        limit = frame_limit(self._settings.limits.max_body_bytes)
        verbs: dict[str, Verb] = {
            "inherit": self._inherit,
            "kept": self._tell_kept,
            "steer": self._steer,
            "serving": self._serving,
        }
        ours, theirs = socket.socketpair()
        with theirs:
            channel = Channel(verbs, limit)
            await channel.connect(ours)
            queues = [number for numbers in self._doors.heritage().queues.values() for number in numbers]
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command_line(),
                    pass_fds=[theirs.fileno(), *queues],
                    env={**os.environ, _VARIABLE: f"{theirs.fileno()}:{limit}"},
                )
            except OSError:
                channel.close()
                raise
        _log.info("upgrade_started", pid=self._process.pid)
        return channel

    async def _live(self, channel: Channel) -> None:
        """Until the other server serves, or has ended."""
        process = self._process
        assert process is not None  # noqa: S101 - it was started just now
        overdue = asyncio.get_running_loop().call_later(_PATIENCE_S, self.kill)
        status = await process.wait()
        overdue.cancel()
        channel.close()
        if self._state == "loading":
            self._fail(told_of(Exit(status)))

    def _fail(self, reason: str) -> None:
        self._become("failed", f"the new server came to nothing: {reason}; its own lines in the log tell why")
        _log.error(
            "upgrade_failed", reason=reason, hint="this server serves on; its own lines tell why the other ended"
        )
        self._relay.take_back()
        if self._steered and self._control is not None:
            self._control.resume()
        self._steered = False

    # --- what the new server asks -------------------------------------------------------------------------

    async def _inherit(self, words: Mapping[str, Any]) -> dict[str, Any]:
        if words["protocol"] != PROTOCOL:
            raise Unsupported(
                f"taxiway {words['version']} takes over in another way (protocol {words['protocol']}, not {PROTOCOL})",
                hint="restart the server instead",
            )
        self._kept = await self._relay.hand_over(quick=False)
        return {
            "heritage": asdict(self._doors.heritage()),
            "paths": [str(path) for path in self._settings.models.paths],
            "trust": {name: list(one.trust) for name, one in self._settings.models.overrides.items() if one.trust},
            "kept": len(self._kept),
        }

    async def _tell_kept(self, words: Mapping[str, Any]) -> list[Any]:
        """One at a time: files of models may be among them."""
        return _plain(self._kept[words["place"]])

    async def _steer(self, words: Mapping[str, Any]) -> list[Any]:
        """From here on the other server decides who gets traffic; what was decided here."""
        del words
        self._steered = True
        if self._control is not None:
            await self._control.end()
        return [_plain(one) for one in await self._relay.hand_over(quick=True)]

    async def _serving(self, words: Mapping[str, Any]) -> None:
        del words
        assert self._process is not None  # noqa: S101 - it asks
        self._become("serving")
        _log.info("upgrade_serves", pid=self._process.pid)
        self._leave(self._process.pid)

    def _become(self, state: str, error: str = "") -> None:
        self._state, self._error, self._since_s = state, error, time()


def command_line() -> list[str]:
    """What started this process, so that it finds what has been installed since in its place."""
    script = sys.argv[0]
    if os.access(script, os.X_OK) and not script.endswith(".py"):
        return [script, *sys.argv[1:]]
    interpreter, *words = sys.orig_argv
    return [shutil.which(interpreter) or sys.executable, *words]


# --- the new server's side -----------------------------------------------------------------------------------


class Predecessor:
    """The server whose place this one takes.

    Attributes:
        heritage: what it holds.
        paths: what it serves.
        trust: digests that models' processes may load, by model.
        kept: what was changed since it started, but for who gets traffic.
    """

    def __init__(self, channel: Channel, told: Mapping[str, Any], kept: Sequence[Instruction]) -> None:
        self._channel = channel
        self.heritage = Heritage.from_data(told["heritage"])
        self.paths: Sequence[str] = told["paths"]
        self.trust: Mapping[str, Sequence[str]] = told["trust"]
        self.kept = kept
        self._steering: asyncio.Task[list[Instruction]] | None = None

    @classmethod
    async def of(cls, environ: MutableMapping[str, str]) -> Self | None:
        """The one that started this process, if a server did; its name is taken out of `environ`.

        Raises:
            TaxiwayError: its refusal.
        """
        told = environ.pop(_VARIABLE, "")
        if not told:
            return None
        number, limit = told.split(":")
        channel = Channel({}, int(limit))
        await channel.connect(socket.socket(fileno=int(number)))
        try:
            told = await channel.ask("inherit", {"protocol": PROTOCOL, "version": __version__})
            kept = [_instruction(await channel.ask("kept", {"place": place})) for place in range(told["kept"])]
        except Gone:
            raise FailedPrecondition("the server whose place this one was to take has ended", hint="start it") from None
        return cls(channel, told, kept)

    async def steering(self) -> list[Instruction]:
        """Who gets traffic; from here on that is decided here. Asked once, however many workers wait for it."""
        if self._steering is None:
            self._steering = asyncio.create_task(self._steer())
        return await asyncio.shield(self._steering)

    async def _steer(self) -> list[Instruction]:
        try:
            return [_instruction(one) for one in await self._channel.ask("steer", {})]
        except Gone:
            return []  # it was killed: what it knew of traffic is in the journal

    async def serving(self) -> None:
        """We serve: it may go."""
        with contextlib.suppress(Gone):
            await self._channel.ask("serving", {})
        self._channel.close()


def _plain(instruction: Instruction) -> list[Any]:
    lasting, verb, words = instruction
    return [lasting.what, lasting.name, verb, dict(words)]


def _instruction(plain: Sequence[Any]) -> Instruction:
    what, name, verb, words = plain
    return Lasting(what, name), verb, words
