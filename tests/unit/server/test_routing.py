"""Where a name leads, and what is said where it leads nowhere."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, cast

import pytest

from taxiway.core.errors import ColdModel, InvalidArgument, ModelNotFound, TaxiwayError, Unavailable, VersionNotServed
from taxiway.server.models.machine import Chapter, ModelState
from taxiway.server.models.roster import ModelRoutes
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Snapshot, snapshot_of


def _routes(
    served: tuple[int, ...] = (), others: dict[int, ModelState] | None = None, *, cold: bool = False
) -> ModelRoutes:
    versions = {number: cast("ServedModel", f"served {number}") for number in served}
    chapters = {number: Chapter(state, "because", 0) for number, state in (others or {}).items()}
    return ModelRoutes(MappingProxyType(versions), MappingProxyType(chapters), cold)


SNAPSHOT = snapshot_of(
    {
        "m": _routes((2, 10), {1: ModelState.GONE, 11: ModelState.LOADING}),
        "loading": _routes((), {1: ModelState.LOADING}),
        "gone": _routes((), {1: ModelState.GONE}),
        "failed": _routes((), {1: ModelState.FAILED}),
        "cold": _routes((), {3: ModelState.GONE}, cold=True),
        "warming": _routes((), {3: ModelState.LOADING}, cold=True),
        "named": _routes(),
    }
)


@pytest.mark.parametrize(("version", "found"), [(None, "served 10"), ("2", "served 2"), ("10", "served 10")])
def test_what_is_served_is_found(version: str | None, found: Any) -> None:
    assert SNAPSHOT.find("m", version) == found


@pytest.mark.parametrize(
    ("name", "version", "error", "said"),
    [
        ("nobody", None, ModelNotFound, "'nobody' is not found"),
        ("nobody", "1", ModelNotFound, "'nobody' is not found"),
        ("named", None, ModelNotFound, "'named' is not found"),
        ("m", "7", ModelNotFound, "'m' version 7 is not found"),
        ("m", "1", VersionNotServed, "'m' version 1 is not at ready state"),
        ("m", "11", Unavailable, "'m' version 11 is not at ready state"),
        ("loading", None, Unavailable, "'loading' has no available versions"),
        ("loading", "1", Unavailable, "'loading' version 1 is not at ready state"),
        ("gone", None, ModelNotFound, "'gone' has no available versions"),
        ("failed", None, ModelNotFound, "'failed' has no available versions"),
        ("cold", None, ColdModel, "'cold' was unloaded to make room"),
        ("cold", "3", ColdModel, "'cold' was unloaded to make room"),
        ("cold", "4", ModelNotFound, "'cold' version 4 is not found"),
        ("warming", None, ColdModel, "'warming' was unloaded to make room"),
        ("m", str(2**63), InvalidArgument, "version should be an integral value"),
    ],
)
def test_what_is_not_served_is_told_why(name: str, version: str | None, error: type[TaxiwayError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        SNAPSHOT.find(name, version)
    assert type(caught.value) is error


def test_until_the_first_models_are_loaded_nobody_is_unknown() -> None:
    with pytest.raises(Unavailable, match="the server is loading its models"):
        Snapshot().find("m", None)
