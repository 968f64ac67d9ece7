"""What people ask for, from whichever door: begin a rollout, move it, undo it. However often it is sent: once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from taxiway.config.problems import Problem, invalid_config
from taxiway.config.rollout_plan import RolloutPlan
from taxiway.core.clock import Clock
from taxiway.core.errors import InvalidArgument, NotFound, QuarantinedVersion, RolloutActive
from taxiway.core.ports import TrafficPort
from taxiway.rollout import events as told
from taxiway.rollout.commands import Abort, Command
from taxiway.rollout.controller import RolloutController, transition_of
from taxiway.rollout.desired import released, weights_of
from taxiway.rollout.journal import Asked, Change, Journal, Transition
from taxiway.rollout.machine import BEFORE_TRAFFIC, allowed, begin
from taxiway.rollout.moments import utc_ns
from taxiway.rollout.nouns import TERMINAL, Candidate, Phase, Rollout
from taxiway.rollout.plan import Answering, answering, completed, new_id, new_rollout, wanted_arms
from taxiway.rollout.quality import QualityDesk
from taxiway.rollout.reading import MAX_KEY
from taxiway.rollout.replaying import replay_verdicts
from taxiway.rollout.resolving import Resolver

_PAST: Final = 100
"""Rollouts of a service that are looked through for the one to undo."""
_HINT: Final = "docs/rollouts.md shows a plan; docs/configuration.md lists its keys"


class RolloutOffice:
    """Takes commands.

    Args:
        defaults: plans by service, as the manifest has them; what a command says goes over them.
        replicas: data-plane processes.
        quality: knows whether the functions that plans name can be used.
    """

    def __init__(
        self,
        journal: Journal,
        traffic: TrafficPort,
        resolver: Resolver,
        controller: RolloutController,
        clock: Clock,
        defaults: Mapping[str, RolloutPlan],
        replicas: int,
        quality: QualityDesk,
    ) -> None:
        self._journal = journal
        self._traffic = traffic
        self._resolver = resolver
        self._controller = controller
        self._clock = clock
        self._defaults = defaults
        self._replicas = replicas
        self._quality = quality

    # --- commands -------------------------------------------------------------------------------------------

    async def start(
        self,
        service: str,
        words: Mapping[str, Any],
        *,
        actor: str,
        reason: str,
        force: bool,
        key: str,
        by_hand: bool = False,
    ) -> Rollout:
        """Begin a rollout, or have it wait for its turn.

        With `by_hand` a person has decided where it leads: verdicts do not turn it back.

        Raises:
            InvalidConfig: the plan breaks rules; all of them are told.
            NotFound: the service is not served, or a version does not exist.
            FailedPrecondition: one goes on already, or the version was turned back before.
        """
        plan = completed(self._plan(service, words), self._replicas)
        asked = Asked(key, {"start": service, "plan": plan.model_dump(mode="json"), "force": force, "reason": reason})
        before = await asyncio.to_thread(self._journal.outcome, asked)
        if before is not None:
            return await asyncio.to_thread(self._journal.rollout, before["rollout"])
        await asyncio.to_thread(self._quality.check, plan.model_dump(mode="json"))
        await self._controller.leading()
        last, served = await self._standing(service)
        now = self._baseline(service, last, served)
        candidates = [await self._candidate(service, arm, served) for arm in wanted_arms(plan)]
        path = now.path
        if plan.exclusive and not path:
            path = (await self._candidate(service, ("baseline", str(now.version), 0.0), {})).path
        rollout = new_rollout(
            new_id(),
            service,
            plan,
            now.version,
            now.key,
            candidates,
            actor=actor,
            now_ns=utc_ns(self._clock.now_utc()),
            baseline_path=path,
            baseline_shared=now.key == service and len(served) > 1,
            by_hand=by_hand,
        )
        made = await asyncio.to_thread(self._begin, rollout, plan, asked, actor, reason if force else "")
        self._controller.wake()
        return made

    def _begin(self, rollout: Rollout, plan: RolloutPlan, asked: Asked, actor: str, forced: str) -> Rollout:
        with self._journal.change(self._controller.leadership(), actor) as change:
            if (before := change.outcome(asked)) is not None:
                return change.rollout(before["rollout"])
            refused = [_check_quarantine(change, rollout.service, one, forced) for one in rollout.candidates]
            replaced = self._make_way(change, rollout, plan, actor)
            rollout = msgspec.structs.replace(rollout, supersedes=replaced, forced=forced if any(refused) else "")
            started = begin(rollout, actor)
            transition = Transition(None, rollout, started.kind, started.payload)
            change.write(transition, asked=asked, outcome={"rollout": rollout.id})
            return rollout

    def _make_way(self, change: Change, rollout: Rollout, plan: RolloutPlan, actor: str) -> str:
        """The rollout whose place it takes; empty: none, or it waits."""
        active = change.active(rollout.service)
        if active is None or plan.on_superseded == "queue":
            return ""
        if plan.on_superseded == "reject":
            raise RolloutActive(
                f"rollout {active.id} of {rollout.service} goes on (phase {active.phase.value})",
                hint=f"wait for it, `taxiway rollout abort {rollout.service}`, or --set on_superseded=queue or replace",
                rollout=active.id,
                phase=active.phase.value,
            )
        made = transition_of(active, told.Replaced(rollout.id), change.at_ns, actor)
        if made is None:
            return ""  # it is about to end
        change.write(made)
        return active.id

    async def command(
        self, rollout_id: str, command: Command, *, actor: str, key: str, expect_generation: int | None
    ) -> Rollout:
        """Have a person's command done; sent again with the same key, it has the outcome that it had.

        Raises:
            RolloutNotFound, StaleGeneration, InvalidTransition, InvalidArgument: it is not possible.
        """
        await self._controller.leading()
        after = await asyncio.to_thread(self._command, rollout_id, command, actor, key, expect_generation)
        if after.phase not in TERMINAL and after.phase not in (Phase.QUEUED, Phase.ADMIT, Phase.STAGE):
            await self._controller.publish(after)
        self._controller.wake()
        return await asyncio.to_thread(self._journal.rollout, rollout_id)

    def _command(
        self, rollout_id: str, command: Command, actor: str, key: str, expect_generation: int | None
    ) -> Rollout:
        said = {"rollout": rollout_id, "command": msgspec.to_builtins(command), "expect_generation": expect_generation}
        asked = Asked(key, said)
        with self._journal.change(self._controller.leadership(), actor) as change:
            rollout = change.rollout(rollout_id)
            if change.outcome(asked) is not None:
                return rollout
            if expect_generation is not None and expect_generation != rollout.generation:
                from taxiway.rollout.changing import stale  # noqa: PLC0415 - only to refuse

                raise stale(rollout, expect_generation)
            made = transition_of(rollout, command, change.at_ns, actor)  # type: ignore[arg-type]
            if made is None:
                return rollout
            change.write(made, asked=asked, outcome={"generation": made.after.generation})
            return made.after

    async def undo(
        self, service: str, to: int | None, *, actor: str, reason: str, key: str, expect_generation: int | None
    ) -> Rollout:
        """Back to the version before: at once while a rollout goes on, else by a rollout of its own in one step.

        Raises:
            NotFound: there is nothing to go back to.
        """
        active = await asyncio.to_thread(self._journal.active, service)
        if active is not None and to in (None, active.baseline):
            command = Abort(f"undo{': ' if reason else ''}{reason}")
            return await self.command(active.id, command, actor=actor, key=key, expect_generation=expect_generation)
        last = await asyncio.to_thread(self._last_won, service)
        if to is None and last is None:
            raise NotFound(
                f"no rollout of {service!r} has put another version in its place",
                hint=f"name one: `taxiway rollout undo {service} --to VERSION`",
            )
        version = to if to is not None or last is None else last.baseline
        plan = {"to": str(version), "strategy": "blue-green", "guard_for_s": 0}
        return await self.start(service, plan, actor=actor, reason=reason or "undo", force=True, key=key, by_hand=True)

    # --- questions ------------------------------------------------------------------------------------------

    async def status(self, rollout: Rollout) -> dict[str, Any]:
        """All that is told of a rollout."""
        watched = self._controller.watched(rollout) if rollout.phase not in TERMINAL else None
        verdict = None if watched is None else watched.verdict
        if verdict is None:
            verdict = await asyncio.to_thread(self._last_verdict, rollout.id)
        gathered = None if watched is None else watched.gathered
        return {
            "rollout": msgspec.to_builtins(rollout),
            "weights": weights_of(rollout),
            "verdict": None if verdict is None else msgspec.to_builtins(verdict),
            "evidence_s": 0.0 if gathered is None else gathered.evidence_s,
            "allowed": allowed(rollout),
            "ended": rollout.phase in TERMINAL,
        }

    def _last_verdict(self, rollout_id: str) -> Any:  # noqa: ANN401 - plain data
        looked = [event for event in self._journal.events(rollout_id, limit=100_000) if event.kind == "looked"]
        return looked[-1].payload["event"]["verdict"] if looked else None

    def replay(self, rollout_id: str) -> dict[str, Any]:
        """Compute every verdict again from the stored evidence, and the state from the events. Blocking."""
        rollout = self._journal.rollout(rollout_id)
        events = self._journal.events(rollout_id, limit=100_000)
        lines, same = [], True
        for one in replay_verdicts(self._journal, rollout_id):
            same = same and not one.differences
            word = "; ".join(("DIFFERENT", *one.differences)) if one.differences else "the same"
            lines.append(f"generation {one.generation}: {one.outcome}, {word}")
        from taxiway.rollout.machine import replay  # noqa: PLC0415 - for this question only

        state = replay((event.payload, event.at_ns) for event in events)
        same = same and state == rollout
        lines.append(
            f"{len(events)} events lead to {state.phase.value}: {'the same' if state == rollout else 'DIFFERENT'}"
        )
        return {"same": same, "lines": lines}

    # --- what is meant --------------------------------------------------------------------------------------

    def _plan(self, service: str, words: Mapping[str, Any]) -> RolloutPlan:
        base = self._defaults.get(service)
        said = {**(base.model_dump(exclude_unset=True) if base is not None else {}), **words}
        return checked_plan(said)

    async def _standing(self, service: str) -> tuple[Rollout | None, Mapping[int, bool]]:
        """The last rollout, if it says which version answers here, and what the server was told to serve and keeps."""
        served = await self._traffic.versions(service)
        last = await asyncio.to_thread(self._last, service)
        if last is None:
            return None, served
        reports = await self._traffic.report(service)
        heard = last.phase in BEFORE_TRAFFIC or any(report.rollout == last.id for report in reports)
        if not (reports and heard):
            return None, served  # the server was started anew since
        return last, ({} if service in released(last) else served)

    def _baseline(self, service: str, last: Rollout | None, served: Mapping[int, bool]) -> Answering:
        """What answers now."""
        if last is not None:
            return answering(last)
        if not served:
            raise NotFound(
                f"{service!r} is not served here", hint="`taxiway serve` it; GET /v2/repository/index lists what is"
            )
        return Answering(max(served), service)

    def _last_won(self, service: str) -> Rollout | None:
        """The last one that put another version in place of the one before; later ones may have been turned back."""
        past = self._journal.rollouts(service, active=False, limit=_PAST)
        return next((one for one in past if one.phase is Phase.SUCCEEDED and one.winner), None)

    def _last(self, service: str) -> Rollout | None:
        return next((one.last for one in self._journal.services() if one.service == service), None)

    async def _candidate(self, service: str, arm: tuple[str, str, float], served: Mapping[int, bool]) -> Candidate:
        name, to, percent = arm
        return await asyncio.to_thread(self._resolver.candidate, service, name, to, served, percent)


def _check_quarantine(change: Change, service: str, one: Candidate, forced: str) -> bool:
    """Whether it was turned back before, and is forced all the same."""
    found = change.quarantined(one.digest) if one.digest else None
    if found is not None and not forced.strip():
        raise QuarantinedVersion(
            f"version {one.version} of {service} was turned back by rollout {found.id}: {found.reason}",
            hint="try another version, or say why this one again: --force --why TEXT",
            rollout=found.id,
        )
    return found is not None


def checked_plan(said: Mapping[str, Any]) -> RolloutPlan:
    """The plan that plain data says.

    Raises:
        InvalidConfig: it breaks rules; all of them are told.
    """
    try:
        return RolloutPlan.model_validate(said)
    except ValidationError as error:
        problems = [_problem(dict(one)) for one in error.errors()]
        raise invalid_config("the rollout's plan", problems, hint=_HINT) from None


def _problem(error: Mapping[str, Any]) -> Problem:
    key = error.get("ctx", {}).get("key", "")
    path = ".".join([*map(str, error["loc"]), *([key] if key else [])])
    return Problem(path, repr(error.get("input", ""))[:100], error["msg"], "the plan")


def checked_key(key: str) -> str:
    """An idempotency key; one that nobody else uses where none was given.

    Raises:
        InvalidArgument: it is too long.
    """
    if len(key) > MAX_KEY:
        raise InvalidArgument(
            f"idempotency_key is longer than {MAX_KEY} characters", hint="send a UUID, the same one only to ask again"
        )
    return key or str(uuid.uuid4())
