"""From what data-plane processes report, again and again, to evidence. Pure: reports and the time are passed in.

Reports are cumulative for each boot of a process, so that one which is lost or heard twice changes nothing. What is
gathered is plain data that the journal keeps: a control process that is started again goes on where the last one was.

Silence is nothing here: time counts only once every arm that has a share has answered something in it, and whatever
is not as it should be is said in a sentence, which holds the rollout where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from taxiway.core.traffic import ArmCounts, Report
from taxiway.rollout.nouns import BASELINE, CONTROL, Calls, Evidence, Moments, Score, Segment, Tally
from taxiway.rollout.slots import S_NS, Closed, Slots, SlotTerms, cut
from taxiway.stats.log_buckets import BUCKETS, LogHistogram

LONGEST_WAIT_S: Final = 30.0
"""Time between two moments at which every arm had answered something new that counts as evidence at most."""
SILENT_S: Final = 60.0
"""Without anything new of an arm for so long, evidence is missing."""
LONGEST_GAP_S: Final = 60.0
"""Between two looks; if it was longer nobody looked, or the clock jumped, and it is no evidence."""
UNHEARD_S: Final = 5.0
"""A process that has not reported for so long is missed, until it is thought to be gone."""
GONE_S: Final = 60.0
SEALED_S: Final = 600.0
"""After so long nothing of an earlier segment is on its way any more: its counts are added up, and kept as sums."""
MAX_UNSCORED: Final = 0.01
"""Of the answers of an arm that a function was asked about; if it fails at more, its scores are no evidence."""
COUNTED: Final = (
    "assigned", "answered", "failed", "timed_out", "refused", "rejected", "cancelled", "checked", "invalid",
)  # fmt: skip
_ENDED_BY_ARM: Final = ("answered", "failed", "timed_out", "refused")


class Course(Struct):
    """One arm in one segment, as one boot of a process counted it.

    Attributes:
        base: what had been counted when the time to settle was over, which is left out.
        last: what was counted last.
    """

    base: ArmCounts
    last: ArmCounts


class Boot(Struct):
    """One process since it started.

    Attributes:
        heard_ns: when it reported last.
        segment, since_ns: the segment that it follows, and since when it is known to.
        settled: whether what it counts in that segment is evidence.
        courses: by segment, by arm.
        lost: segments of which nothing more is counted, and why.
    """

    pid: int
    heard_ns: int
    segment: int = -1
    since_ns: int = 0
    settled: bool = False
    courses: dict[int, dict[str, Course]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    slots: Slots = field(default_factory=Slots)


class Gathered(Struct):
    """All that was gathered for one rollout; plain data, which JSON holds bit for bit.

    Attributes:
        boots: by their ids.
        weights: by segment, by arm.
        sealed: by segment, by arm: sums of segments in which nothing can happen any more.
        left_ns: by segment, when the next one began.
        closed: by segment, by arm: what came of slots.
        seconds: of evidence, by segment.
        segment, generation: that of the present weights, and the first generation that had them.
        evidence_s: seconds of evidence in the present segment.
        waited_s: since every arm had last answered something new.
        progress: by arm, requests that had ended then, and pairs of a shadow.
        pairs: that a shadow gave, in all.
        looked_ns, moved_ns: when it was last looked at, and when every arm had last answered something new.
        calls: by arm, about its answers.
    """

    boots: dict[str, Boot] = field(default_factory=dict)
    weights: dict[int, dict[str, float]] = field(default_factory=dict)
    sealed: dict[int, dict[str, Tally]] = field(default_factory=dict)
    left_ns: dict[int, int] = field(default_factory=dict)
    closed: dict[int, dict[str, Closed]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    segment: int = -1
    generation: int = 0
    evidence_s: float = 0.0
    waited_s: float = 0.0
    progress: dict[str, int] = field(default_factory=dict)
    pairs: int = 0
    looked_ns: int = 0
    moved_ns: int = 0
    calls: dict[str, Calls] = field(default_factory=dict)


class Rules(Struct, frozen=True):
    """What is looked at, and how.

    Attributes:
        weights: of the present segment, by arm.
        baseline: the arm whose latencies say what is slow.
        must_answer: arms without whose answers time is no evidence.
        quantile, margin: what is slow (slots.py).
        shadow: the arm that gets copies, if one does: without its answers time is no evidence.
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
    shadow: str = ""


