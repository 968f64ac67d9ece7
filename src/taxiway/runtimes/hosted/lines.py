"""What a guest speaks to the data plane through."""

from __future__ import annotations

from typing import NamedTuple

from taxiway.runtimes.hosted.arena import ArenaReader
from taxiway.runtimes.hosted.batch import Outbox
from taxiway.runtimes.hosted.mailbox import Mailbox


class Lines(NamedTuple):
    """The socket and the two arenas of this process."""

    mailbox: Mailbox
    inbox: ArenaReader
    outbox: Outbox
