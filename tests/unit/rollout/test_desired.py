"""What each state wants of the data plane."""

from __future__ import annotations

import pytest
from tests.support.rollout_walks import SERVICE, Walk, planned, serving

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.core.traffic import Arm, Companion, Fuse, HeaderRoute, Shadow, Traffic, UnitSource
from taxiway.rollout.commands import Abort, Promote
from taxiway.rollout.desired import desired_companions, desired_swap, desired_traffic, released
from taxiway.rollout.events import Superseded
from taxiway.rollout.nouns import Candidate
from taxiway.rollout.plan import Serving, make_plan

SEVEN, TWIN = Companion("fraud/7", SERVICE, 7, "/cache/7"), Companion("fraud/3~twin", SERVICE, 3)


def wanted(walk: Walk) -> Traffic:
    traffic = desired_traffic(walk.now)
    assert traffic is not None
    return traffic


def test_a_canary_step_by_step() -> None:
    walk = Walk.of(planned(steps=[10, 100]))
    assert wanted(walk).arms == (Arm("control", "fraud", 3, 1.0),)
    assert not wanted(walk).counted
    assert desired_companions(walk.now) == ()
    assert desired_companions(walk.to_stage().now) == (SEVEN, TWIN)
    walk.to_first()
    traffic = wanted(walk)
    assert traffic.arms == (
        Arm("control", "fraud", 3, 0.8),
        Arm("candidate", "fraud/7", 7, 0.1),
        Arm("baseline", "fraud/3~twin", 3, 0.1),
    )
    assert (traffic.rollout, traffic.salt, traffic.generation, traffic.segment) == ("r-1", "r-1", 3, 1)
    assert traffic.fuses == (Fuse("candidate", "baseline", bad_requests=200),)
    assert (traffic.default, traffic.counted) == ("control", True)
    assert (desired_companions(walk.now), released(walk.now)) == ((SEVEN, TWIN), ())
    walk.look()
    assert wanted(walk).arms == (Arm("control", "fraud", 3, 0.0), Arm("candidate", "fraud/7", 7, 1.0))
    assert wanted(walk).fuses == (Fuse("candidate", "control"),)
    assert wanted(walk).default == "control", "who is loaded in any case, should the candidate die"
    assert (desired_companions(walk.now), released(walk.now)) == ((SEVEN,), ("fraud/3~twin",))
    walk.to_end()
    assert wanted(walk).arms == (Arm("candidate", "fraud/7", 7, 1.0),)
    assert (wanted(walk).default, wanted(walk).counted, wanted(walk).fuses) == ("candidate", False, ())
    assert (desired_companions(walk.now), released(walk.now)) == ((SEVEN,), ("fraud/3~twin", "fraud"))


def test_a_rollback_needs_nothing_of_the_candidate() -> None:
    walk = Walk.of(planned()).to_step(3)
    walk.look("fail")
    assert wanted(walk).arms == (Arm("control", "fraud", 3, 1.0),)
    assert (desired_companions(walk.now), released(walk.now)) == ((), ()), "it may answer what it took"
    walk.apply()
    assert wanted(walk).arms == (Arm("control", "fraud", 3, 1.0),)
    assert not wanted(walk).counted
    assert (desired_companions(walk.now), released(walk.now)) == ((), ("fraud/7", "fraud/3~twin"))


def test_versions_that_the_server_was_told_to_serve_are_neither_loaded_nor_released() -> None:
    plan = RolloutPlan(to="7", twin=False)
    both = Serving(3, SERVICE, (Candidate("candidate", 7),), baseline_shared=True)
    walk = Walk.of(make_plan(SERVICE, plan, both)).to_step()
    assert [arm.key for arm in wanted(walk).arms] == ["fraud", "fraud"]
    assert desired_companions(walk.now) == ()
    assert released(walk.to_end().now) == ()


def test_what_serves_other_versions_too_stays() -> None:
    plan = RolloutPlan(to="7", twin=False)
    walk = Walk.of(make_plan(SERVICE, plan, serving(plan, baseline_shared=True))).to_end()
    assert released(walk.now) == ()


def test_a_baseline_from_an_earlier_rollout_is_kept_until_it_is_not_needed() -> None:
    plan = RolloutPlan(to="7", twin=False)
    five = serving(plan, baseline=5, baseline_key="fraud/5", baseline_path="/cache/5")
    walk = Walk.of(make_plan(SERVICE, plan, five)).to_step()
    assert desired_companions(walk.now) == (Companion("fraud/5", SERVICE, 5, "/cache/5"), SEVEN)
    assert wanted(walk).arms[0].key == "fraud/5"
    assert (desired_companions(walk.to_end().now), released(walk.now)) == ((SEVEN,), ("fraud/5",))


