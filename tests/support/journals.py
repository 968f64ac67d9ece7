"""Journals to test with: rollouts of their own names, the real machine's steps, and whole lives of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from tests.support.registries import Place
from tests.support.rollout_states import rollout, verdict

from taxiway.registry.outbox import Message
from taxiway.rollout import commands as ask
from taxiway.rollout import events as told
from taxiway.rollout.answers import Answer, Feedback, Scored
from taxiway.rollout.blobs import Packed
from taxiway.rollout.chain import Event
from taxiway.rollout.journal import Asked, Journal, Leadership, Transition, delivery_id
from taxiway.rollout.leading import Process
from taxiway.rollout.machine import begin, replay, step
from taxiway.rollout.nouns import Evidence, Outcome, Phase, Rollout, Score, Segment, Tally

ACTOR: Final = "ada"
FAILED: Final = told.Looked(verdict(Outcome.FAIL), 1e6)
PASSED: Final = told.Looked(verdict(Outcome.PASS), 1e9)


@dataclasses.dataclass
class JournalPlace(Place):
    """Where a journal lies: `url` is its database's."""

    def journal(self) -> Journal:
        return Journal.open(self.url, clock=self.clock)


def process(name: str, machine: str = "elsewhere") -> Process:
    """One of another machine, so that nobody can see whether it lives."""
    return Process(name, machine, 7, 7)


def of(number: str, service: str = "pay", **plan: Any) -> Rollout:
    """A rollout that waits for its turn."""
    return msgspec.structs.replace(rollout(**plan), id=number, service=service)


def evidence(seed: int = 0) -> Evidence:
    """Some, with floats that decimal digits are not kind to, and arms in no alphabetical order."""
    tally = Tally(assigned=seed + 3, answered=seed + 2, failed=1, latency=[(7, seed + 1), (12, 1)])
    segment = Segment(1, {"candidate": 0.1 + 0.2, "baseline": 0.1, "control": 1e-300}, {"candidate": tally})
    return Evidence([segment], [Score("candidate", "feedback", 0.05, 1 / 3)])


def started(new: Rollout) -> Transition:
    """Its beginning."""
    made = begin(new, ACTOR)
    return Transition(None, new, made.kind, made.payload)


def stepped(
    before: Rollout,
    event: told.Event,
    now_ns: int,
    gathered: Evidence | None = None,
    letters: Sequence[Message] = (),
) -> Transition | None:
    """What the machine makes of it."""
    if gathered is not None and isinstance(event, told.Looked):
        event = msgspec.structs.replace(event, digest=Packed.of(gathered).digest)
    made = step(before, event, now_ns, ACTOR)
    return None if made is None else Transition(before, made.after, made.kind, made.payload, gathered, letters)


def fold(events: Sequence[Event]) -> Rollout:
    """What the machine makes of a journal's events."""
    return replay((event.payload, event.at_ns) for event in events)


def write(journal: Journal, leader: Leadership, transition: Transition) -> None:
    """In a change of its own."""
    with journal.change(leader, ACTOR) as change:
        change.write(transition)


def start(journal: Journal, leader: Leadership, new: Rollout, *events: told.Event) -> Rollout:
    """Write its beginning, and what happens next."""
    write(journal, leader, started(new))
    return happen(journal, leader, new.id, *events)


def happen(journal: Journal, leader: Leadership, number: str, *events: told.Event) -> Rollout:
    """Have things happen, each in a change of its own."""
    for event in events:
        journal.transition(leader, ACTOR, number, lambda before, now_ns, event=event: stepped(before, event, now_ns))  # type: ignore[misc]
    return journal.rollout(number)


STAGED: Final = (told.Begun(), told.Admitted(), told.Staged())


# --- a whole life --------------------------------------------------------------------------------------

WEBHOOK: Final = "webhook"
SERVICE: Final = "pay"
LIFE: Final = ("started", "begun", "admitted", "staged", "pause", "resume", "looked", "applied")
"""The kinds of its events."""