def gather(gathered: Gathered, reports: Sequence[Report], rules: Rules, now_ns: int) -> str:
    """Take in what was reported at `now_ns` (UTC nanoseconds); why evidence is missing, empty if it is not."""
    if gathered.segment != rules.segment:
        _begin_segment(gathered, rules, now_ns)
    gap_s = (now_ns - gathered.looked_ns) / S_NS if gathered.looked_ns else 0.0
    gathered.looked_ns = now_ns
    own = [report for report in reports if report.rollout == rules.rollout]
    jump = _jumped(gathered, gap_s, now_ns)
    problems = [_take(gathered, report, rules, now_ns) for report in own]
    degraded = jump or next(filter(None, problems), "") or _missing(gathered, own, rules, now_ns)
    _cut_slots(gathered, own, rules, now_ns)
    _seal(gathered, now_ns)
    settling = not any(boot.settled and boot.segment == rules.segment for boot in gathered.boots.values())
    silent = _credit(gathered, rules, now_ns, gap_s, held=bool(degraded) or settling)
    return degraded or silent


def add_scores(gathered: Gathered, scores: Iterable[Score]) -> str:
    """Take in scores, those that are alike as one; what was wrong with those that were left out, if any."""
    known = {_kind(score): place for place, score in enumerate(gathered.scores)}
    problem = ""
    for given in scores:
        if not _is_share(given.score) or not _is_share(given.other or 0.0) or not _is_share(given.weight):
            problem = f"a score of {given.arm} is {given.score}, against {given.other}: it must be from 0 to 1"
            continue
        other = None if given.other is None else round(given.other, 3)
        score = Score(given.arm, given.source, given.weight, round(given.score, 3), other, given.segment, given.count)
        place = known.setdefault(_kind(score), len(gathered.scores))
        if place == len(gathered.scores):
            gathered.scores.append(score)
        else:
            count = gathered.scores[place].count + score.count
            gathered.scores[place] = Score(*_kind(score), count)
    return problem


def add_calls(gathered: Gathered, calls: Mapping[str, Calls]) -> str:
    """Take in how calls about each arm's answers ended; why scores are no evidence now, empty if they are."""
    for arm, new in calls.items():
        old = gathered.calls.get(arm, Calls())
        gathered.calls[arm] = Calls(old.made + new.made, old.failed + new.failed, new.why or old.why)
    return _unscored(gathered)


def _unscored(gathered: Gathered) -> str:
    """Why scores prove nothing: the answers that a function fails at are not any.

    They may be the rubbish of a version that would pass by the rest; or of one arm only, whose scores would then be
    fewer than its share of the requests, which is taken for harm.
    """
    told = (
        f"{one.failed} of {one.made} answers of {arm} have no score: {one.why}"
        for arm, one in gathered.calls.items()
        if one.failed > MAX_UNSCORED * one.made
    )
    return next(told, "")


def evidence_of(gathered: Gathered) -> Evidence:
    """What verdicts follow from."""
    segments = []
    for number in sorted(gathered.weights):
        tallies: dict[str, Tally] = {}
        for arm, sums in gathered.sealed.get(number, {}).items():
            _add_tally(tallies.setdefault(arm, Tally()), sums)
        missing = ""
        for boot in gathered.boots.values():
            missing = missing or boot.lost.get(number, "")
            for arm, course in boot.courses.get(number, {}).items():
                _add_tally(tallies.setdefault(arm, Tally()), _tally_of(course))
        for arm, closed in gathered.closed.get(number, {}).items():
            tally = tallies.setdefault(arm, Tally())
            tally.slots, tally.slow_slots, tally.cost = closed.slots, closed.slow, closed.cost
        weights, seconds = dict(gathered.weights[number]), gathered.seconds.get(number, 0.0)
        segments.append(Segment(number, weights, tallies, seconds, missing))
    scores = gathered.scores
    if _unscored(gathered):
        scores = [one for one in scores if one.source == "shadow"]  # which no function made
    return Evidence(segments, list(scores))


# --- what is heard ---------------------------------------------------------------------------------------------


def _begin_segment(gathered: Gathered, rules: Rules, now_ns: int) -> None:
    if gathered.segment >= 0:
        gathered.left_ns[gathered.segment] = now_ns
    gathered.segment, gathered.generation = rules.segment, rules.generation
    gathered.weights[rules.segment] = dict(rules.weights)
    gathered.evidence_s = gathered.waited_s = 0.0
    gathered.progress, gathered.moved_ns = {}, now_ns


