"""The Protocol of everything that can be measured."""

from __future__ import annotations

from typing import Protocol

from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.phases import Counters
from taxiway.profile.workload import Workload


class Target(Protocol):
    """A server, or whatever answers requests.

    Attributes:
        name: what a person calls it.
    """

    name: str

    async def open(self) -> None:
        """Get ready to be asked: start what must be started, ask what the model takes.

        Raises:
            ProfileTargetUnavailable: nobody answers there.
            NotFound: the model is not there.
        """

    async def close(self) -> None:
        """Stop what `open` started."""

    @property
    def door(self) -> Door:
        """Where requests go."""

    def render(self, workload: Workload | None) -> list[Shot]:
        """One shot for each request of the workload; without one, what the model's description asks for.

        Raises:
            InvalidArgument: a request of the workload is none for this target, or one is needed.
        """

    async def counters(self) -> Counters | None:
        """What the server has counted so far; None where it does not tell."""

    def process(self) -> int | None:
        """The server's process, where it runs on this machine and can be seen."""
