"""From what data-plane processes report, again and again, to evidence. Pure: reports and the time are passed in.

Reports are cumulative for each boot of a process, so that one which is lost or heard twice changes nothing. What is
gathered is plain data that the journal keeps: a control process that is started again goes on where the last one was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from taxiway.core.traffic import ArmCounts, Report
from taxiway.rollout.nouns import Evidence, Moments, Score, Segment, Tally
from taxiway.stats.log_buckets import LogHistogram

SLOT_S: Final = 5.0
MINUTE_SLOTS: Final = 12
"""Slots that the threshold of slow ones is taken from."""
LEAST_IN_MINUTE: Final = 50
"""Requests of a minute without which there is no threshold."""
LONGEST_GAP_S: Final = 60.0
"""Time between two answers of an arm that counts as evidence at most."""
STALE_S: Final = 10.0
"""Between two looks; what lies between them is not evidence: nobody looked, or the clock jumped."""
S_NS: Final = 1_000_000_000
_COUNTED: Final = (
    "assigned", "answered", "failed", "timed_out", "refused", "rejected", "cancelled", "checked", "invalid",
)  # fmt: skip


class Course(Struct):
    """One arm in one segment, as one boot of a process counted it.

    Attributes:
        first_ns: when it was first heard of.
        base: what was counted before it had settled, which is left out; None until then.
        last: what was counted last.
    """

    first_ns: int
    base: ArmCounts | None = None
    last: ArmCounts | None = None


class Slots(Struct):
    """Slots of one boot: the one that is open, and the baseline's of the last minute.

    Attributes:
        began_ns: of the open one.
        at: by arm, what had been counted when it began.
        minute: the baseline's latencies, slot by slot.
    """

    began_ns: int
    at: dict[str, ArmCounts]
    minute: list[list[tuple[int, int]]] = field(default_factory=list)


class Gathered(Struct):
    """All that was gathered for one rollout.

    Attributes:
        courses: by boot, arm and segment, as `boot arm segment`.
        weights: by segment.
        slots: by boot, of the present segment.
        closed: by arm and segment, as `arm segment`: what slots said.
        scores: of answers, oldest first.
        segment, evidence_s: seconds of evidence in the present segment.
        waited_s: seconds since all arms that count answered something.
        progress: by arm, requests ended when they last did.
        looked_ns: when it was last looked at.
        blown: generations of fuses that were told, by arm.
    """

    courses: dict[str, Course] = field(default_factory=dict)
    weights: dict[int, dict[str, float]] = field(default_factory=dict)
    slots: dict[str, Slots] = field(default_factory=dict)
    closed: dict[str, Tally] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    segment: int = 0
    evidence_s: float = 0.0
    waited_s: float = 0.0
    progress: dict[str, int] = field(default_factory=dict)
    looked_ns: int = 0


class Rules(Struct, frozen=True):
    """What is looked at, and how.

    Attributes:
        baseline: the arm whose latencies say what is slow.
        must_answer: arms without whose answers time is no evidence.
        quantile, margin: what is slow: above this quantile of the baseline's last minute, times 1 + margin.
    """

    rollout: str
    generation: int
    segment: int
    weights: Mapping[str, float]
    baseline: str
    must_answer: tuple[str, ...]
    settle_s: float
    quantile: float = 0.99
    margin: float = 0.1


def gather(gathered: Gathered, reports: Sequence[Report], rules: Rules, now_ns: int) -> str:
    """Take in what was reported at `now_ns` (UTC nanoseconds); why evidence is missing, empty if it is not."""
    own = [report for report in reports if report.rollout == rules.rollout]
    if gathered.segment != rules.segment:
        _begin_segment(gathered, rules)
    gathered.weights.setdefault(rules.segment, dict(rules.weights))
    broken = [report.boot for report in own if not _take(gathered, report, rules, now_ns)]
    degraded = _missing(own, broken, rules)
    dt_s = (now_ns - gathered.looked_ns) / S_NS
    gathered.looked_ns = now_ns
    if degraded or not 0 < dt_s <= STALE_S:
        gathered.waited_s = 0.0
        return degraded
    for report in own:
        _cut_slots(gathered, report, rules, now_ns)
    _credit(gathered, rules, dt_s)
    return ""


def evidence_of(gathered: Gathered) -> Evidence:
    """What verdicts follow from."""
    segments: dict[int, Segment] = {}
    for key, course in sorted(gathered.courses.items()):
        _, arm, number = key.split(" ")
        if course.base is None or course.last is None:
            continue
        segment = segments.setdefault(int(number), Segment(int(number), gathered.weights[int(number)], {}))
        _add(segment.tallies.setdefault(arm, Tally()), course.base, course.last)
    for key, closed in gathered.closed.items():
        arm, number = key.split(" ")
        if int(number) in segments:
            tally = segments[int(number)].tallies.setdefault(arm, Tally())
            tally.slots, tally.slow_slots, tally.cost = closed.slots, closed.slow_slots, closed.cost
    return Evidence([segments[number] for number in sorted(segments)], list(gathered.scores))


def _begin_segment(gathered: Gathered, rules: Rules) -> None:
    gathered.segment, gathered.evidence_s, gathered.waited_s = rules.segment, 0.0, 0.0
    gathered.slots.clear()
    gathered.progress.clear()


def _take(gathered: Gathered, report: Report, rules: Rules, now_ns: int) -> bool:
    """Whether its counters only ever grew."""
    grew = True
    for counts in report.counts:
        key = f"{report.boot} {counts.arm} {counts.segment}"
        course = gathered.courses.get(key)
        if course is None:
            if counts.segment not in gathered.weights:
                continue  # nobody knows its weights any more
            course = gathered.courses[key] = Course(now_ns)
        if course.last is not None and any(getattr(counts, one) < getattr(course.last, one) for one in _COUNTED):
            grew = False
            continue
        if course.base is None and now_ns - course.first_ns >= rules.settle_s * S_NS:
            course.base = counts
        course.last = counts
    return grew


def _missing(reports: Sequence[Report], broken: Sequence[str], rules: Rules) -> str:
    if not reports:
        return "no data-plane process reports"
    if broken:
        return "a process counts less than it did before"
    late = [report for report in reports if report.generation < rules.generation]
    if late:
        return f"process {late[0].pid} follows generation {late[0].generation}, not {rules.generation}"
    for report in reports:
        for state in report.states:
            if state.arm in rules.must_answer and not state.ready:
                return f"{state.arm} does not answer in process {report.pid}: {state.reason}"
    return ""


def _credit(gathered: Gathered, rules: Rules, dt_s: float) -> None:
    """Time counts once every arm has answered something in it."""
    ended = {arm: _ended(gathered, arm, rules.segment) for arm in rules.must_answer}
    gathered.waited_s = min(gathered.waited_s + dt_s, LONGEST_GAP_S)
    if all(ended[arm] > gathered.progress.get(arm, 0) for arm in ended):
        gathered.evidence_s += gathered.waited_s
        gathered.waited_s = 0.0
        gathered.progress = ended


def _ended(gathered: Gathered, arm: str, segment: int) -> int:
    total = 0
    for key, course in gathered.courses.items():
        if key.endswith(f" {arm} {segment}") and course.base is not None and course.last is not None:
            total += course.last.answered + course.last.failed - course.base.answered - course.base.failed
    return total


def _cut_slots(gathered: Gathered, report: Report, rules: Rules, now_ns: int) -> None:
    present = {counts.arm: counts for counts in report.counts if counts.segment == rules.segment}
    settled = all(
        (course := gathered.courses.get(f"{report.boot} {arm} {rules.segment}")) is not None and course.base is not None
        for arm in present
    )
    if not settled:
        return
    slots = gathered.slots.get(report.boot)
    if slots is None:
        gathered.slots[report.boot] = Slots(now_ns, present)
        return
    if now_ns - slots.began_ns < SLOT_S * S_NS:
        return
    if now_ns - slots.began_ns < 2 * SLOT_S * S_NS:  # longer ones are not like the others
        _close_slot(gathered, slots, present, rules)
    slots.began_ns, slots.at = now_ns, present


def _close_slot(gathered: Gathered, slots: Slots, present: Mapping[str, ArmCounts], rules: Rules) -> None:
    """The threshold is of the minute before the slot: nothing in it can have moved it."""
    threshold_ns = _threshold_ns(slots, rules)
    for arm, counts in present.items():
        before = slots.at.get(arm)
        if before is None:
            continue
        latency = _between(before, counts)
        tally = gathered.closed.setdefault(f"{arm} {rules.segment}", Tally())
        if latency.count and threshold_ns is not None:
            tally.slots += 1
            tally.slow_slots += latency.count_above(threshold_ns) > 0
        if counts.inferred > before.inferred:
            cost_s = (counts.infer_ns - before.infer_ns) / (counts.inferred - before.inferred) / S_NS
            cost = tally.cost
            tally.cost = Moments(cost.n + 1, cost.total + cost_s, cost.squares + cost_s**2)
        if arm == rules.baseline:
            slots.minute = [*slots.minute[-MINUTE_SLOTS + 1 :], latency.to_sparse()]


def _threshold_ns(slots: Slots, rules: Rules) -> float | None:
    minute = LogHistogram()
    for sparse in slots.minute:
        minute.merge(LogHistogram.from_sparse(sparse))
    if minute.count < LEAST_IN_MINUTE:
        return None
    return minute.quantile(rules.quantile) * (1 + rules.margin)


def _between(before: ArmCounts, after: ArmCounts) -> LogHistogram:
    return LogHistogram.from_sparse(after.latency).minus(LogHistogram.from_sparse(before.latency))


def _add(tally: Tally, base: ArmCounts, last: ArmCounts) -> None:
    for one in _COUNTED:
        setattr(tally, one, getattr(tally, one) + getattr(last, one) - getattr(base, one))
    latency = LogHistogram.from_sparse(tally.latency)
    latency.merge(_between(base, last))
    tally.latency = latency.to_sparse()
