"""One service's requests, split between arms: immutable, but for what is counted; replaced whole at every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import random as _random

from taxiway.core.traffic import Traffic
from taxiway.server.models.served import ServedModel
from taxiway.server.splitting.arm import Arm
from taxiway.server.splitting.units import GetHeader, UnitChain
from taxiway.stats.assignment import Hasher, arm_of, upper_ends


def is_by_replica(traffic: Traffic) -> bool:
    """Whether each process answers by one arm only."""
    return any(source.kind == "replica" for source in traffic.units)


class Split:
    """Chooses who answers.

    Args:
        traffic: what is wanted.
        arms: those of it that are served, by name.
        weights: their shares, which may differ from what is wanted: an arm may be gone, or its fuse blown.
        place: of this process among all of the server's, 0 to 1: which arm answers where the unit is the replica.
    """

    def __init__(
        self, traffic: Traffic, arms: Mapping[str, Arm], weights: Mapping[str, float], place: float = 0.5
    ) -> None:
        self.traffic = traffic
        self.arms = arms
        self.weights = weights
        self.default = arms[traffic.default].served
        """What answers where there is no caller to be told apart: other models, and questions about the model."""
        names = [name for name in arms if weights.get(name)]
        names.sort(key=lambda name: name == traffic.default)  # last: raising another's weight only takes from it
        self._views = [arms[name].view for name in names]
        self._ends: Sequence[float] = upper_ends([weights[name] for name in names])
        if is_by_replica(traffic):
            self._views = [self._views[arm_of(place, self._ends)]]
        self._pairs = list(zip(self._ends, self._views, strict=False))
        self._only = self._views[0] if len(self._views) == 1 else None
        self._routes = [
            (route.header.lower().encode(), route.value.encode(), arms[route.arm].served)
            for route in traffic.routes
            if route.arm in arms
        ]
        self._chain = UnitChain(traffic.units)
        self._hash = Hasher(traffic.salt)

    def at_random(self) -> ServedModel:
        """What answers a request that has no unit: whichever, by the weights."""
        u = _random()  # noqa: S311 - a share, not a secret
        for end, view in self._pairs:
            if u < end:
                return view
        return self._views[-1]

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
            return self.at_random(), False
        return self._views[arm_of(self._hash(unit), self._ends)], True
