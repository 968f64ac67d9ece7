"""A process that forks control processes on a journal: one that is killed at a point of its work, or several at once.

`python -m tests.support.journal_forks` reads one JSON array per line, as `registry_forks` does:
`["points", url, inbox]`, `["die", url, inbox, point]`, `["turns", url, writers, each]`. `inbox` is a file: a line for
each letter that arrived.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.journals import lead, live, stepped
from tests.support.registry_forks import Points, ended, forked

from taxiway.core.errors import NotLeader
from taxiway.rollout import commands as ask
from taxiway.rollout.journal import Journal, Leadership, Transition
from taxiway.rollout.nouns import Rollout

LIFE_OF = "r-1"


def receive(inbox: Path, delivery: str) -> None:
    with inbox.open("a") as file:
        file.write(f"{delivery}\n")


def work(url: str, inbox: str) -> None:
    """A whole life, from an empty database on; done again it completes what is missing."""
    with Journal.open(url) as journal:
        leader = lead(journal)
        live(journal, leader, LIFE_OF, lambda delivery: receive(Path(inbox), delivery))
        journal.lease.give_back(leader)


def work_until(url: str, inbox: str, fatal: int) -> int:
    points = Points(fatal)
    points.watch()
    work(url, inbox)
    return points.passed


# --- several at once -----------------------------------------------------------------------------------


def take_turns(url: str, writer: int, each: int) -> None:
    """Lead, pause or resume the rollout `r-1`, let others lead; and again. Who has led cannot write any more."""
    before: Leadership | None = None
    with Journal.open(url) as journal:
        for _ in range(each):
            leader = lead(journal, patience_s=60)
            if before is not None:
                refuse(journal, before)
            turn(journal, leader, f"writer {writer}")
            journal.lease.give_back(leader)
            before = leader


def turn(journal: Journal, leader: Leadership, actor: str) -> None:
    def decide(found: Rollout, now_ns: int) -> Transition | None:
        return stepped(found, ask.Resume() if found.paused else ask.Pause(), now_ns)

    seen = journal.rollout("r-1")
    journal.transition(leader, actor, "r-1", decide, expect_generation=seen.generation)


def refuse(journal: Journal, before: Leadership) -> None:
    try:
        turn(journal, before, "a leader of old")
    except NotLeader:
        return
    raise AssertionError("who no longer leads has written")


# --- the process ---------------------------------------------------------------------------------------


def obey(order: str, url: str, *details: str | int) -> object:
    if order == "turns":
        writers, each = map(int, details)
        children = [forked(lambda writer=writer: take_turns(url, writer, each)) for writer in range(writers)]  # type: ignore[misc]
        return [ended(*child) for child in children]
    inbox, fatal = str(details[0]), int(details[1]) if order == "die" else 0
    return ended(*forked(lambda: work_until(url, inbox, fatal)))


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(obey(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
