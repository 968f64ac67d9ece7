"""The rollout machine: its paths, its refusals, and what holds whatever happens to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.rollout_states import NOW_NS, S_NS, rollout, verdict

from taxiway.core.errors import InvalidArgument, InvalidTransition, TaxiwayError
from taxiway.rollout import commands as ask
from taxiway.rollout import events as told
from taxiway.rollout.desired import desired_companions, desired_traffic, released, weights_of
from taxiway.rollout.machine import WITH_TRAFFIC, allowed, begin, replay, step
from taxiway.rollout.nouns import CANDIDATE, CONTROL, TERMINAL, Outcome, Phase, Rollout


class Walk:
    """A rollout that things happen to, one second after the other."""

    def __init__(self, state: Rollout) -> None:
        self.now_ns = NOW_NS
        self.state = state
        self.happened: list[tuple[Any, int]] = [(begin(state, "ada").payload, NOW_NS)]

    def on(self, *events: told.Event, after_s: float = 1.0) -> Rollout:
        for event in events:
            self.now_ns += round(after_s * S_NS)
            made = step(self.state, event, self.now_ns, "ada")
            if made is not None:
                assert made.after.generation == self.state.generation + 1
                self.state = made.after
                self.happened.append((made.payload, self.now_ns))
        return self.state

    def look(self, outcome: Outcome, evidence_s: float = 1e6, **more: Any) -> Rollout:
        degraded = more.pop("degraded", "")
        return self.on(told.Looked(verdict(outcome, **more), evidence_s, degraded, "sha256:e"))

    def applied(self) -> Rollout:
        return self.on(told.Applied(self.state.generation))


def staged(**plan: Any) -> Walk:
    walk = Walk(rollout(**plan))
    walk.on(told.Begun(), told.Admitted(), told.Staged())
    return walk


def test_a_canary_that_passes_walks_to_the_end() -> None:
    walk = staged()
    shares = []
    while walk.state.phase is Phase.STEP:
        shares.append(weights_of(walk.state)[CANDIDATE])
        walk.look(Outcome.PASS)
    assert shares == [0.01, 0.05, 0.1, 0.25, 0.5]
    assert walk.state.phase is Phase.PROMOTE
    assert walk.applied().phase is Phase.GUARD
    assert desired_companions(walk.state)[0].key == "pay/7"
    assert walk.look(Outcome.INCONCLUSIVE, evidence_s=10).phase is Phase.GUARD
    assert walk.look(Outcome.INCONCLUSIVE).phase is Phase.DRAIN
    assert walk.applied().phase is Phase.SUCCEEDED
    assert [(arm.key, arm.weight) for arm in desired_traffic(walk.state).arms] == [("pay/7", 1.0)]
    assert released(walk.state) == ("pay", "pay/1~twin")
    assert replay(walk.happened) == walk.state


@pytest.mark.parametrize("phase", ["step", "guard"])
def test_a_verdict_that_fails_turns_it_back_and_keeps_it_from_coming_again(phase: str) -> None:
    walk = staged(steps=[50, 100])
    if phase == "guard":
        walk.look(Outcome.PASS)
        walk.applied()
    assert walk.state.phase.value == phase
    state = walk.look(Outcome.FAIL)
    assert (state.phase, state.quarantined, state.reason) == (Phase.ROLLING_BACK, True, "it is fail")
    assert weights_of(state) == {CONTROL: 1.0}
    assert walk.applied().phase is Phase.ROLLED_BACK
    assert released(walk.state) == ("pay/1~twin", "pay/7")


def test_inconclusive_and_silence_never_move_it_on() -> None:
    walk = staged()
    for outcome in (Outcome.INCONCLUSIVE, Outcome.ERROR):
        walk.look(outcome)
    walk.look(Outcome.PASS, evidence_s=119.0)
    walk.look(Outcome.PASS, degraded="the data plane does not report")
    walk.look(Outcome.PASS, mismatch="the split is not what was asked")
    assert (walk.state.phase, walk.state.step) == (Phase.STEP, 0)
    walk.on(ask.Pause())
    walk.look(Outcome.PASS)
    assert (walk.state.phase, walk.state.step) == (Phase.STEP, 0)
    assert walk.look(Outcome.FAIL).phase is Phase.ROLLING_BACK


@pytest.mark.parametrize(("policy", "phase"), [("hold", "step"), ("rollback", "rolling-back"), ("approve", "step")])
def test_what_is_not_decided_in_time(policy: str, phase: str) -> None:
    walk = staged(on_inconclusive=policy)
    walk.now_ns += 3 * 3600 * S_NS  # a clock that jumps decides nothing either
    state = walk.look(Outcome.INCONCLUSIVE)
    assert state.phase.value == phase
    assert bool(state.approval) is (policy == "approve")
    if policy == "approve":
        assert walk.look(Outcome.PASS).step == 0, "a person was asked"
        assert walk.on(ask.Approve()).step == 1


def test_a_fuse_turns_it_back() -> None:
    walk = staged()
    state = walk.on(told.FuseBlew("candidate", walk.state.generation, "20 requests in a row failed"))
    assert (state.phase, state.quarantined) == (Phase.ROLLING_BACK, True)
    assert "20 requests in a row failed" in state.reason


def test_the_exposure_budget_holds_it_back() -> None:
    walk = staged(max_bad_requests=10)
    assert walk.look(Outcome.PASS, bad=10).step == 0
    assert walk.look(Outcome.PASS, bad=9).step == 1


def test_a_person_may_send_everything_there_and_verdicts_do_not_take_it_back() -> None:
    walk = staged()
    with pytest.raises(InvalidArgument, match="reason is missing"):
        walk.on(ask.Promote(full=True))
    walk.on(ask.Promote(reason="the old one is broken", full=True))
    walk.applied()
    assert walk.look(Outcome.FAIL, evidence_s=0).phase is Phase.GUARD
    assert walk.on(told.FuseBlew("candidate", 9, "it failed")).phase is Phase.ROLLING_BACK


def test_a_test_of_arms_keeps_their_shares_and_drops_the_harmful() -> None:
    arms = [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 20}]
    walk = staged(strategy="ab", arms=arms)
    assert weights_of(walk.state) == {"new": 0.1, "newer": 0.2, CONTROL: pytest.approx(0.7)}
    dropped = walk.look(Outcome.FAIL, arms={"new": Outcome.FAIL, "newer": Outcome.INCONCLUSIVE})
    assert dropped.phase is Phase.STEP
    assert weights_of(walk.state) == {"newer": 0.2, CONTROL: 0.8}
    over = walk.look(Outcome.PASS, arms={"new": Outcome.FAIL, "newer": Outcome.PASS})
    assert over.phase is Phase.DRAIN
    assert weights_of(walk.state) == {CONTROL: 1.0}
    assert walk.applied().phase is Phase.SUCCEEDED
    assert released(walk.state) == ("pay/7", "pay/8")


def test_an_arm_of_a_test_is_promoted_by_name() -> None:
    arms = [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 20}]
    walk = staged(strategy="ab", arms=arms)
    with pytest.raises(InvalidArgument, match="arm '' is none of new, newer"):
        walk.on(ask.Promote())
    walk.on(ask.Promote(arm="newer"))
    assert weights_of(walk.state) == {"newer": 1.0}


def test_a_shadow_answers_nobody() -> None:
    walk = staged(strategy="shadow")
    assert walk.state.phase is Phase.SHADOW
    wanted = desired_traffic(walk.state)
    assert wanted.shadow is not None
    assert wanted.shadow.arm == "candidate"
    assert {arm.name: arm.weight for arm in wanted.arms} == {CONTROL: 1.0, CANDIDATE: 0.0}
    assert walk.look(Outcome.PASS).phase is Phase.DRAIN
    assert weights_of(walk.state) == {CONTROL: 1.0}


def test_blue_green_is_one_step_and_back_at_once() -> None:
    walk = staged(strategy="blue-green")
    assert walk.applied().phase is Phase.GUARD
    assert walk.on(ask.Abort()).phase is Phase.ROLLING_BACK
    assert [companion.key for companion in desired_companions(walk.state)] == ["pay/7"], "it is still loaded"


def test_what_is_refused_says_what_would_be_allowed() -> None:
    walk = staged(steps=[50, 100])
    walk.look(Outcome.PASS)
    walk.applied()
    with pytest.raises(
        InvalidTransition, match="advance is not possible: rollout r-1 of pay is in phase guard"
    ) as refused:
        walk.on(ask.Advance(reason="now"))
    assert refused.value.hint == "allowed now: pause, abort"
    walk.on(ask.Abort())
    walk.applied()
    with pytest.raises(InvalidTransition) as refused:
        walk.on(ask.Abort())
    assert "undo" in refused.value.hint


def test_what_fails_around_it_is_not_blamed_on_it() -> None:
    walk = Walk(rollout())
    walk.on(told.Begun(), told.Admitted())
    state = walk.on(told.Failed("there is no room for it"))
    assert (state.phase, state.quarantined, state.reason) == (Phase.FAILED_INFRA, False, "there is no room for it")


# --- whatever happens -----------------------------------------------------------------------------------------

outcomes = st.sampled_from(list(Outcome))
events = st.one_of(
    st.builds(
        lambda outcome, evidence_s, degraded, bad: told.Looked(
            verdict(outcome, bad=bad, arms={"new": outcome, "newer": Outcome.PASS, "candidate": outcome}),
            evidence_s,
            degraded,
            "sha256:e",
        ),
        outcomes,
        st.sampled_from([0.0, 1e7]),
        st.sampled_from(["", "no reports"]),
        st.integers(0, 300),
    ),
    st.sampled_from([told.Begun(), told.Admitted(), told.Staged(), told.Applied(10**9), told.Failed("no room")]),
    st.builds(told.FuseBlew, st.sampled_from(["candidate", "new"]), st.integers(0, 9), st.just("it failed")),
    st.sampled_from([told.Replaced("r-2"), ask.Pause(), ask.Resume(), ask.Advance(reason="now"), ask.Approve()]),
    st.sampled_from(
        [ask.Promote(full=True, arm="newer", reason="now"), ask.Promote(), ask.Abort(), ask.Extend(by_s=9)]
    ),
)
ARMS = [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 20}]
plans = st.sampled_from(
    [
        {},
        {"shadow": {}},
        {"strategy": "blue-green"},
        {"strategy": "shadow"},
        {"strategy": "ab", "arms": ARMS},
        {"on_inconclusive": "approve", "max_duration_s": 5},
        {"on_inconclusive": "rollback", "max_duration_s": 5},
    ]
)


@given(plans, st.lists(events, max_size=30), st.booleans())
def test_whatever_happens(plan: dict[str, Any], happenings: list[told.Event], straight: bool) -> None:
    walk = staged(**plan) if straight else Walk(rollout(**plan))
    for event in happenings:
        before = walk.state
        try:
            after = walk.on(event)
        except TaxiwayError:
            continue
        _check(before, event, after)
    assert replay(walk.happened) == walk.state
    if walk.state.phase not in TERMINAL and walk.state.phase is not Phase.ROLLING_BACK:
        assert "abort" in allowed(walk.state)
        assert weights_of(walk.on(ask.Abort())) == {CONTROL: 1.0}


def _check(before: Rollout, event: told.Event, after: Rollout) -> None:
    weights = weights_of(after)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert min(weights.values()) >= 0
    assert sum(arm.weight for arm in desired_traffic(after).arms) == pytest.approx(1.0)
    if before.phase in TERMINAL:
        assert after == before
    if after.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.SUPERSEDED, Phase.FAILED_INFRA):
        assert weights == {CONTROL: 1.0}
    if weights_of(before) != weights:
        assert after.segment > before.segment or before.phase not in WITH_TRAFFIC
    more = _exposed(after) > _exposed(before)
    if isinstance(event, told.Looked):
        if more:
            assert event.verdict.outcome is Outcome.PASS
            assert (event.degraded, before.paused) == ("", None)
            assert event.digest
    elif more:
        assert isinstance(event, ask.Command | told.Staged)


def _exposed(state: Rollout) -> float:
    return 1.0 - weights_of(state).get(CONTROL, 0.0) - weights_of(state).get("baseline", 0.0)
