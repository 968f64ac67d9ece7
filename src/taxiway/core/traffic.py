"""How the requests of one service are split between versions, and what came of it: the nouns that cross processes.

The control plane says `Traffic`, whole, again and again if need be; the data plane answers with `Report`s. A report is
cumulative, so that one which is lost, or heard twice, changes nothing: the last one of each `boot` counts.

`msgspec.to_builtins` makes plain data of each, and `msgspec.convert` checks what comes back.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

UnitKind = Literal["header", "cookie", "api-key", "request-id", "replica"]


class UnitSource(Struct, frozen=True):
    """Where a request says on whose behalf it comes; the first source that it has counts.

    Attributes:
        kind: `api-key` is the name of the caller's key; `request-id` is X-Request-Id, or the id in the request;
            `replica` is the process that the request came to: each answers by one arm only, and stands alone.
        name: of the header or cookie.
    """

    kind: UnitKind
    name: str = ""


DEFAULT_UNITS = (UnitSource("header", "x-unit-id"), UnitSource("api-key"), UnitSource("request-id"))


class Arm(Struct, frozen=True):
    """One of those that share a service's requests.

    Attributes:
        name: as `candidate`; of the arms of one rollout, unique.
        key: what answers for it: a model as it is served (`fraud`, of which `version` answers), or a companion's key.
        version: its number, which answers tell.
        weight: its share of the requests that are split, 0 to 1; those of all arms add up to 1.
    """

    name: str
    key: str
    version: int
    weight: float


class HeaderRoute(Struct, frozen=True):
    """Requests that bring this very value in this header go to this arm, and prove nothing: they are not split."""

    header: str
    value: str
    arm: str


class Shadow(Struct, frozen=True):
    """Copies of requests are run by an arm whose answers nobody gets.

    Attributes:
        arm: whose weight may be 0.
        share: of the requests that others answer, 0 to 1.
        pairs_per_s: pairs of answers that are kept for comparison at most; what is more is counted, and dropped.
    """

    arm: str
    share: float
    pairs_per_s: float = 50.0


class Fuse(Struct, frozen=True):
    """When the data plane itself sends an arm's weight to zero, without asking anybody.

    It stays so until traffic of a later generation than the one it blew in comes with `acknowledged` fuses.

    Attributes:
        arm: which is watched, against `against`.
        against: which gets what it loses.
        log_e: evidence that the arm fails more often than the other, as the natural logarithm of an e-value.
        margin: how much more often it may fail, as a share: 0.5 allows half again as many.
        failures_in_a_row: of the arm's requests, whatever the other does.
        bad_requests: that the arm may fail beyond what the other fails of as many, in each process; None sets no bound.
            The exposure budget.
    """

    arm: str
    against: str
    log_e: float = 6.907755278982137
    margin: float = 0.5
    failures_in_a_row: int = 20
    bad_requests: int | None = None


class Recording(Struct, frozen=True):
    """What the data plane keeps of answered requests, for whoever judges them.

    Attributes:
        ids: whether the ids of requests are told, with the arm that answered, so that feedback finds it.
        share: of answers whose inputs and outputs are told whole, 0 to 1.
        max_bytes: inputs and outputs of one answer; larger ones are counted, and not kept.
        checked_share: of answers in which NaN and infinities are looked for.
    """

    ids: bool = False
    share: float = 0.0
    max_bytes: int = 64 << 10
    checked_share: float = 0.125


class Traffic(Struct, frozen=True):
    """How the requests for one service are split that name no version: the whole truth, replacing what was said before.

    Attributes:
        service: the model's name.
        rollout: whose work this is.
        generation: of the rollout; an older one is refused.
        segment: changes when the weights do: what is counted is counted by segment.
        salt: of the hash that assigns units to arms.
        default: the arm that answers for those that cannot be.
        counted: whether anything is: after a rollout is over, it only says which version answers.
        acknowledged: generations of fuses that blew, and whose weights may rise again: all up to this one.
    """

    service: str
    rollout: str
    generation: int
    segment: int
    salt: str
    arms: tuple[Arm, ...]
    default: str
    units: tuple[UnitSource, ...] = DEFAULT_UNITS
    routes: tuple[HeaderRoute, ...] = ()
    shadow: Shadow | None = None
    fuses: tuple[Fuse, ...] = ()
    recording: Recording = Recording()
    counted: bool = True
    acknowledged: int = 0


class Companion(Struct, frozen=True):
    """A version that is loaded beside what the server was told to serve.

    Attributes:
        key: `fraud/7`, or `fraud/3~twin`: what no model can be called, and no path can name.
        service: the model's name, which its answers carry.
        version: its number.
        path: of the model's directory, in which the version lies; empty for another copy of the version served.
        trusted: digests of files that may be loaded although they can run code.
    """

    key: str
    service: str
    version: int
    path: str = ""
    trusted: tuple[str, ...] = ()


class Swap(Struct, frozen=True):
    """One version for another where both do not fit: requests are held while the old one leaves and the new one loads.

    Attributes:
        companion: what comes.
        max_hold_s: how long a request is held at most.
        max_requests: held at once; what is more is refused, with Retry-After.
    """

    companion: Companion
    leaving: str
    max_hold_s: float = 60.0
    max_requests: int = 1000


class SwapOutcome(Struct, frozen=True):
    """What became of a swap. If the new version could not be loaded, the old one is back."""

    swapped: bool
    held: int
    shed: int
    took_s: float
    problem: str = ""


class ArmCounts(Struct):
    """What one process counted of one arm in one segment. A request counts once, when it ends, where it was assigned.

    Attributes:
        assigned: requests sent to it.
        answered: that were answered well.
        failed: by the model, or by what runs it.
        timed_out: their deadline passed.
        refused: for want of room: the arm's queue was full.
        rejected: for what the caller sent; they say nothing of the arm.
        cancelled: their clients went.
        checked, invalid: answers looked at for NaN and infinities, and those that had some.
        latency: pairs of bucket and count (stats.log_buckets), of those answered well, from arrival to answer.
        infer_ns, inferred: time in the model, and the rows that had it. Of the version, not of the segment.
        last_ns: when a request was last assigned, UTC nanoseconds; 0: never.
    """

    arm: str
    segment: int
    assigned: int = 0
    answered: int = 0
    failed: int = 0
    timed_out: int = 0
    refused: int = 0
    rejected: int = 0
    cancelled: int = 0
    checked: int = 0
    invalid: int = 0
    latency: list[tuple[int, int]] = field(default_factory=list)
    infer_ns: int = 0
    inferred: int = 0
    last_ns: int = 0


class FuseBlown(Struct, frozen=True):
    """A fuse that blew: from then on the arm got nothing.

    Attributes:
        generation: of the traffic in which it did.
        at_ns: UTC nanoseconds.
    """

    arm: str
    generation: int
    reason: str
    at_ns: int


class Recorded(Struct, frozen=True):
    """One answer, as it was given. Tensors are `{"name", "datatype", "shape", "data"}`, data raw as in binary tensors.

    Attributes:
        id: the caller's, empty if it gave none.
        unit: on whose behalf it came, hashed.
        weight: of its arm when it was assigned.
        other: for a shadow: what the shadow answered to the same inputs; None if this is no pair.
        other_error: for a shadow: why it did not answer.
    """

    arm: str
    segment: int
    id: str
    unit: str
    at_ns: int
    weight: float
    inputs: tuple[dict[str, Any], ...] = ()
    outputs: tuple[dict[str, Any], ...] = ()
    other_arm: str = ""
    other: tuple[dict[str, Any], ...] | None = None
    other_error: str = ""


class ArmState(Struct, frozen=True):
    """How what answers for an arm stands now in one process.

    Attributes:
        ready: whether it is loaded, and makes progress.
        in_flight: requests that it has, and has not answered.
    """

    arm: str
    ready: bool
    in_flight: int
    reason: str = ""


class Report(Struct):
    """What one data-plane process has to say of one service.

    Attributes:
        boot: of the process and this rollout in it: another one counts from zero.
        pid: of the process.
        generation: of the traffic that it follows.
        counts: cumulative since `boot`, of every arm and segment.
        blown: the fuses that blew and are not acknowledged.
        recorded: since the last report.
        dropped: records that there was no room for, cumulative.
    """

    boot: str
    pid: int
    service: str
    rollout: str
    generation: int
    counts: list[ArmCounts]
    states: list[ArmState]
    blown: list[FuseBlown]
    recorded: list[Recorded]
    dropped: int = 0
