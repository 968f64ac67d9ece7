"""What the control plane may ask of a process about traffic: to split it so, what came of it, and to heed a fuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from taxiway.core.errors import InvalidArgument, TaxiwayError
from taxiway.core.traffic import Arm, Companion, FuseBlown, Swap, Traffic
from taxiway.server.channel import Verb
from taxiway.server.fleet import Fleet, Lasting
from taxiway.server.models.companions import Companions
from taxiway.server.models.roster import ModelRoutes
from taxiway.server.models.served import ServedModel
from taxiway.server.splitting.book import SplitBook
from taxiway.server.splitting.split import Split
from taxiway.telemetry.logs import Log

_log = Log("taxiway.traffic")


class TrafficDesk:
    """Keeps how requests are split, beside what is served.

    Args:
        companions: has versions loaded beside what is served.
        reroute: called when either changed otherwise than by `splits`: the snapshot has to be made anew.
        place: of this process among all of the server's, 0 to 1.
    """

    def __init__(self, companions: Companions, reroute: Callable[[], None], place: float = 0.5) -> None:
        self._companions = companions
        self.fleet: Fleet | None = None
        """All processes of the server, once they can be spoken to."""
        self.book = SplitBook(reroute, self._tell_others, place)
        self._reroute = reroute
        self._routes: Mapping[str, ModelRoutes] = {}
        self._telling: set[asyncio.Task[Any]] = set()

    def verbs(self) -> dict[str, Verb]:
        """What may be asked of this process."""
        return {
            "traffic_set": self._set,
            "traffic_report": self._report,
            "traffic_fuse": self._heed,
            "traffic_stage": self._stage,
            "traffic_release": self._release,
            "traffic_swap": self._swap,
            "traffic_versions": self._versions,
        }

    def splits(self, routes: Mapping[str, ModelRoutes]) -> dict[str, Split]:
        """How requests are split among these versions."""
        self._routes = routes
        return self.book.splits(self._find)

    def _find(self, arm: Arm) -> ServedModel | None:
        model = self._routes.get(arm.key)
        return None if model is None else model.served.get(arm.version)

    # --- verbs ------------------------------------------------------------------------------------------------

    async def _set(self, words: Mapping[str, Any]) -> None:
        self.book.set(_read(words, Traffic), self._find)
        self._reroute()

    async def _stage(self, words: Mapping[str, Any]) -> None:
        await self._companions.stage(_read(words, Companion))

    async def _release(self, words: Mapping[str, Any]) -> None:
        await self._companions.release(str(words["key"]))

    async def _swap(self, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        return msgspec.to_builtins(await self._companions.swap(_read(words, Swap)))

    async def _versions(self, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        return {str(number): ready for number, ready in self._companions.versions(str(words["service"])).items()}

    async def _report(self, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        report = self.book.report(str(words["service"]))
        return None if report is None else msgspec.to_builtins(report, builtin_types=(bytes,))

    async def _heed(self, words: Mapping[str, Any]) -> None:
        self.book.take_blown(str(words["service"]), str(words["rollout"]), _read(words["blown"], FuseBlown))

    def _tell_others(self, service: str, rollout: str, blown: FuseBlown) -> None:
        if self.fleet is None:
            return
        words = {"service": service, "rollout": rollout, "blown": msgspec.to_builtins(blown)}
        task = asyncio.ensure_future(self._tell(self.fleet, words))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, fleet: Fleet, words: Mapping[str, Any]) -> None:
        try:
            await fleet.ask("traffic_fuse", words, Lasting("fuse", str(words["service"])))
        except TaxiwayError as error:
            _log.error("fuse_not_told", model=str(words["service"]), error=error)


def _read(words: Any, kind: type[Any]) -> Any:  # noqa: ANN401 - plain data
    try:
        return msgspec.convert(words, kind)
    except msgspec.ValidationError as problem:
        raise InvalidArgument(
            f"what was said about traffic is not understood: {problem}", hint="is the control process of this release?"
        ) from None
