"""Which processors the processes of a model get."""

from __future__ import annotations

import pytest

from taxiway.server.models.opening import _share_cpus


@pytest.mark.parametrize(
    ("allowed", "cpus", "instances", "shares"),
    [
        ([0, 1, 2, 3], 4, 2, ((0, 1), (2, 3))),
        ([4, 6], 2, 2, ((4,), (6,))),  # a container's own processors
        ([4, 6], 2, 3, ((4,), (6,), (4,))),
        ([0, 1, 2, 3], 1, 2, ((0,), (1,))),  # the time of one
        ([5], 8, 2, ((5,), (5,))),
    ],
)
def test_processors_are_shared_among_those_that_there_are(
    allowed: list[int], cpus: int, instances: int, shares: tuple[tuple[int, ...], ...]
) -> None:
    assert _share_cpus(allowed, cpus, instances) == shares
