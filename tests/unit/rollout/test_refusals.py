"""What each command is refused for, in which words, and what is offered instead."""

from __future__ import annotations

import pytest
from tests.support.rollout_walks import Walk, planned

from taxiway.core.errors import ErrorKind, InvalidArgument, InvalidTransition, StaleGeneration
from taxiway.rollout.commands import (
    COMMANDS,
    Abort,
    Advance,
    Approve,
    Command,
    Extend,
    Pause,
    Promote,
    Resume,
    Start,
    Undo,
    read_command,
)
from taxiway.rollout.events import Superseded
from taxiway.rollout.machine import allowed
from taxiway.rollout.nouns import Phase

AB = {"strategy": "ab", "arms": [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 2}]}


def paused(walk: Walk) -> Walk:
    walk.tell(Pause(actor="ann", reason="lunch"))
    return walk


def back(walk: Walk) -> Walk:
    walk.tell(Abort(actor="ann"))
    return walk


def one_arm_less(walk: Walk) -> Walk:
    walk.fuse("new")
    return walk


SO = "so be it"
UNDO, START = "taxiway rollout undo fraud", "taxiway rollout start fraud --to VERSION"

REFUSED: list[tuple[Walk, Command, str]] = [
    (Walk.of(planned()).to_step(), Resume(actor="bob", reason=SO), "it is not paused"),
    (paused(Walk.of(planned()).to_step()), Pause(actor="bob", reason=SO), "ann has paused it already"),
    (paused(Walk.of(planned()).to_step()), Advance(actor="bob", reason=SO), "ann has paused it"),
    (paused(Walk.of(planned()).to_step()), Promote(actor="bob", reason=SO), "ann has paused it"),
    (Walk.of(planned()).to_step(), Approve(actor="bob", reason=SO), "it does not wait for anybody's approval"),
    (Walk.of(planned()), Advance(actor="bob", reason=SO), "its versions are not loaded yet"),
    (Walk.of(planned()).to_stage(), Promote(full=True, actor="bob", reason=SO), "its versions are not loaded yet"),
    (Walk.of(planned()).to_step(99), Promote(actor="bob", reason=SO), "it has all of the requests already"),
    (Walk.of(planned()).to_drain(), Advance(actor="bob", reason=SO), "it has all of the requests already"),
    (
        Walk.of(planned()).to_guard(),
        Extend(by_s=1, actor="bob", reason=SO),
        "nothing is to be decided by a deadline in phase guard",
    ),
    (
        Walk.of(planned(strategy="shadow")).to_first(),
        Promote(actor="bob", reason=SO),
        "a shadow, which never answers anybody",
    ),
    (Walk.of(planned(**AB)).to_step(), Advance(actor="bob", reason=SO), "an A/B/n test, which has no steps"),
    (Walk.of(planned(**AB)).to_step(), Promote(actor="bob", reason=SO), "no arm is named"),
    (Walk.of(planned(**AB)).to_step(), Promote(arm="best", actor="bob", reason=SO), "it has no arm 'best'"),
    (
        one_arm_less(Walk.of(planned(**AB)).to_step()),
        Promote(arm="new", actor="bob", reason=SO),
        "'new' does not take part any more",
    ),
    (Walk.of(planned()).to_step(), Promote(arm="best", actor="bob", reason=SO), "it has no arm 'best'"),
    (Walk.of(planned()).to_step(), Undo(to=2, actor="bob", reason=SO), "it can go back to version 3, not to 2"),
    (Walk.of(planned(), queued=True), Pause(actor="bob", reason=SO), "it waits for another rollout"),
    (back(Walk.of(planned()).to_step()), Pause(actor="bob", reason=SO), "it is on its way back"),
    (Walk.of(planned()).to_end(), Abort(actor="bob", reason=SO), "it has ended (succeeded)"),
    (Walk.of(planned()).to_step(), Start(service="fraud", plan={}, actor="bob", reason=SO), "it has begun already"),
]


@pytest.mark.parametrize(("walk", "command", "why"), REFUSED, ids=lambda value: type(value).__name__)
def test_a_refusal_tells_why_the_story_so_far_and_what_would_be_allowed(walk: Walk, command: Command, why: str) -> None:
    with pytest.raises(InvalidTransition) as refused:
        walk.tell(command)
    error = refused.value
    assert (error.kind, error.code) == (ErrorKind.FAILED_PRECONDITION, "invalid-transition")
    assert f"rollout r-1 of fraud cannot be given `{command.verb}`: " in error.message
    assert why in error.message
    assert f"(phase {walk.now.phase.value}, generation {walk.now.generation}; last: {walk.now.reason})" in error.message
    assert error.hint
    assert error.facts["allowed"] == list(allowed(walk.now))


