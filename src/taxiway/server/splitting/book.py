"""All services whose requests are split, in one process: what is wanted of them, what was counted, which fuses blew.

What the control plane wants and what is served are brought together here, whenever either changes. Nothing here waits.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from taxiway.core.errors import FailedPrecondition
from taxiway.core.traffic import Arm as WantedArm
from taxiway.core.traffic import ArmCounts, ArmState, Fuse, FuseBlown, Report, Traffic
from taxiway.server.models.served import ServedModel
from taxiway.server.splitting.arm import Arm
from taxiway.server.splitting.fuse import FuseWatch
from taxiway.server.splitting.recording import ArmRecorder
from taxiway.server.splitting.records import Records
from taxiway.server.splitting.shadowing import Shadowing, can_copy
from taxiway.server.splitting.split import Split, is_by_replica
from taxiway.server.splitting.tally import ArmTally
from taxiway.telemetry.logs import Log

_log = Log("taxiway.traffic")
KEPT_SEGMENTS = 8
Find = Callable[[WantedArm], ServedModel | None]
"""What answers for an arm now; None: nothing does."""


@dataclass(eq=False)
class Page:
    """What is known of one service."""

    traffic: Traffic
    boot: str
    tallies: dict[tuple[str, int], ArmTally] = field(default_factory=dict)
    blown: dict[str, FuseBlown] = field(default_factory=dict)
    records: Records = field(default_factory=Records)
    split: Split | None = None
    blown_total: int = 0


class SplitBook:
    """The pages of all services.

    Args:
        changed: called when an arm's weight was changed here: the routes are others.
        tell: has the other processes of the server know of a fuse that blew.
        place: of this process among all of the server's, 0 to 1.
    """

    def __init__(
        self, changed: Callable[[], None], tell: Callable[[str, str, FuseBlown], None], place: float = 0.5
    ) -> None:
        self._changed = changed
        self._tell = tell
        self._place = place
        self._pages: dict[str, Page] = {}

    # --- what is wanted -----------------------------------------------------------------------------------

    def set(self, traffic: Traffic, find: Find) -> None:
        """From now on this is wanted; the routes have to be made anew.

        Raises:
            FailedPrecondition: it is older than what is followed, or an arm is not served.
        """
        page = self._pages.get(traffic.service)
        if page is not None and page.traffic.rollout == traffic.rollout:
            _check_generation(page.traffic, traffic)
        _check_arms(traffic, find)
        if page is None or page.traffic.rollout != traffic.rollout:
            page = Page(traffic, secrets.token_hex(8))
            self._pages[traffic.service] = page
        page.traffic = traffic
        page.blown = {arm: one for arm, one in page.blown.items() if one.generation > traffic.acknowledged}
        _forget_old(page)

    def splits(self, find: Find) -> dict[str, Split]:
        """How requests are split from now on, by service."""
        made = {name: self._split(page, find) for name, page in self._pages.items()}
        return {name: split for name, split in made.items() if split is not None}

    def _split(self, page: Page, find: Find) -> Split | None:
        """None if nothing of it is served: then it is as if there were no traffic of ours."""
        traffic = page.traffic
        served = {arm.name: found for arm in traffic.arms if (found := find(arm)) is not None}
        default = traffic.default if traffic.default in served else next(iter(served), None)
        if default is None:
            page.split = None
            return None
        weights = _weights(page, served, default)
        arms = {name: self._arm(page, name, one) for name, one in served.items()}
        if traffic.counted:
            _connect(page, arms, weights)
        kept = traffic if default == traffic.default else _with_default(traffic, default)
        page.split = Split(kept, arms, weights, self._place)
        return page.split

    def _arm(self, page: Page, name: str, served: ServedModel) -> Arm:
        traffic = page.traffic
        segment = traffic.segment
        tally = page.tallies.setdefault((name, segment), ArmTally(name, segment))
        share = traffic.recording.checked_share if traffic.counted else 0.0
        every = round(1 / share) if share else 0
        return Arm(name, served, tally, every, lambda arm, reason: self.blow(traffic, arm.name, reason))

    # --- fuses --------------------------------------------------------------------------------------------

    def blow(self, traffic: Traffic, arm: str, reason: str) -> None:
        """An arm gets nothing more, from the next request on, and the other processes are told."""
        blown = FuseBlown(arm, traffic.generation, reason, time.time_ns())
        if self.take_blown(traffic.service, traffic.rollout, blown):
            self._tell(traffic.service, traffic.rollout, blown)

    def take_blown(self, service: str, rollout: str, blown: FuseBlown) -> bool:
        """A fuse blew, here or in another process; whether that is news."""
        page = self._pages.get(service)
        if page is None or page.traffic.rollout != rollout or blown.arm in page.blown:
            return False
        if blown.generation <= page.traffic.acknowledged:
            return False
        page.blown[blown.arm] = blown
        page.blown_total += 1
        _log.error("fuse_blown", model=service, reason=f"{blown.arm}: {blown.reason}")
        self._changed()
        return True

    # --- what is told -------------------------------------------------------------------------------------

    def report(self, service: str) -> Report | None:
        """All there is to say of a service; what was recorded is handed out once."""
        page = self._pages.get(service)
        if page is None:
            return None
        traffic = page.traffic
        return Report(
            page.boot,
            os.getpid(),
            service,
            traffic.rollout,
            traffic.generation,
            list(_counts(page)),
            [_state(page, arm) for arm in traffic.arms],
            list(page.blown.values()),
            page.records.take(),
            page.records.dropped,
        )

    def pages(self) -> Mapping[str, Page]:
        """Every service, for the metrics."""
        return self._pages


def _check_generation(held: Traffic, new: Traffic) -> None:
    if new.generation < held.generation:
        raise FailedPrecondition(
            f"traffic of {new.service}: generation {new.generation} is older than {held.generation}, which is followed",
            hint="read the rollout's state again; somebody else has moved it",
            generation=held.generation,
        )


def _check_arms(traffic: Traffic, find: Find) -> None:
    found = {arm.name: find(arm) for arm in traffic.arms}
    missing = [arm for arm in traffic.arms if found[arm.name] is None]
    if missing:
        told = ", ".join(f"{arm.name} ({arm.key}, version {arm.version})" for arm in missing)
        raise FailedPrecondition(
            f"traffic of {traffic.service}: {told} is not loaded", hint="stage it first, and wait until it is ready"
        )
    shadow = traffic.shadow
    if shadow is None:
        return
    other, default = found.get(shadow.arm), found.get(traffic.default)
    if other is None or default is None or not can_copy(default, other):
        raise FailedPrecondition(
            f"traffic of {traffic.service}: requests cannot be copied for {shadow.arm!r}: its tensors differ from "
            f"those of {traffic.default!r}, or one of them is decoupled",
            hint="leave the shadow out; a canary compares what each of them answers",
        )


def _weights(page: Page, served: Mapping[str, ServedModel], default: str) -> dict[str, float]:
    """What each arm gets: of one that is gone, or whose fuse blew, another gets the share."""
    weights = {arm.name: arm.weight for arm in page.traffic.arms}
    against = {fuse.arm: fuse.against for fuse in page.traffic.fuses}
    for name in [arm.name for arm in page.traffic.arms if arm.name not in served or arm.name in page.blown]:
        to = against.get(name, default)
        if to == name or to not in served or to in page.blown:
            to = default
        if to != name:
            weights[to], weights[name] = weights[to] + weights[name], 0.0
    return {name: weight for name, weight in weights.items() if name in served}


def _connect(page: Page, arms: Mapping[str, Arm], weights: Mapping[str, float]) -> None:
    """Put fuses, recorders and shadows where they belong."""
    traffic = page.traffic
    for fuse in traffic.fuses:
        if fuse.arm in arms and fuse.against in arms:
            mine, theirs = weights.get(fuse.arm, 0.0), weights.get(fuse.against, 0.0)
            compared = not is_by_replica(traffic)  # otherwise the other one answers elsewhere
            watch = FuseWatch(fuse, mine, theirs if compared else 0.0, _spent(page, fuse))
            arms[fuse.arm].fuse = watch
            arms[fuse.against].against.append(watch)
    recording, shadow = traffic.recording, traffic.shadow
    for name, arm in arms.items():
        if recording.ids or recording.share:
            weight = weights.get(name, 0.0)
            arm.watchers.append(ArmRecorder(recording, name, arm.served, traffic.segment, weight, page.records).watched)
        if (
            shadow is not None
            and name != shadow.arm
            and shadow.arm in arms
            and can_copy(arm.served, arms[shadow.arm].served)
        ):
            other = arms[shadow.arm].served
            shadowing = Shadowing(
                shadow, name, arm.served, other, traffic.segment, page.records, 2 * recording.max_bytes
            )
            arm.shadow = shadowing.copy
            arm.watchers.append(shadowing.watched)


def _spent(page: Page, fuse: Fuse) -> float:
    """Bad requests of the arm beyond those that the other one would have had of as many."""
    spent = 0.0
    for (name, segment), tally in page.tallies.items():
        if name != fuse.arm:
            continue
        other = page.tallies.get((fuse.against, segment))
        spent += tally.bad - (0.0 if other is None else tally.assigned * other.bad / max(other.assigned, 1))
    return max(spent, 0.0)


def _with_default(traffic: Traffic, default: str) -> Traffic:
    import msgspec  # noqa: PLC0415 - where the arm that everything falls back to is gone

    return msgspec.structs.replace(traffic, default=default)


def _forget_old(page: Page) -> None:
    """Only the last segments are told: what is older was."""
    oldest = page.traffic.segment - KEPT_SEGMENTS
    page.tallies = {key: tally for key, tally in page.tallies.items() if key[1] > oldest}


def _counts(page: Page) -> Iterator[ArmCounts]:
    arms = {} if page.split is None else page.split.arms
    for (name, segment), tally in page.tallies.items():
        counts = tally.counts()
        if segment == page.traffic.segment and name in arms:
            counts.inferred, counts.infer_ns = arms[name].served.statistics.inferred()
        yield counts


def _state(page: Page, wanted: WantedArm) -> ArmState:
    arm = None if page.split is None else page.split.arms.get(wanted.name)
    if arm is None:
        return ArmState(wanted.name, ready=False, in_flight=_in_flight(page, wanted.name), reason="it is not served")
    trouble = arm.served.engine.trouble()
    return ArmState(wanted.name, trouble is None, _in_flight(page, wanted.name), trouble or "")


def _in_flight(page: Page, arm: str) -> int:
    return sum(tally.in_flight for (name, _), tally in page.tallies.items() if name == arm)
