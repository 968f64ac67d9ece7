"""A corpus of malicious artifacts, built when a test asks for them: nothing of it lies in the repository.

Each case carries a canary: a file that would be there afterwards if anything of it had been run. Each has a clean twin,
made in the same way and harmless, which must pass; where a twin is a pickle it passes because it is trusted.
"""

from __future__ import annotations

from tests.support.malicious import bombs, disguises, exported, liars, paths, pickles, polyglots, reaching
from tests.support.malicious.case import Case
from tests.support.malicious.pickles import RAW_PICKLES
from tests.support.malicious.polyglots import POLYGLOTS

__all__ = ["CASES", "POLYGLOTS", "RAW_PICKLES", "Case"]

CASES: tuple[Case, ...] = (
    *pickles.cases(),
    *polyglots.cases(),
    *exported.cases(),
    *reaching.cases(),
    *disguises.cases(),
    *paths.cases(),
    *bombs.cases(),
    *liars.cases(),
)
