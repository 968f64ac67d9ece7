"""The data-plane processes of one server, spoken to as one: what changes one of them must change all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

Verb = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Does one thing in this process, with plain data as words, and answers with plain data."""


class Fleet(Protocol):
    """Every data-plane process, this one included."""

    async def ask(self, verb: str, words: Mapping[str, Any]) -> list[Any]:
        """Have every process do `verb`; their answers, this process's first.

        Args:
            verb: one of those that the processes were made with.
            words: plain data (what JSON holds, and bytes).

        Raises:
            TaxiwayError: the first error of any of them; the others did what they were asked.
        """


class Alone:
    """A fleet of one."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self._verbs = verbs

    async def ask(self, verb: str, words: Mapping[str, Any]) -> list[Any]:
        """Do it here."""
        return [await self._verbs[verb](words)]
