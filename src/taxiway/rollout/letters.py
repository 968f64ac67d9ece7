"""What others are to be told of a rollout: written with the transition, delivered afterwards, at least once."""

from __future__ import annotations

from taxiway.registry.outbox import Message
from taxiway.rollout.moving import Move
from taxiway.rollout.nouns import Phase, Rollout
from taxiway.rollout.shares import plan_of, promoted, weights

REGISTRY, NOTIFY = "registry", "notify"
"""Targets: the registry, whose alias follows a promotion and whose lineage tells of it; and whoever wants to know."""

MOVE_ALIAS, RECORD, CHANGED = "move-alias", "record-rollout", "rollout-changed"
"""Kinds of letters."""

_RECORDED = frozenset({Phase.SUCCEEDED, Phase.ROLLED_BACK})


def letters_of(before: Rollout | None, after: Rollout, move: Move) -> tuple[Message, ...]:
    """All letters of one transition. Those of a service arrive in order."""
    letters = []
    if before is None or before.phase is not after.phase or move.notify:
        letters.append(_changed(after, move))
    if before is not None and before.phase is not after.phase and after.phase in _RECORDED:
        letters.append(_recorded(after, move))
        winner, alias = promoted(after), plan_of(after).alias
        if winner is not None and alias:
            args = {"alias": alias, "to": winner.version, "from": after.baseline, **_about(after)}
            letters.append(Message(REGISTRY, MOVE_ALIAS, after.service, args))
    return tuple(letters)


def _changed(after: Rollout, move: Move) -> Message:
    args = {"kind": move.kind, "phase": after.phase.value, "weights": weights(after), "basis": move.basis.told()}
    return Message(NOTIFY, CHANGED, after.service, {**args, **_about(after)})


def _recorded(after: Rollout, move: Move) -> Message:
    tried = [{"arm": one.arm, "version": one.version, "digest": one.digest} for one in after.candidates]
    args = {"phase": after.phase.value, "promoted": after.promoted, "winner": after.winner, "outcomes": after.outcomes}
    more = {"candidates": tried, "baseline": after.baseline, "quarantined": after.quarantined}
    basis = {"plan_digest": after.plan_digest, "basis": move.basis.told()}
    return Message(REGISTRY, RECORD, after.service, {**args, **more, **basis, **_about(after)})


def _about(after: Rollout) -> dict[str, object]:
    return {
        "rollout": after.id,
        "generation": after.generation,
        "actor": after.promoted_by or after.created_by,
        "reason": after.reason,
    }