def _jumped(gathered: Gathered, gap_s: float, now_ns: int) -> str:
    """Whether time went on as it should since the last look; if not, what has to settle begins to anew."""
    if 0 <= gap_s <= LONGEST_GAP_S:
        return ""
    for boot in gathered.boots.values():
        boot.heard_ns = min(boot.heard_ns, now_ns) if gap_s < 0 else boot.heard_ns
        if not boot.settled:
            boot.since_ns = now_ns
    gathered.moved_ns = now_ns
    if gap_s < 0:
        return f"the clock went back by {-gap_s:.0f} s"
    return f"nobody looked for {gap_s:.0f} s, or the clock jumped"


def _take(gathered: Gathered, report: Report, rules: Rules, now_ns: int) -> str:
    """Take in one report; why it is none, or not one of the present weights."""
    problem = next(filter(None, (_nonsense(counts) for counts in report.counts)), "")
    if problem:
        return f"process {report.pid} reports {problem}"
    boot = gathered.boots.get(report.boot)
    if boot is None:
        late = any(one.settled and one.segment == rules.segment for one in gathered.boots.values())
        boot = gathered.boots[report.boot] = Boot(report.pid, now_ns)
        if late and report.generation >= gathered.generation:
            # It was started after the others had settled: it had none of the old weights, and counts from zero.
            boot.segment, boot.settled = rules.segment, True
    boot.heard_ns = now_ns
    if boot.segment != rules.segment and report.generation >= gathered.generation:
        boot.segment, boot.since_ns, boot.settled = rules.segment, now_ns, False
    boot.settled = boot.settled or now_ns - boot.since_ns >= rules.settle_s * S_NS
    for counts in report.counts:
        _follow(gathered, boot, counts)
    for record in report.recorded:
        gathered.pairs += record.other_arm == rules.shadow != "" and record.other is not None
    return boot.lost.get(rules.segment, "")


def _follow(gathered: Gathered, boot: Boot, counts: ArmCounts) -> None:
    """Keep the latest counts, unless they are no continuation of what was counted."""
    number = counts.segment
    if number not in gathered.weights or number in gathered.sealed or number in boot.lost:
        return
    known = boot.courses.get(number, {}).get(counts.arm)
    if known is None:
        if number == boot.segment:
            base = ArmCounts(counts.arm, number) if boot.settled else counts
            boot.courses.setdefault(number, {})[counts.arm] = Course(base, counts)
        return
    if not _continues(known.last, counts):
        if 0 < counts.last_ns <= known.last.last_ns:
            return  # an older report, heard late
        boot.lost[number] = f"process {boot.pid} counts less of {counts.arm} than it did before"
        return
    known.last = counts
    if number == boot.segment and not boot.settled:
        known.base = counts


def _continues(before: ArmCounts, now: ArmCounts) -> bool:
    if any(getattr(now, name) < getattr(before, name) for name in COUNTED):
        return False
    latency = dict(now.latency)
    return all(latency.get(bucket, 0) >= count for bucket, count in before.latency)


def _nonsense(counts: ArmCounts) -> str:
    """What cannot be counted: a number below zero, or none at all."""
    for name in (*COUNTED, "infer_ns", "inferred", "last_ns"):
        value = getattr(counts, name)
        if not 0 <= value < math.inf:
            return f"{name} = {value} of {counts.arm}"
    for bucket, count in counts.latency:
        if not (0 <= bucket < BUCKETS and 0 <= count < math.inf):
            return f"{count} latencies in bucket {bucket} of {counts.arm}"
    return ""


# --- what is missing -------------------------------------------------------------------------------------------


def _missing(gathered: Gathered, reports: Sequence[Report], rules: Rules, now_ns: int) -> str:
    if not reports:
        return "no data-plane process reports"
    for report in reports:
        if report.generation < gathered.generation:
            return f"process {report.pid} follows generation {report.generation}, not {gathered.generation}"
        for state in report.states:
            if state.arm in rules.must_answer and not state.ready:
                return f"{state.arm} does not answer in process {report.pid}: {state.reason or 'it is not ready'}"
    for boot in gathered.boots.values():
        silent_s = (now_ns - boot.heard_ns) / S_NS
        if UNHEARD_S < silent_s < GONE_S:
            return f"process {boot.pid} has not reported for {silent_s:.0f} s"
    return ""


