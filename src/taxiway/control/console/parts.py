"""What the event stream tells beside metrics: which rollouts go on, and how the server stands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from time import time
from typing import Any

from taxiway import __version__
from taxiway.rollout.controller import RolloutController
from taxiway.rollout.journal import Journal
from taxiway.rollout.nouns import TERMINAL, Rollout
from taxiway.rollout.shares import weights_of


class Parts:
    """Asked once a second."""

    def __init__(self, journal: Journal, controller: RolloutController) -> None:
        self._journal = journal
        self._controller = controller
        self._started_ms = round(time() * 1000)

    async def told(self) -> Mapping[str, Any]:
        """All of them."""
        active = await asyncio.to_thread(self._journal.rollouts, None, active=True)
        server = {
            "version": __version__,
            "pid": os.getpid(),
            "started_ms": self._started_ms,
            "leads": self._controller.leads,
        }
        return {"server": server, "rollouts": [self.summary(one) for one in active]}

    def summary(self, rollout: Rollout) -> dict[str, Any]:
        """A rollout in short."""
        watched = None if rollout.phase in TERMINAL else self._controller.watched(rollout)
        verdict = None if watched is None else watched.verdict
        return {
            "id": rollout.id,
            "service": rollout.service,
            "phase": rollout.phase.value,
            "step": rollout.step,
            "baseline": rollout.baseline,
            "weights": weights_of(rollout),
            "outcome": None if verdict is None else verdict.outcome.value,
            "approval": rollout.approval,
            "paused": rollout.paused is not None,
            "degraded": rollout.degraded,
            "reason": rollout.reason,
        }
