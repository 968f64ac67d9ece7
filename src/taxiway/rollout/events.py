"""What happens to a rollout, beside the commands of people: told by the controller, who saw it."""

from __future__ import annotations

from msgspec import Struct

from taxiway.rollout.commands import Abort, Advance, Approve, Extend, Pause, Promote, Resume
from taxiway.rollout.nouns import Verdict


class Happening(Struct, frozen=True, tag=True, tag_field="type"):
    """What all of them have: nothing."""


class Begun(Happening, frozen=True):
    """Its turn has come: nothing else of its service goes on."""


class Admitted(Happening, frozen=True):
    """Its candidates exist, are whole, and may be tried."""


class Staged(Happening, frozen=True):
    """Everything that it needs is loaded, measured and warm in every process."""


class Failed(Happening, frozen=True):
    """What is around the candidate failed, which says nothing of it: a version could not be loaded, as one instance."""

    reason: str


class Applied(Happening, frozen=True):
    """Every process follows the weights of this generation."""

    generation: int


class Looked(Happening, frozen=True):
    """The evidence was looked at.

    Attributes:
        evidence_s: seconds of evidence since the weights are as they are.
        degraded: why evidence is missing now; empty if it is not.
        digest: of the evidence that the verdict follows from.
    """

    verdict: Verdict
    evidence_s: float
    degraded: str = ""
    digest: str = ""


class FuseBlew(Happening, frozen=True):
    """The data plane has turned an arm off by itself, in traffic of this generation."""

    arm: str
    generation: int
    reason: str


class Replaced(Happening, frozen=True):
    """A newer rollout of its service takes its place."""

    by: str


Event = (
    Begun | Admitted | Staged | Failed | Applied | Looked | FuseBlew | Replaced
    | Pause | Resume | Advance | Promote | Abort | Extend | Approve
)  # fmt: skip
"""All that can happen."""
