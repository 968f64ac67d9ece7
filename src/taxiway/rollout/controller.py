"""Carries out what rollouts want: looks, judges, and has the data plane follow. Level-triggered: it may be killed.

It decides nothing: transitions are machine.py's, verdicts analysis.py's, and what is wanted desired.py's. Each pass
brings the data plane to what the journal says, whatever was done before; a transition is committed before it has any
effect. What goes wrong with one rollout is recorded there, and holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from taxiway.core.clock import Clock
from taxiway.core.errors import FailedPrecondition, NotLeader, TaxiwayError
from taxiway.core.ports import TrafficPort
from taxiway.core.traffic import Companion, Report, Swap
from taxiway.registry.outbox import Message
from taxiway.rollout import events as told
from taxiway.rollout.analysis import judge
from taxiway.rollout.comparing import agreement_of
from taxiway.rollout.desired import desired_companions, desired_traffic, has_twin, released, weights_of
from taxiway.rollout.errands import letters_for
from taxiway.rollout.evidence import Gathered, Rules, add_calls, add_scores, evidence_of, gather
from taxiway.rollout.journal import Journal, Leadership, Transition
from taxiway.rollout.machine import WITH_TRAFFIC, step
from taxiway.rollout.moments import utc_ns
from taxiway.rollout.nouns import BASELINE, CONTROL, TERMINAL, Evidence, Phase, Rollout, Score, Verdict
from taxiway.rollout.plan import begun_after
from taxiway.rollout.quality import QualityDesk
from taxiway.telemetry.logs import Log

_log = Log("taxiway.rollout")
ACTOR: Final = "taxiway"
"""Who moves rollouts by evidence."""
_LEAD_S: Final = 0.2
_PATIENCE_S: Final = 3.0
"""How long a command waits for this process to lead."""
_RENEW_S: Final = 2.0
Deliver = Callable[[], Coroutine[Any, Any, None]]
"""Delivers what waits in the outbox."""
Find = Callable[[Companion], Companion]
"""Says where a version lies whose files may have gone since they were laid out. Blocking."""


@dataclass(eq=False)
class Watched:
    """What is known of a rollout beside the journal: all of it can be found again.

    Attributes:
        published: the generation that the data plane follows.
        gathered: None until it was read from the journal.
        verdict: the last one.
        staging: what is being loaded for it.
    """

    published: int = 0
    gathered: Gathered | None = None
    verdict: Verdict | None = None
    staging: asyncio.Task[None] | None = None
    reports: list[Report] = field(default_factory=list)


class RolloutController:
    """The loop of one control process.

    Args:
        journal: where rollouts are kept.
        traffic: the way to the data plane.
        quality: makes scores of feedback.
        deliver: takes what others are to be told to them.
        find: see `Find`.
        look_every_s: how often the evidence is looked at.
    """

    def __init__(
        self,
        journal: Journal,
        traffic: TrafficPort,
        quality: QualityDesk,
        deliver: Deliver,
        find: Find,
        clock: Clock,
        look_every_s: float,
    ) -> None:
        self._journal = journal
        self._traffic = traffic
        self._quality = quality
        self._deliver = deliver
        self._find = find
        self._clock = clock
        self._look_every_s = look_every_s
        self._wake = asyncio.Event()
        self._watched: dict[str, Watched] = {}
        self._settled: set[str] = set()
        self._leadership: Leadership | None = None
        self._led = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    # --- from the start to the end --------------------------------------------------------------------------

    def begin(self) -> None:
        """Go on with everything that the journal says, as soon as nobody else leads."""
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def end(self) -> None:
        """Decide no more; what is under way is found again by whoever comes next."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        if self._leadership is not None:
            await asyncio.to_thread(self._journal.lease.give_back, self._leadership)

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    @property
    def leads(self) -> bool:
        """Whether this process moves rollouts."""
        return self._leadership is not None

    async def leading(self) -> None:
        """Wait until this process leads, as it does a moment after it was started; not for long if another one does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._led.wait()

    def leadership(self) -> Leadership:
        """The right to move rollouts.

        Raises:
            NotLeader: another process has it.
        """
        if self._leadership is None:
            raise NotLeader(
                "this control process does not lead: another one moves the rollouts of this journal",
                hint="ask that one, or give this server a journal of its own (control.journal)",
            )
        return self._leadership

    async def _run(self) -> None:
        renewing: asyncio.Task[None] | None = None
        try:
            while self._leadership is None:
                self._leadership = await asyncio.to_thread(self._journal.lease.take)
                if self._leadership is None:
                    await asyncio.sleep(_LEAD_S)
            self._led.set()
            renewing = asyncio.get_running_loop().create_task(self._renew(self._leadership))
            while True:
                self._wake.clear()
                await self._pass()
                try:
                    async with asyncio.timeout(self._look_every_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            if renewing is not None:
                renewing.cancel()

    async def _renew(self, leadership: Leadership) -> None:
        while await asyncio.to_thread(self._journal.lease.renew, leadership):  # noqa: ASYNC110 - the lease has no event
            await asyncio.sleep(_RENEW_S)
        _log.error("not_leader", reason="another control process has taken the lease; this one decides no more")
        self._leadership = None
        self._led.clear()

    async def _pass(self) -> None:
        """Everything once."""
        try:
            services = await asyncio.to_thread(self._journal.services)
        except TaxiwayError as error:
            _log.error("journal_unavailable", error=error)
            return
        for service in services:
            last = service.last
            if last is not None and last.phase not in TERMINAL:
                await self._guarded(last, self._reconcile(last))
            elif service.queued:
                await self._guarded(
                    service.queued[0], self._event(service.queued[0], begun_after(last, service.queued[0]))
                )
            elif last is not None and last.id not in self._settled:
                await self._guarded(last, self._settle(last))
        going_on = {one.last.id for one in services if one.last is not None and one.last.phase not in TERMINAL}
        await asyncio.to_thread(self._quality.keep, going_on)
        await self._guarded(None, self._deliver())

    async def _guarded(self, rollout: Rollout | None, work: Coroutine[Any, Any, Any]) -> None:
        """What goes wrong with one rollout is told, and holds up no other."""
        name = "" if rollout is None else rollout.id
        try:
            await work
        except TaxiwayError as error:
            _log.warning("rollout_held_up", model=name, error=error)
        except Exception as problem:  # noqa: BLE001 - the boundary: the loop never dies of one rollout
            _log.error("bug", model=name, error=problem)

    # --- one rollout ----------------------------------------------------------------------------------------

    def watched(self, rollout: Rollout) -> Watched:
        """What is known of it beside the journal."""
        return self._watched.setdefault(rollout.id, Watched())

    async def _reconcile(self, rollout: Rollout) -> None:
        if rollout.phase is Phase.ADMIT:
            await self._take_over(rollout)
            await self._event(rollout, told.Admitted())
        elif rollout.phase is Phase.STAGE:
            self._begin_staging(rollout)
        else:
            await self.publish(rollout)
            if rollout.phase in WITH_TRAFFIC:
                await self._look(rollout)

    async def _take_over(self, rollout: Rollout) -> None:
        """Take the requests back from what a rollout that this one replaces had given them to."""
        if not rollout.supersedes:
            return
        await self._traffic.set_traffic(desired_traffic(rollout))
        replaced = await asyncio.to_thread(self._journal.rollout, rollout.supersedes)
        for key in released(replaced):
            await self._traffic.release(key)
        self._watched.pop(replaced.id, None)

    def _begin_staging(self, rollout: Rollout) -> None:
        """Loading takes as long as it takes; meanwhile other rollouts go on, and this one can be aborted."""
        watched = self.watched(rollout)
        if watched.staging is None or watched.staging.done():
            watched.staging = asyncio.get_running_loop().create_task(self._stage(rollout))

    async def _stage(self, rollout: Rollout) -> None:
        try:
            await self._stage_all(rollout)
        except TaxiwayError as error:
            await self._guarded(rollout, self._event(rollout, told.Failed(error.message)))
        else:
            await self._guarded(rollout, self._event(rollout, told.Staged()))

    async def _stage_all(self, rollout: Rollout) -> None:
        for companion in desired_companions(rollout):
            await self._traffic.stage(await asyncio.to_thread(self._find, companion))

    async def publish(self, rollout: Rollout) -> None:
        """Have the data plane follow this state, if it does not; what is of no use any more is let go.

        Raises:
            TaxiwayError: it does not; it is tried again with the next look.
        """
        watched = self.watched(rollout)
        if watched.published != rollout.generation:
            if rollout.plan["exclusive"]:
                await self._swap(rollout)
            elif not watched.published and rollout.phase in WITH_TRAFFIC:
                await self._stage_all(rollout)  # this process was started anew, perhaps with the whole server
            await self._traffic.set_traffic(desired_traffic(rollout))
            watched.published = rollout.generation
        if rollout.phase in (Phase.PROMOTE, Phase.ROLLING_BACK, Phase.DRAIN):
            await self._event(rollout, told.Applied(rollout.generation))

    async def _swap(self, rollout: Rollout) -> None:
        """Exchange one version for the other where both do not fit."""
        served = await self._traffic.versions(rollout.service)
        candidate = rollout.candidates[0]
        wanted = rollout.baseline if rollout.phase is Phase.ROLLING_BACK else candidate.version
        if wanted in served or rollout.phase not in (Phase.PROMOTE, Phase.ROLLING_BACK):
            return
        path = candidate.path if wanted == candidate.version else rollout.baseline_path
        companion = Companion(f"{rollout.service}/{wanted}", rollout.service, wanted, path, candidate.trusted)
        swap = Swap(
            await asyncio.to_thread(self._find, companion),
            rollout.baseline_key,
            rollout.plan["max_hold_s"],
            rollout.plan["max_held"],
        )
        outcome = await self._traffic.swap(swap)
        _log.info("exchanged", model=rollout.service, reason=f"{outcome.held} held, {outcome.shed} shed")
        if not outcome.swapped:
            await self._event(rollout, told.Failed(f"the exchange failed: {outcome.problem}"))

    async def _settle(self, rollout: Rollout) -> None:
        """A rollout is over: it says which version answers as long as this server runs."""
        if rollout.phase is not Phase.FAILED_INFRA or rollout.step >= 0:
            try:
                await self._traffic.set_traffic(desired_traffic(rollout))
            except FailedPrecondition:
                _log.info("rollout_past", model=rollout.service, reason="the server was started anew since")
        for key in released(rollout):
            await self._traffic.release(key)
        self._settled.add(rollout.id)
        self._watched.pop(rollout.id, None)

    # --- evidence -------------------------------------------------------------------------------------------

    async def _look(self, rollout: Rollout) -> None:
        watched = self.watched(rollout)
        if watched.gathered is None:
            watched.gathered = await asyncio.to_thread(self._journal.working, rollout.id, Gathered) or Gathered()
        try:
            reports = await self._traffic.report(rollout.service)
        except TaxiwayError as error:
            reports, problem = [], error.message
        else:
            problem = ""
        watched.reports = reports
        for blown in (one for report in reports for one in report.blown if report.rollout == rollout.id):
            if await self._event(rollout, told.FuseBlew(blown.arm, blown.generation, blown.reason)):
                return
        now_ns = utc_ns(self._clock.now_utc())
        gathered = watched.gathered
        missing = gather(gathered, reports, rules_of(rollout), now_ns)
        scores = _pairs_in(reports, rollout)
        if any(guard["metric"] == "quality" for guard in rollout.plan["guards"]["metrics"]):
            taken = await asyncio.to_thread(self._quality.take, self.leadership(), rollout, reports)
            scores += taken.scores
            unscored = add_calls(gathered, taken.calls)
            missing = missing or self._quality.problem(rollout) or unscored
        degraded = problem or add_scores(gathered, scores) or missing
        evidence = evidence_of(gathered)
        arms = [one.arm for one in rollout.candidates if one.arm not in rollout.dropped]
        evidence_s = gathered.evidence_s
        watched.verdict = await asyncio.to_thread(judge, evidence, rollout.plan, arms)
        happened = told.Looked(watched.verdict, evidence_s, degraded, segment=rollout.segment)
        await asyncio.to_thread(self._journal.keep_working, self.leadership(), rollout.id, gathered)
        if step(rollout, happened, now_ns, ACTOR) is not None:
            await self._event(rollout, happened, evidence)

    # --- transitions ----------------------------------------------------------------------------------------

    async def _event(self, rollout: Rollout, event: told.Event, evidence: Evidence | None = None) -> bool:
        """Have something happen to a rollout; whether anything came of it, which is carried out at once."""

        def decide(before: Rollout, now_ns: int) -> Transition | None:
            return transition_of(before, event, now_ns, ACTOR, evidence)

        after = await asyncio.to_thread(self._journal.transition, self.leadership(), ACTOR, rollout.id, decide)
        if after.generation == rollout.generation:
            return False
        _tell(after)
        self.wake()
        if after.phase in (*WITH_TRAFFIC, Phase.ROLLING_BACK, Phase.DRAIN):
            await self.publish(after)
        return True


def transition_of(
    before: Rollout, event: told.Event, now_ns: int, actor: str, evidence: Evidence | None = None
) -> Transition | None:
    """What is written when something happens; None if nothing is.

    Raises:
        TaxiwayError: as `machine.step`.
    """
    if evidence is not None and isinstance(event, told.Looked):
        event = msgspec.structs.replace(event, digest=digest_of_evidence(evidence))
    made = step(before, event, now_ns, actor)
    if made is None:
        return None
    letters: list[Message] = letters_for(before, made.after)
    return Transition(before, made.after, made.kind, made.payload, evidence, letters)


def digest_of_evidence(evidence: Evidence) -> str:
    """By which an event names it."""
    from taxiway.rollout.blobs import Packed  # noqa: PLC0415 - where evidence is kept

    return Packed.of(evidence).digest


def rules_of(rollout: Rollout) -> Rules:
    """How its evidence is gathered now."""
    weights = weights_of(rollout)
    baseline = BASELINE if has_twin(rollout) and weights.get(BASELINE) else CONTROL
    slow: Mapping[str, Any] = next(
        (guard for guard in rollout.plan["guards"]["metrics"] if guard["metric"] == "slow-slots"), {}
    )
    answering = tuple(arm for arm, weight in weights.items() if weight > 0)
    return Rules(
        rollout.id,
        rollout.generation,
        rollout.segment,
        weights,
        baseline,
        answering,
        rollout.plan["settle_s"],
        slow.get("quantile", 0.99),
        slow.get("margin", 0.1),
        rollout.candidates[0].arm if rollout.phase is Phase.SHADOW else "",
    )


def _pairs_in(reports: list[Report], rollout: Rollout) -> list[Score]:
    """How alike the answers of a shadow are to those that were given."""
    return [
        Score(record.other_arm, "shadow", record.weight, agreement_of(record, rollout.plan["shadow"]), 1.0)
        for report in reports
        if report.rollout == rollout.id
        for record in report.recorded
        if record.other_arm
    ]


def _tell(rollout: Rollout) -> None:
    _log.info("rollout_moved", model=rollout.service, reason=f"{rollout.id}: {rollout.phase.value}: {rollout.reason}")