def test_a_shadow_answers_nobody() -> None:
    routes = [{"header": "x-canary", "value": "always"}]
    walk = Walk.of(planned(strategy="shadow", shadow={"percent": 25}, routes=routes)).to_first()
    traffic = wanted(walk)
    assert traffic.shadow == Shadow("candidate", 0.25)
    assert traffic.arms == (Arm("control", "fraud", 3, 1.0), Arm("candidate", "fraud/7", 7, 0.0))
    assert (traffic.routes, traffic.fuses) == ((), ())
    walk.to_end()
    assert wanted(walk).arms == (Arm("control", "fraud", 3, 1.0),)
    assert released(walk.now) == ("fraud/7",)


def test_arms_of_an_ab_test_come_and_go() -> None:
    arms = [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 20}]
    walk = Walk.of(planned(strategy="ab", arms=arms)).to_first()
    assert [companion.key for companion in desired_companions(walk.now)] == ["fraud/7", "fraud/8"]
    assert wanted(walk).fuses == (Fuse("new", "control"), Fuse("newer", "control"))
    walk.fuse("new")
    assert [arm.name for arm in wanted(walk).arms] == ["control", "newer"]
    assert released(walk.now) == ("fraud/7",)
    walk.tell(Promote(actor="bob", arm="newer"))
    assert [(arm.key, arm.weight) for arm in wanted(walk).arms] == [("fraud", 0.0), ("fraud/8", 1.0)]
    assert wanted(walk).fuses == (), "what a person promoted only a person takes back"


def test_an_exclusive_plan_swaps_there_and_back() -> None:
    plan = RolloutPlan(to="7", strategy="blue-green", exclusive=True, max_hold_s=9, max_held=5)
    walk = Walk.of(make_plan(SERVICE, plan, serving(plan, baseline_path="/cache/3")))
    assert desired_swap(Walk.of(planned()).now) is None
    walk.to_first()
    there = desired_swap(walk.now)
    assert there is not None
    assert (there.companion, there.leaving) == (SEVEN, "fraud")
    assert (there.max_hold_s, there.max_requests) == (9, 5)
    assert wanted(walk).arms == (Arm("candidate", "fraud", 7, 1.0),)
    assert wanted(walk).fuses == ()
    walk.tell(Abort(actor="bob"))
    back = desired_swap(walk.now)
    assert back is not None
    assert back.companion == Companion("fraud/3", SERVICE, 3, "/cache/3")
    assert wanted(walk).arms == (Arm("control", "fraud", 3, 1.0),)
    assert (desired_companions(walk.now), released(walk.now)) == ((), ())


def test_who_waits_or_was_replaced_says_nothing() -> None:
    walk = Walk.of(planned(), queued=True)
    assert desired_traffic(walk.now) is None
    assert released(walk.now) == ()
    walk = Walk.of(planned()).to_step()
    walk.tell(Superseded("r-2", "eve"))
    assert desired_traffic(walk.now) is None
    assert released(walk.now) == ("fraud/7", "fraud/3~twin")


def test_units_and_routes_are_as_the_plan_says() -> None:
    words = {"units": ["header:x-user", "cookie: sid", "api-key", "request-id"]}
    routes = [{"header": "x-canary", "value": "yes"}, {"header": "x-old", "value": "yes", "arm": "control"}]
    walk = Walk.of(planned(routes=routes, **words))
    assert wanted(walk).routes == (HeaderRoute("x-old", "yes", "control"),)
    walk.to_step()
    assert wanted(walk).routes == (HeaderRoute("x-canary", "yes", "candidate"), HeaderRoute("x-old", "yes", "control"))
    said = (
        UnitSource("header", "x-user"),
        UnitSource("cookie", "sid"),
        UnitSource("api-key"),
        UnitSource("request-id"),
    )
    assert wanted(walk).units == said


@pytest.mark.parametrize(
    ("quality", "ids", "share"),
    [
        ({}, True, 0.0),
        ({"judge": "judges.py:judge", "judged_percent": 10}, True, 0.1),
        ({"metric": "match"}, True, 1.0),
    ],
)
def test_no_more_is_recorded_than_the_guards_need(quality: dict[str, object], ids: bool, share: float) -> None:
    walk = Walk.of(planned(guards={"metrics": [{"metric": "quality", "margin": 0.1}]}, quality=quality)).to_step()
    recording = wanted(walk).recording
    assert (recording.ids, recording.share, recording.checked_share) == (ids, share, 0.0)
    plain = wanted(Walk.of(planned()).to_step()).recording
    assert (plain.ids, plain.share, plain.checked_share) == (False, 0.0, 0.125)
