"""From what was said to a plan that can be followed, or to why it cannot."""

from __future__ import annotations

import pytest
from tests.support.rollout_walks import SERVICE, Walk, planned, serving

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.core.errors import InvalidArgument, InvalidTransition, QuarantinedVersion, RolloutActive
from taxiway.rollout.nouns import Candidate
from taxiway.rollout.plan import AB_DURATION_S, Serving, completed, make_plan, place_beside, undoing, wanted


def plan(**words: object) -> RolloutPlan:
    return RolloutPlan.model_validate({"to": "7", **words})


def test_each_strategy_has_its_defaults() -> None:
    assert completed(plan(strategy="blue-green")).steps == (100,)
    assert completed(plan(strategy="rolling"), 4).steps == (25, 50, 75, 100)
    assert completed(plan(strategy="rolling", steps=[50, 100]), 4).steps == (50, 100)
    assert len(completed(plan(strategy="rolling"), 400).steps) == 50
    assert completed(plan(strategy="ab")).max_duration_s == AB_DURATION_S
    assert completed(plan(strategy="ab", max_duration_s=60)).max_duration_s == 60
    shadow = completed(plan(strategy="shadow"))
    assert shadow.shadow is not None
    assert [guard.metric for guard in shadow.guards.metrics].count("agreement") == 1


@pytest.mark.parametrize("strategy", ["canary", "ab", "shadow", "blue-green", "rolling"])
def test_a_complete_plan_is_valid_and_stays_as_it_is(strategy: str) -> None:
    whole = completed(plan(strategy=strategy), 3)
    read = RolloutPlan.model_validate(whole.model_dump(mode="json"))
    assert read == whole
    assert completed(read, 5) == read


def test_a_digest_is_of_the_service_its_versions_and_the_plan() -> None:
    said = plan()
    one = make_plan(SERVICE, said, serving(said)).digest
    assert one == make_plan(SERVICE, said, serving(said)).digest
    others = [
        make_plan("other", said, serving(said)),
        make_plan(SERVICE, plan(min_step_s=1), serving(said)),
        make_plan(SERVICE, said, serving(said, baseline=4)),
        make_plan(SERVICE, said, Serving(3, SERVICE, (Candidate("candidate", 7, "sha256:other"),))),
    ]
    assert len({one, *(other.digest for other in others)}) == 5


def test_a_single_arm_gets_half() -> None:
    assert [(one.arm, one.percent) for one in wanted(plan(strategy="ab"))] == [("candidate", 50.0)]
    assert wanted(plan())[0].percent == 0


REFUSED: list[tuple[dict[str, object], dict[str, object], str]] = [
    ({}, {"baseline": 7}, "to = 7: version 7 of fraud answers already"),
    ({"routes": [{"header": "x", "value": "y", "arm": "blue"}]}, {}, "routes[0].arm = 'blue': there is no such arm"),
    ({"strategy": "blue-green", "exclusive": True}, {}, "version 3 of fraud is not in the registry"),
    (
        {"strategy": "blue-green", "exclusive": True, "shadow": {}},
        {"baseline_path": "/cache/3"},
        "shadow: copies need both versions in memory",
    ),
]


@pytest.mark.parametrize(("words", "now", "message"), REFUSED)
def test_what_does_not_go_together_is_refused(words: dict[str, object], now: dict[str, object], message: str) -> None:
    said = plan(**words)
    with pytest.raises(InvalidArgument) as refused:
        make_plan(SERVICE, said, serving(said, **now))
    assert message in refused.value.message
    assert refused.value.hint


def test_a_plan_without_a_version_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="which version is to be tried") as refused:
        wanted(RolloutPlan())
    assert "--to VERSION" in refused.value.hint


def test_two_arms_of_one_version_are_refused() -> None:
    arms = [{"name": "a", "to": "7", "percent": 10}, {"name": "b", "to": "champion", "percent": 10}]
    said = RolloutPlan.model_validate({"strategy": "ab", "arms": arms})
    same = Serving(3, SERVICE, (Candidate("a", 7), Candidate("b", 7)))
    with pytest.raises(InvalidArgument, match="arms a, b are the same version, 7"):
        make_plan(SERVICE, said, same)


def test_what_was_turned_back_is_tried_again_only_by_force_and_with_a_reason() -> None:
    before = Walk.of(planned()).to_step()
    before.look("fail")
    said = plan()
    digest = serving(said).candidates[0].digest
    with pytest.raises(QuarantinedVersion, match="version 7 of fraud was turned back by rollout r-1: the guards say"):
        make_plan(SERVICE, said, serving(said), quarantined={digest: before.now})
    with pytest.raises(QuarantinedVersion):
        make_plan(SERVICE, said, serving(said), quarantined={digest: before.now}, force=True)
    with pytest.raises(QuarantinedVersion):
        make_plan(SERVICE, said, serving(said), quarantined={digest: before.now}, reason="without force")
    again = make_plan(SERVICE, said, serving(said), quarantined={digest: before.now}, force=True, reason="it is mended")
    assert Walk.of(again).now.forced == "it is mended"


@pytest.mark.parametrize("policy", ["queue", "replace"])
def test_a_newer_rollout_does_as_the_plan_of_the_older_one_says(policy: str) -> None:
    assert place_beside(None) == "begin"
    assert place_beside(Walk.of(planned(on_superseded=policy)).to_step().now) == policy
    with pytest.raises(RolloutActive, match="rollout r-1 of fraud goes on") as refused:
        place_beside(Walk.of(planned()).to_step().now)
    assert "on_superseded" in refused.value.hint


def test_what_has_succeeded_is_undone_by_a_rollout_of_its_own() -> None:
    back = undoing(Walk.of(planned(alias="champion", units=["api-key"])).to_end().now)
    assert (back.to, back.strategy, back.guard_for_s, back.alias, back.units) == (
        "3",
        "blue-green",
        0,
        "champion",
        ("api-key",),
    )
    last = Walk.of(planned(strategy="shadow")).to_end().now
    with pytest.raises(InvalidTransition, match="left version 3 answering"):
        undoing(last)
    assert undoing(last, 2).to == "2"
