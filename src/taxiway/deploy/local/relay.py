"""What one worker asks of all of them: passed on, answered together, and kept for workers that start later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from taxiway.core.errors import Overloaded, TaxiwayError, Unavailable
from taxiway.server.channel import Channel, Gone
from taxiway.server.fleet import Lasting
from taxiway.telemetry.logs import Log

_log = Log("taxiway.server")
_READ_S = 5.0
"""How long a worker may take to tell something; one that is stuck is left out."""
_CHANGE_S = 600.0
"""How long a worker may take to change something: loading a model takes as long as it takes."""
_QUICK = frozenset({"traffic", "fuses"})
"""Changes that wait for none of the others: who gets traffic changes while models are loading. They are fenced by
generations of their own, and need no order."""
MAX_KEPT = 10_000
MAX_KEPT_BYTES = 1 << 30
"""Instructions that are kept, and the bytes of files in them; what would be more is refused."""


Instruction = tuple[Lasting, str, Mapping[str, Any]]
"""What it changes, a verb of the workers, and its words."""


class Kept:
    """The instructions that a worker which starts later must be told too: the last one of each thing, in order."""

    def __init__(self) -> None:
        self._instructions: dict[Lasting, tuple[str, Mapping[str, Any]]] = {}
        self._bytes: dict[Lasting, int] = {}

    def keep(self, lasting: Lasting, verb: str, words: Mapping[str, Any]) -> None:
        """Put this instruction in the place of what was kept of the same thing."""
        for old in self._displaced(lasting):
            del self._instructions[old], self._bytes[old]
        self._instructions[lasting] = (verb, words)
        self._bytes[lasting] = bytes_in(words)

    def check_room(self, lasting: Lasting, words: Mapping[str, Any]) -> None:
        """Refuse what could not be kept.

        Raises:
            Overloaded: as much is kept as may be.
        """
        displaced = self._displaced(lasting)
        held = sum(self._bytes.values()) - sum(self._bytes[old] for old in displaced)
        count = len(self._instructions) - len(displaced)
        if count >= MAX_KEPT or held + bytes_in(words) > MAX_KEPT_BYTES:
            raise Overloaded(
                f"{count} changes with {held} bytes of files are kept for workers that start later; that is the most",
                hint="put models into the repository instead of sending their files",
            )

    def _displaced(self, lasting: Lasting) -> list[Lasting]:
        return [old for old in self._instructions if old.what == lasting.what and lasting.name in (old.name, None)]

    def told(self, *, quick: bool) -> list[Instruction]:
        """Each that is quick, or each that is not, oldest first."""
        kept = self._instructions.items()
        return [(lasting, *told) for lasting, told in kept if (lasting.what in _QUICK) == quick]


class Relay:
    """Asks every worker that takes requests; changes go one at a time, so that all workers see the same order.

    Those of traffic have a turn of their own, and wait for no model that is being loaded.

    Args:
        models_changed: called when at least one of them has loaded or unloaded a model.
        caught_up: waited for when a new worker has every model, before it is told who gets traffic.
    """

    def __init__(self, models_changed: Callable[[], None], caught_up: Callable[[], Awaitable[None]]) -> None:
        self._models_changed = models_changed
        self._caught_up = caught_up
        self._away: set[bool] = set()
        """Whether instructions that are quick, and those that are not, are another server's now."""
        self._members: dict[int, Channel] = {}
        self._kept = Kept()
        self._changing = asyncio.Lock()
        self._steering = asyncio.Lock()

    async def admit(self, index: int, channel: Channel, open_ports: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Tell a new worker what was changed since the start, have it open its ports, and count it in.

        A change that it cannot make is logged, and does not keep it from serving everything else.

        Raises:
            TaxiwayError, Gone: it could not open its ports, or ended.
        """
        async with self._changing:
            await self._repeat(index, channel, quick=False)
            await self._caught_up()
            async with self._steering:
                await self._repeat(index, channel, quick=True)
                opened = await open_ports()
                self._members[index] = channel
        return opened

    async def _repeat(self, index: int, channel: Channel, *, quick: bool) -> None:
        for _, verb, words in self._kept.told(quick=quick):
            try:
                await channel.ask("do", {"verb": verb, "words": words}, _READ_S if quick else _CHANGE_S)
            except (TaxiwayError, TimeoutError) as problem:
                _log.error("change_not_repeated", worker=index, reason=verb, error=problem)

    def dismiss(self, index: int, channel: Channel) -> None:
        """Ask this one no more."""
        if self._members.get(index) is channel:
            del self._members[index]

    async def ask(self, asker: int, words: Mapping[str, Any]) -> list[Any]:
        """Have every worker do it; the asker's answer first, and without those of workers that end meanwhile.

        Raises:
            TaxiwayError: the first error of any of them, or none is left that could have answered.
        """
        verb, inner = words["verb"], words["words"]
        if words["lasting"] is None:
            return _sorted_out(await self._ask_all(asker, verb, inner, _READ_S))
        lasting = Lasting(**words["lasting"])
        quick = lasting.what in _QUICK
        async with self._steering if quick else self._changing:
            if quick in self._away:
                raise _replaced()
            self._kept.check_room(lasting, inner)
            answers = await self._ask_all(asker, verb, inner, _READ_S if quick else _CHANGE_S)
            if not all(isinstance(answer, BaseException) for answer in answers):
                self._kept.keep(lasting, verb, inner)
                if lasting.what == "models":  # regions and settings come often, and help nobody to start
                    self._models_changed()
        return _sorted_out(answers)

    async def ask_one(self, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        """Have any of the workers do what changes none of them.

        Raises:
            TaxiwayError: its error.
            Unavailable: none answered.
        """
        channel = next(iter(self._members.values()), None)
        if channel is None:
            raise _silent()
        try:
            return await channel.ask("do", {"verb": words["verb"], "words": words["words"]}, words["timeout_s"])
        except (Gone, TimeoutError):
            raise _silent() from None

    # --- to the next server -------------------------------------------------------------------------------

    async def hand_over(self, *, quick: bool) -> list[Instruction]:
        """What is kept, once nothing is being changed; whoever changes it from here on is refused."""
        async with self._steering if quick else self._changing:
            self._away.add(quick)
            return self._kept.told(quick=quick)

    def take_back(self) -> None:
        """The other server came to nothing."""
        self._away.clear()

    def inherit(self, instructions: Iterable[Instruction]) -> None:
        """Keep what another server had kept."""
        for lasting, verb, words in instructions:
            self._kept.keep(lasting, verb, words)

    async def _ask_all(self, asker: int, verb: str, words: Mapping[str, Any], timeout_s: float) -> list[Any]:
        members = sorted(self._members, key=lambda index: (index != asker, index))
        asked = (self._members[index].ask("do", {"verb": verb, "words": words}, timeout_s) for index in members)
        return await asyncio.gather(*asked, return_exceptions=True)


def _replaced() -> Unavailable:
    return Unavailable(
        "the server is being replaced by a newer one, and changes nothing any more",
        hint="ask again in a moment",
        retry_after_s=1.0,
    )


def _silent() -> Unavailable:
    return Unavailable("no process of the server answered", hint="ask again; the log tells what became of them")


def _sorted_out(answers: list[Any]) -> list[Any]:
    good = []
    for answer in answers:
        if isinstance(answer, Gone | TimeoutError):
            continue
        if isinstance(answer, BaseException):
            raise answer
        good.append(answer)
    if not good:
        raise _silent()
    return good


def bytes_in(words: object) -> int:
    """Bytes of files and texts in an instruction."""
    if isinstance(words, bytes | str):
        return len(words)
    if isinstance(words, Mapping):
        return sum(bytes_in(value) for value in words.values())
    return sum(map(bytes_in, words)) if isinstance(words, list | tuple) else 0
