"""The data-plane processes of one server, spoken to as one: what changes one of them must change all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from taxiway.core.errors import Unavailable
from taxiway.server.channel import Channel, Gone, Verb


@dataclass(frozen=True, slots=True)
class Lasting:
    """That an instruction changes something for good: a process that starts later is told the last one of each thing.

    Attributes:
        what: the kind of thing that it changes.
        name: which of them, a caller's own word; None stands for all of them.
    """

    what: str
    name: str | None = None


class Fleet(Protocol):
    """Every data-plane process, this one included."""

    async def ask(self, verb: str, words: Mapping[str, Any], lasting: Lasting | None = None) -> list[Any]:
        """Have every process do `verb`; their answers, this process's first.

        A process that ends meanwhile is left out.

        Args:
            verb: one of those that the processes were made with.
            words: plain data (what JSON holds, and bytes).
            lasting: if it changes something for good, what.

        Raises:
            TaxiwayError: the first error of any of them; the others did what they were asked.
        """

    async def ask_control(self, verb: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        """Have the control process do `verb`.

        Raises:
            Unavailable: there is none, or it does not answer.
            TaxiwayError: its error.
        """


class Alone:
    """A fleet of one."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self._verbs = verbs
        self._doing: set[asyncio.Task[Any]] = set()

    async def ask(self, verb: str, words: Mapping[str, Any], lasting: Lasting | None = None) -> list[Any]:  # noqa: ARG002 - nobody starts later
        """Do it here, to its end: like other processes, it does not stop halfway because whoever asked has gone."""
        task = asyncio.ensure_future(self._do(verb, words))
        self._doing.add(task)
        task.add_done_callback(self._done)
        return [await asyncio.shield(task)]

    async def ask_control(self, verb: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401, ARG002 - there is none
        """There is no other process, this one included."""
        raise Unavailable("the server has no control process", hint="`taxiway serve` starts one")

    async def _do(self, verb: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        return await self._verbs[verb](words)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._doing.discard(task)
        if not task.cancelled():
            task.exception()  # heard: whoever asked may have gone


class Supervised:
    """A fleet as one of its processes sees it: the supervisor at the other end of `channel` asks them all."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def ask(self, verb: str, words: Mapping[str, Any], lasting: Lasting | None = None) -> list[Any]:
        """Have the supervisor ask every process, this one too."""
        kept = None if lasting is None else asdict(lasting)
        try:
            answers: list[Any] = await self._channel.ask("fleet", {"verb": verb, "words": words, "lasting": kept})
        except Gone:
            raise Unavailable("the server is shutting down", hint="ask another replica") from None
        return answers

    async def ask_control(self, verb: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        """Have the supervisor ask the control process."""
        try:
            return await self._channel.ask("control", {"verb": verb, "words": words})
        except Gone:
            raise Unavailable("the server is shutting down", hint="ask another replica") from None
