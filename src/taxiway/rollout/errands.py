"""What others are to be told of a rollout's end: written with it, and carried to the registry afterwards."""

from __future__ import annotations

from typing import Final

from taxiway.core.errors import AliasMoved, TaxiwayError
from taxiway.core.refs import ModelRef
from taxiway.registry import ANY, Registry
from taxiway.registry.outbox import Letter, Message
from taxiway.rollout.journal import Journal
from taxiway.rollout.nouns import Phase, Rollout
from taxiway.rollout.resolving import OpenRegistry
from taxiway.telemetry.logs import Log

_log = Log("taxiway.rollout")
REGISTRY: Final = "registry"
_AGAIN_S: Final = 30.0
_CLAIM_S: Final = 5.0
"""How long a letter is carried at most; if whoever carries it is killed it is carried again after that."""


def letters_for(before: Rollout, after: Rollout) -> list[Message]:
    """Those that belong to this transition."""
    if after.phase is before.phase or after.phase not in (Phase.SUCCEEDED, Phase.ROLLED_BACK):
        return []
    letters = []
    for one in after.candidates:
        if one.digest:
            said = {"name": after.service, "version": one.version, "outcome": after.phase.value, "reason": after.reason}
            letters.append(Message(REGISTRY, "verdict", after.service, {**said, "rollout": after.id}))
    won = next((one for one in after.candidates if one.arm == after.winner), None)
    if after.phase is Phase.SUCCEEDED and won is not None and won.digest and after.plan["alias"]:
        moved = {"name": after.service, "alias": after.plan["alias"], "to": won.version, "from": after.baseline}
        letters.append(
            Message(REGISTRY, "alias", after.service, {**moved, "rollout": after.id, "reason": after.reason})
        )
    return letters


class Errands:
    """Carries letters to the registry. Blocking."""

    def __init__(self, journal: Journal, open_registry: OpenRegistry) -> None:
        self._journal = journal
        self._open_registry = open_registry

    def deliver(self) -> None:
        """All that wait."""
        while (letter := self._journal.outbox.claim(REGISTRY, lease_s=_CLAIM_S)) is not None:
            try:
                self._carry(letter)
            except TaxiwayError as error:
                _log.warning("letter_held_up", error=error)
                self._journal.outbox.postpone(letter, error.message, delay_s=_AGAIN_S)
                return

    def _carry(self, letter: Letter) -> None:
        opened = self._open_registry()
        if opened is None:
            self._journal.outbox.refuse(letter, "there is no registry")
            return
        with opened as registry:
            problem = _move(registry, letter) if letter.kind == "alias" else _note(registry, letter)
        if problem:
            _log.error("letter_refused", reason=problem)
            self._journal.outbox.refuse(letter, problem)
        else:
            self._journal.outbox.settle(letter)


def _move(registry: Registry, letter: Letter) -> str:
    """The alias follows only if nobody else has moved it meanwhile; twice is once."""
    said = letter.args
    now = registry.aliases(said["name"]).get(said["alias"])
    if now == said["to"]:
        return ""
    why = f"rollout {said['rollout']}: {said['reason']}"[:4000]
    expect = ANY if now is None else said["from"]
    try:
        registry.set_alias(said["name"], said["alias"], said["to"], expect=expect, actor="taxiway", why=why)
    except AliasMoved as error:
        return f"{error.message}; it stays where somebody else moved it"
    return ""


def _note(registry: Registry, letter: Letter) -> str:
    said = letter.args
    facts = {"outcome": said["outcome"], "reason": said["reason"][:1000]}
    ref = ModelRef(said["name"], said["version"])
    registry.add_lineage(ref, "rollout", said["rollout"], actor="taxiway", facts=facts)
    return ""
