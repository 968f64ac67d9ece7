"""One service's requests, split between arms: immutable, but for what is counted; replaced whole at every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import random as _random

from taxiway.core.traffic import Traffic
from taxiway.server.models.served import ServedModel
from taxiway.server.splitting.arm import Arm
from taxiway.server.splitting.units import GetHeader, UnitChain
from taxiway.stats.assignment import Hasher, arm_of, upper_ends


class Split:
    """Chooses who answers.

    Args:
        traffic: what is wanted.
        arms: those of it that are served, by name.
        weights: their shares, which may differ from what is wanted: an arm may be gone, or its fuse blown.
    """

    def __init__(self, traffic: Traffic, arms: Mapping[str, Arm], weights: Mapping[str, float]) -> None:
        self.traffic = traffic
        self.arms = arms
        self.weights = weights
        self.default = arms[traffic.default].served
        """What answers where there is no caller to be told apart: other models, and questions about the model."""
        names = [name for name in arms if weights.get(name)]
        names.sort(key=lambda name: name == traffic.default)  # last: raising another's weight only takes from it
        self._views = [arms[name].view for name in names]
        self._ends: Sequence[float] = upper_ends([weights[name] for name in names])
        self._only = self._views[0] if len(names) == 1 else None
        self._routes = [
            (route.header.lower().encode(), route.value.encode(), arms[route.arm].served)
            for route in traffic.routes
            if route.arm in arms
        ]
        self._chain = UnitChain(traffic.units)
        self._hash = Hasher(traffic.salt)

    def choose(self, header: GetHeader, caller: str) -> tuple[ServedModel, bool]:
        """What answers a request that names no version, and whether it would answer the same request again.

        Args:
            header: the request's headers.
            caller: the name of the key that it was sent with; empty if there was none.
        """
        for name, value, served in self._routes:
            if header(name) == value:
                return served, True
        if self._only is not None:
            return self._only, True
        unit = self._chain.unit(header, caller)
        if unit is None:
            return self._views[arm_of(_random(), self._ends)], False  # noqa: S311 - a share, not a secret
        return self._views[arm_of(self._hash(unit), self._ends)], True
