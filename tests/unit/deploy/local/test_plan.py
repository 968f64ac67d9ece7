from __future__ import annotations

import pytest

from taxiway.config.settings import Settings
from taxiway.deploy.local.plan import Plan, cpus_of, plan_of, share_of

WHOLE = Settings.model_validate(
    {
        "workers": 4,
        "limits": {"max_requests": 100, "max_connections": 10, "max_body_bytes": 1000, "max_buffered_bytes": 8000},
        "queue": {"max_requests": 3, "max_rows": 40, "max_bytes": 2000},
        "cache": {"max_bytes": 400},
        "models": {"memory_bytes": 800, "overrides": {"a": {"queue": {"max_rows": 8}, "execution": {"instances": 2}}}},
    }
)


def test_what_bounds_the_server_is_divided() -> None:
    share = share_of(WHOLE, 4)
    assert (share.limits.max_requests, share.limits.max_connections) == (25, 2)
    assert share.limits.max_buffered_bytes == 2000
    assert (share.queue.max_requests, share.queue.max_rows) == (1, 10)
    assert share.cache.max_bytes == 100
    assert share.models.memory_bytes == 200
    assert share.for_model("a").queue.max_rows == 2


def test_a_share_holds_one_body_at_least() -> None:
    assert share_of(WHOLE, 4).queue.max_bytes == 1000


@pytest.mark.parametrize(("whole", "share"), [(0, 0), (3, 1)])
def test_a_bound_of_memory_never_becomes_none(whole: int, share: int) -> None:
    assert share_of(Settings.model_validate({"models": {"memory_bytes": whole}}), 4).models.memory_bytes == share


def test_what_one_request_may_be_is_nobodys_share() -> None:
    share = share_of(WHOLE, 4)
    assert share.limits.max_body_bytes == 1000
    assert share.limits.max_pipelined == WHOLE.limits.max_pipelined
    assert share.workers == 4


def test_what_was_said_for_a_model_by_name_is_still_so() -> None:
    assert share_of(WHOLE, 4).for_model("a").overridden == {"queue.max_rows", "execution.instances"}


def test_one_worker_has_everything() -> None:
    assert share_of(WHOLE, 1) == WHOLE


@pytest.mark.parametrize(("cpus", "workers", "each"), [(8, 2, 4), (2, 2, 1), (1, 4, 1), (7, 2, 3)])
def test_processors_are_divided(cpus: int, workers: int, each: int) -> None:
    assert cpus_of(cpus, workers) == each


def test_the_plan_is_what_the_settings_say() -> None:
    settings = Settings.model_validate({"workers": 3, "limits": {"drain_timeout_s": 10}})
    assert plan_of(settings) == Plan(workers=3, drain_ns=15_000_000_000)


def test_settings_travel_as_data() -> None:
    share = share_of(WHOLE, 4)
    assert Settings.model_validate(share.model_dump(mode="json", exclude_unset=True)) == share