Receive = Callable[[str], None]
"""Whoever is told: it is given the delivery's id."""


def live(journal: Journal, leader: Leadership, number: str, receive: Receive) -> None:
    """A rollout from a person's command to its end by a verdict, told to somebody; or what a kill left of that."""
    open_life(journal, leader, number)
    for event in (*STAGED, ask.Pause(reason="wait"), ask.Resume(reason="go on")):
        command(journal, leader, number, event)
    score(journal, leader, number)
    journal.keep_working(leader, number, evidence(5))
    assert journal.lease.renew(leader)
    command(journal, leader, number, FAILED)
    command(journal, leader, number, told.Applied(journal.rollout(number).generation))
    while (letter := journal.outbox.claim(WEBHOOK, lease_s=0)) is not None:
        receive(delivery_id(letter))
        assert journal.outbox.settle(letter)


def open_life(journal: Journal, leader: Leadership, number: str) -> None:
    """Its beginning, and a letter of it."""
    asked = Asked(f"start {number}", {"start": SERVICE})
    with journal.change(leader, ACTOR) as change:
        if change.outcome(asked) is None:
            letters = [Message(WEBHOOK, "started", SERVICE, {"rollout": number})]
            beginning = dataclasses.replace(started(of(number)), letters=letters)
            change.write(beginning, asked=asked, outcome={"rollout": number})


def command(journal: Journal, leader: Leadership, number: str, event: told.Event) -> None:
    """Have something happen, once: commands are known by their keys, for the rest the machine knows what comes next."""
    asked = Asked(f"{number} {type(event).__name__}", {"rollout": number, "event": msgspec.to_builtins(event)})
    with journal.change(leader, ACTOR) as change:
        of_a_person = isinstance(event, ask.Command)
        if of_a_person and change.outcome(asked) is not None:
            return
        gathered = evidence(3) if isinstance(event, told.Looked) else None
        letters = [Message(WEBHOOK, type(event).__name__, SERVICE, {"rollout": number})]
        made = stepped(change.rollout(number), event, change.at_ns, gathered, letters)
        if made is not None:
            outcome = {"generation": made.after.generation}
            change.write(made, asked=asked if of_a_person else None, outcome=outcome if of_a_person else {})


def score(journal: Journal, leader: Leadership, number: str) -> None:
    """One answer, its feedback that came before it, and the score."""
    journal.answers.give(Feedback(SERVICE, f"q {number}", "rating", 1, 1))
    journal.answers.record(leader, [Answer(SERVICE, number, "candidate", 1, f"q {number}", "u", 2, 0.05)])
    for joined in journal.answers.ready(SERVICE):
        one = Score("candidate", "feedback", joined.answer.weight, float(joined.feedback.value))
        journal.answers.settle(leader, joined.answer.rollout, [Scored(one, 1, joined.answer.request, joined.number)])


def lead(journal: Journal, *, patience_s: float = 5.0) -> Leadership:
    """Take the lease, as soon as it is free."""
    give_up = time.monotonic() + patience_s
    while (leader := journal.lease.take()) is None:
        assert time.monotonic() < give_up, journal.lease.leader()
        time.sleep(0.01)
    return leader


def assert_sound(journal: Journal) -> None:
    """What must be true of every journal at every moment."""
    assert journal.verify(fold) == len(journal.history(limit=100_000))
    for service in journal.services():
        assert sum(one.phase is not Phase.QUEUED for one in journal.rollouts(service.service, active=True)) <= 1
    for one in journal.rollouts(limit=10_000):
        events = journal.events(one.id, limit=10_000)
        assert [event.generation for event in events] == list(range(1, one.generation + 1))
        scores = journal.answers.scores(one.id)
        assert [scored.number for scored in scores] == list(range(1, len(scores) + 1))