def _credit(gathered: Gathered, rules: Rules, now_ns: int, gap_s: float, *, held: bool) -> str:
    """Count time as evidence once every arm has answered something in it; which has not for long, if one."""
    ended = {arm: _ended(gathered, arm) for arm in rules.must_answer}
    if rules.shadow:
        ended[rules.shadow] = gathered.pairs
    behind = [arm for arm, count in ended.items() if count <= gathered.progress.get(arm, 0)]
    gathered.waited_s = 0.0 if held else min(gathered.waited_s + gap_s, LONGEST_WAIT_S)
    if held:
        gathered.progress = ended
    elif not behind and ended:
        gathered.evidence_s += gathered.waited_s
        gathered.seconds[rules.segment] = gathered.evidence_s
        gathered.waited_s, gathered.progress, gathered.moved_ns = 0.0, ended, now_ns
    silent_s = (now_ns - gathered.moved_ns) / S_NS
    if behind and silent_s >= SILENT_S:
        return f"nothing came of {' and '.join(behind)} for {silent_s:.0f} s"
    return ""


def _ended(gathered: Gathered, arm: str) -> int:
    """Requests of an arm that ended by its doing in the present segment, since it settled."""
    total = 0
    for boot in gathered.boots.values():
        course = boot.courses.get(gathered.segment, {}).get(arm)
        if course is not None:
            total += sum(getattr(course.last, name) - getattr(course.base, name) for name in _ENDED_BY_ARM)
    return total


# --- sums ------------------------------------------------------------------------------------------------------


def _cut_slots(gathered: Gathered, reports: Sequence[Report], rules: Rules, now_ns: int) -> None:
    old = tuple(arm for arm in (BASELINE, CONTROL) if rules.weights.get(arm))
    terms = SlotTerms(rules.baseline, old, rules.quantile, rules.margin)
    for report in reports:
        boot = gathered.boots.get(report.boot)
        if boot is None or boot.segment != rules.segment:
            continue
        courses = boot.courses.get(rules.segment, {})
        counts = {arm: course.last for arm, course in courses.items() if rules.weights.get(arm)}
        counted = boot.settled and rules.segment not in boot.lost
        for arm, one in cut(boot.slots, counts, rules.segment, now_ns, terms, counted=counted).items():
            total = gathered.closed.setdefault(rules.segment, {}).setdefault(arm, Closed())
            total.slots += one.slots
            total.slow += one.slow
            total.cost = _plus(total.cost, one.cost)


def _plus(one: Moments, other: Moments) -> Moments:
    return Moments(one.n + other.n, one.total + other.total, one.squares + other.squares)


def _seal(gathered: Gathered, now_ns: int) -> None:
    """Segments that are long over become sums, so that what is kept does not grow with every process that was."""
    for number, left_ns in gathered.left_ns.items():
        if number in gathered.sealed or now_ns - left_ns < SEALED_S * S_NS:
            continue
        sums = gathered.sealed[number] = {}
        for boot in gathered.boots.values():
            for arm, course in boot.courses.pop(number, {}).items():
                _add_tally(sums.setdefault(arm, Tally()), _tally_of(course))


def _tally_of(course: Course) -> Tally:
    counted = {name: getattr(course.last, name) - getattr(course.base, name) for name in COUNTED}
    base, last = LogHistogram.from_sparse(course.base.latency), LogHistogram.from_sparse(course.last.latency)
    return Tally(**counted, latency=last.minus(base).to_sparse())


def _add_tally(tally: Tally, other: Tally) -> None:
    for name in COUNTED:
        setattr(tally, name, getattr(tally, name) + getattr(other, name))
    if not tally.latency:
        tally.latency = other.latency
        return
    latency = LogHistogram.from_sparse(tally.latency)
    latency.merge(LogHistogram.from_sparse(other.latency))
    tally.latency = latency.to_sparse()


def _is_share(value: float) -> bool:
    return 0 <= value <= 1  # a NaN is neither


def _kind(score: Score) -> tuple[str, str, float, float, float | None, int]:
    return score.arm, score.source, score.weight, score.score, score.other, score.segment