HINTS: list[tuple[Walk, Command, str]] = [
    (
        Walk.of(planned()).to_step(),
        Resume(actor="bob"),
        "allowed now: pause, advance, promote, extend, abort, undo; as `taxiway rollout pause fraud`",
    ),
    (
        Walk.of(planned()).to_end(),
        Abort(actor="bob"),
        f"what has ended stays so; go on with `{UNDO}` or `{START}`",
    ),
    (Walk.of(planned(**AB)).to_step(), Promote(actor="bob"), "name one that takes part: new, newer"),
    (
        Walk.of(planned()).to_step(),
        Undo(actor="bob", to=2),
        "`taxiway rollout abort fraud`, then `taxiway rollout start fraud --to 2`",
    ),
]


@pytest.mark.parametrize(("walk", "command", "hint"), HINTS, ids=["resume", "abort", "promote", "undo"])
def test_a_hint_names_what_can_be_done(walk: Walk, command: Command, hint: str) -> None:
    with pytest.raises(InvalidTransition) as refused:
        walk.tell(command)
    assert refused.value.hint == hint


ALLOWED: list[tuple[Walk, set[str]]] = [
    (Walk.of(planned(), queued=True), {"abort", "undo"}),
    (Walk.of(planned()), {"pause", "abort", "undo"}),
    (Walk.of(planned()).to_step(), {"pause", "advance", "promote", "extend", "abort", "undo"}),
    (paused(Walk.of(planned()).to_step()), {"resume", "extend", "abort", "undo"}),
    (Walk.of(planned()).to_guard(), {"pause", "advance", "promote", "abort", "undo"}),
    (Walk.of(planned()).to_drain(), {"pause", "abort", "undo"}),
    (back(Walk.of(planned()).to_step()), {"abort", "undo"}),
    (Walk.of(planned()).to_end(), set()),
    (Walk.of(planned(**AB)).to_step(), {"pause", "promote", "extend", "abort", "undo"}),
    (Walk.of(planned(strategy="shadow")).to_first(), {"pause", "advance", "extend", "abort", "undo"}),
]


@pytest.mark.parametrize(
    ("walk", "verbs"), ALLOWED, ids=lambda value: "" if isinstance(value, set) else value.now.phase
)
def test_what_is_allowed(walk: Walk, verbs: set[str]) -> None:
    assert set(allowed(walk.now)) == verbs


def test_a_command_by_an_old_generation_is_refused_under_a_code_of_its_own() -> None:
    walk = Walk.of(planned()).to_step()
    with pytest.raises(StaleGeneration, match=r"is of generation 3 \(phase step\), not 2") as refused:
        walk.tell(Abort(actor="bob", expect_generation=2))
    assert refused.value.facts["found"] == 3
    assert walk.tell(Abort(actor="bob", expect_generation=3)) is not None


def test_an_approval_is_for_the_plan_that_was_looked_at() -> None:
    walk = Walk.of(planned(on_inconclusive="approve")).to_step()
    walk.deadline()
    with pytest.raises(InvalidTransition, match="its plan is sha256:"):
        walk.tell(Approve(actor="bob", plan_digest="sha256:another"))
    assert walk.tell(Approve(actor="bob", plan_digest=walk.now.plan_digest)) is not None


def test_what_is_about_to_end_is_not_replaced() -> None:
    walk = Walk.of(planned()).to_guard()
    with pytest.raises(InvalidTransition, match="cannot be superseded in phase guard"):
        walk.tell(Superseded("r-2", "eve"))


_MORE: dict[str, dict[str, object]] = {"start": {"service": "fraud", "plan": {}}, "extend": {"by_s": 60}}

# --- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_a_command_is_read_from_a_request(verb: str) -> None:
    more: dict[str, object] = dict(_MORE.get(verb, {}))
    command = read_command(verb, {"reason": "so be it", "expect_generation": 4, **more}, "bob")
    assert (command.verb, command.actor, command.reason, command.expect_generation) == (verb, "bob", "so be it", 4)


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("pause", {"why": "x"}, "pause: Object contains unknown field `why`"),
        ("extend", {}, "extend: Object missing required field `by_s`"),
        ("extend", {"by_s": 0}, "by_s = 0.0: must be above 0"),
        ("advance", {}, "advance needs a reason: it goes past the guards"),
        ("promote", {"full": True, "reason": " "}, "promote needs a reason"),
        ("start", {"service": "fraud", "plan": {}, "force": True}, "start needs a reason"),
        ("abort", {"reason": "\0"}, "must be text without NUL"),
        ("abort", {"expect_generation": "four"}, "Expected `int | null`, got `str`"),
    ],
)
def test_what_a_command_cannot_say(verb: str, words: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_command(verb, words, "bob")
    assert message in refused.value.message


def test_nobody_can_say_who_they_are_in_a_request() -> None:
    assert read_command("abort", {"actor": "root", "verb": "pause"}, "bob").actor == "bob"


def test_every_phase_but_the_last_can_be_aborted() -> None:
    walks = [walk for walk, _ in ALLOWED if not walk.at(Phase.SUCCEEDED)]
    assert all("abort" in allowed(walk.now) for walk in walks)
