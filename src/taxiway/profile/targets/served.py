"""A model file or a registered version: a `taxiway serve` of its own is started for it, and stopped again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from taxiway.core.errors import InvalidArgument, TargetUnavailable
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.phases import Counters
from taxiway.profile.targets.asking import Address, Asker
from taxiway.profile.targets.oip_http import OipHttpTarget
from taxiway.profile.targets.rendering import check_header
from taxiway.profile.targets.target import Target
from taxiway.profile.wishes import Wishes
from taxiway.profile.workload import Workload

_READY: Final = b"taxiway is ready: "
_START_TIMEOUT_S: Final = 300.0
_STOP_TIMEOUT_S: Final = 15.0
_ALONE: Final = ("--http.port", "0", "--grpc.port", "0", "--metrics.port", "0", "--no-control.enabled")
_SAID_BYTES: Final = 2000


class ServedTarget:
    """What `taxiway serve WORD` serves; see `Target`.

    Args:
        word: a path or a reference, as the verb takes it.
        wishes: of the requests, and the server's own flags.

    Raises:
        InvalidArgument: a header cannot be sent.
    """

    def __init__(self, word: str, wishes: Wishes) -> None:
        for name, value in wishes.headers.items():
            check_header(name, value)
        self.name = word
        self._wishes = wishes
        self._server: asyncio.subprocess.Process | None = None
        self._log: Any = None
        self._inner: Target | None = None

    async def open(self) -> None:
        """Start the server, and wait until it is ready.

        Raises:
            TargetUnavailable: it does not start; with what it said.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        # In a session of its own: Ctrl-C is for us, who stop it.
        self._server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "taxiway.profile.targets.guarding",
            str(os.getpid()),
            *_ALONE,
            *self._wishes.serve_flags,
            self.name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        url = await self._ready()
        listed = await Asker(Address.parse(url), dict(self._wishes.headers)).get("/v2/models")
        self._inner = OipHttpTarget(
            replace(Address.parse(url), path=f"/v2/models/{self._chosen(listed['models'])}"),
            self._wishes.headers,
            binary=self._wishes.binary,
            shapes=self._wishes.shapes,
        )
        await self._inner.open()

    async def close(self) -> None:
        """Have the server drain; kill it if that takes too long."""
        server = self._server
        if server is not None and server.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await server.wait()
            except TimeoutError:
                os.killpg(server.pid, signal.SIGKILL)
                await server.wait()
        if self._log is not None:
            self._log.close()

    @property
    def door(self) -> Door:
        """The server's."""
        return self._open.door

    def render(self, workload: Workload | None) -> list[Shot]:
        """As of any v2 server."""
        return self._open.render(workload)

    async def counters(self) -> Counters | None:
        """Likewise."""
        return await self._open.counters()

    def process(self) -> int | None:
        """The server that was started."""
        return None if self._server is None else self._server.pid

    @property
    def _open(self) -> Target:
        if self._inner is None:
            raise InvalidArgument(f"{self.name} is not open", hint="await open() first")
        return self._inner

    async def _ready(self) -> str:
        """Its URL, once it says so."""
        output: Any = self._server.stdout if self._server is not None else None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while line := await output.readline():
                    if line.startswith(_READY):
                        return str(line.removeprefix(_READY).decode().strip())
        except TimeoutError:
            pass
        self._log.seek(0)
        said = self._log.read()[-_SAID_BYTES:].decode("utf-8", "replace").strip()
        raise TargetUnavailable(f"taxiway serve {self.name} did not start:\n{said}", hint=f"taxiway serve {self.name}")

    def _chosen(self, models: Sequence[Any]) -> str:
        names = sorted({str(one["name"] if isinstance(one, dict) else one) for one in models})
        wanted = self._wishes.model
        if wanted in names or len(names) == 1:
            return wanted if wanted in names else names[0]
        raise InvalidArgument(
            f"{self.name} has {len(names)} models: {', '.join(names)}", hint="choose one: --model NAME"
        )
