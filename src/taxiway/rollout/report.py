"""What a person reads of rollouts: lines of plain text from what the control API tells."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from taxiway.registry.report import table

Told = Mapping[str, Any]


def status_text(told: Told) -> list[str]:
    """One rollout: phase, weights, guards, and what may be done."""
    rollout = told["rollout"]
    tried = ", ".join(f"{one['arm']} = {rollout['service']}:{one['version']}" for one in rollout["candidates"])
    weights = "  ".join(f"{arm} {weight * 100:g} %" for arm, weight in told["weights"].items())
    lines = [
        f"{rollout['id']}  {rollout['service']}:{rollout['baseline']} -> {tried}",
        f"phase    {rollout['phase']} (generation {rollout['generation']}): {rollout['reason']}",
        f"weights  {weights}",
    ]
    for label, text in (
        ("paused", _paused(rollout["paused"])),
        ("waits", rollout["approval"]),
        ("missing", rollout["degraded"]),
    ):
        if text:
            lines.append(f"{label:<8} {text}")
    if not told["ended"]:
        lines.append(
            f"evidence {told['evidence_s']:.0f} s in this step of {rollout['plan']['min_step_s']:g} s at least"
        )
    if told["verdict"] is not None:
        lines += ["", *_guards(told["verdict"])]
        lines.append(f"verdict  {told['verdict']['outcome']}: {told['verdict']['sentence']}")
    if told["allowed"]:
        lines.append(f"allowed  {', '.join(told['allowed'])}")
    return lines


def _paused(paused: Told | None) -> str:
    return "" if paused is None else f"by {paused['by']}{': ' if paused['reason'] else ''}{paused['reason']}"


def _guards(verdict: Told) -> list[str]:
    rows = [
        (
            guard["arm"],
            guard["metric"] + ("" if guard["required"] else " *"),
            guard["outcome"],
            _number(guard["effect"]),
            f"{_number(guard['low'])} .. {_number(guard['high'], 'oo')}",
            f"{guard['log_e_harm']:.2f} of {guard['harm_at']:.2f}",
            f"{guard['log_e_safe']:.2f} of {guard['safe_at']:.2f}",
            f"{guard['candidate']} / {guard['baseline']}",
            _to_decide(guard),
        )
        for guard in verdict["guards"]
    ]
    head = ("ARM", "GUARD", "VERDICT", "EFFECT", "INTERVAL", "HARM", "SAFE", "EVENTS", "TO DECIDE")
    return [*table(head, rows), "* may stop it, is not waited for", ""]


def _number(value: float | None, missing: str = "-") -> str:
    return missing if value is None else f"{value:.3g}"


def _to_decide(guard: Told) -> str:
    if guard["outcome"] != "inconclusive":
        return "decided"
    events = f"{guard['more_events']} more bad events" if guard["more_events"] else ""
    time = "" if guard["more_s"] is None else f"{guard['more_s'] / 60:.1f} min"
    return f"about {', '.join(filter(None, (events, time)))}" if events or time else "nobody can tell yet"


def rollouts_text(told: Told) -> list[str]:
    """A list of them."""
    if not told["rollouts"]:
        return ["no rollouts; `taxiway rollout start NAME --to VERSION` begins one"]
    rows = [
        (
            one["id"],
            one["service"],
            f"{one['baseline']} -> {', '.join(str(candidate['version']) for candidate in one['candidates'])}",
            one["phase"],
            _time(one["created_at_ns"]),
            one["created_by"],
            one["reason"],
        )
        for one in told["rollouts"]
    ]
    return table(("ROLLOUT", "MODEL", "VERSIONS", "PHASE", "STARTED", "BY", "REASON"), rows)


def history_text(told: Told) -> list[str]:
    """Every event of one rollout."""
    rows = [
        (str(one["generation"]), _time(one["at_ns"]), one["kind"], one["actor"], one["phase"], one["reason"])
        for one in told["events"]
    ]
    return table(("GENERATION", "AT", "WHAT", "BY", "PHASE", "REASON"), rows)


def _time(at_ns: int) -> str:
    return dt.datetime.fromtimestamp(at_ns / 1e9, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def replay_text(lines: Sequence[str]) -> list[str]:
    """What came of computing verdicts again."""
    return list(lines) or ["nothing was judged"]
