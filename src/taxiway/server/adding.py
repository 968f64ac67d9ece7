"""Triton's statistics of several processes as those of one: counts and times added up, the latest of the latest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_ADDED = ("inference_count", "execution_count")
_GROUPED = ("inference_stats", "response_stats")


def add_statistics(answers: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One list out of one per process; a version that only some know is there with what those tell."""
    if len(answers) == 1:
        return list(answers[0])
    versions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for answer in answers:
        for told in answer:
            versions.setdefault((told["name"], told["version"]), []).append(told)
    return [_sum(versions[key]) for key in sorted(versions, key=lambda key: (key[0], int(key[1])))]


def _sum(told: list[dict[str, Any]]) -> dict[str, Any]:
    total = dict(told[0])
    total["last_inference"] = max(one["last_inference"] for one in told)
    for key in _ADDED:
        total[key] = sum(one[key] for one in told)
    for key in _GROUPED:
        total[key] = _add_nested([one[key] for one in told])
    total["batch_stats"] = _add_batches(batch for one in told for batch in one["batch_stats"])
    return total


def _add_batches(batches: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    sizes: dict[int, list[dict[str, Any]]] = {}
    for batch in batches:
        phases = {name: value for name, value in batch.items() if name != "batch_size"}
        sizes.setdefault(batch["batch_size"], []).append(phases)
    return [{"batch_size": size} | _add_nested(sizes[size]) for size in sorted(sizes)]


def _add_nested(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers with the same path added up; what only some have counts as they have it."""
    total: dict[str, Any] = {}
    for one in told:
        for key, value in one.items():
            if isinstance(value, dict):
                total[key] = _add_nested([total.get(key, {}), value])
            else:
                total[key] = total.get(key, 0) + value
    return total
