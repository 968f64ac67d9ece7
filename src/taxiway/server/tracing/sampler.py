"""Which requests are traced: every `rate`-th, until `count` are. Pure."""

from __future__ import annotations

from taxiway.server.tracing.plan import TracePlan


class Sampler:
    """Chooses for all requests that share one plan.

    Attributes:
        plan: what is wanted.
        left: how many are still to be traced; -1: no end.
    """

    __slots__ = ("_seen", "left", "plan")

    def __init__(self, plan: TracePlan) -> None:
        self.plan = plan
        self.left = plan.count
        self._seen = 0

    def take(self, asked: bool | None = None) -> bool:
        """Whether this request is traced. One that is asked for does not wait for its turn; False asks against it."""
        if self.left == 0 or asked is False:
            return False
        self._seen += 1
        if self._seen % self.plan.rate and not asked:
            return False
        if self.left > 0:
            self.left -= 1
        return True
