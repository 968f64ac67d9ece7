"""Many generated requests or calls, each put to both servers, and what came of it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tests.oracle.compare import Exchange
from tests.oracle.deviations import Deviation, declared
from tests.oracle.lifecycle import Walk
from tests.oracle.replies import Call, CallExchange
from tests.oracle.requests import Request

MOST_ROUNDS: Final = 12
LEAST_SHARE: Final = 10
"""Hypothesis begins with the simplest example of all; a share of one would repeat it for ever."""
MOST_REPORTED: Final = 25

AskedT = TypeVar("AskedT", Request, Call, Walk)


class Survey(Generic[AskedT]):
    """Puts one request after the other to both, and keeps the smallest example of each undeclared difference.

    Args:
        what: the requests in a word or two, for the summary.
        put: asks both servers; one exchange, or several where a request is a stream of them.
    """

    def __init__(
        self,
        what: str,
        put: Callable[[AskedT], Sequence[Exchange | CallExchange]],
        deviations: Sequence[Deviation],
    ) -> None:
        self._what = what
        self._put: Callable[[AskedT], Sequence[Exchange | CallExchange]] = put
        self._deviations = deviations
        self._seen: set[AskedT] = set()
        self._labels: Counter[str] = Counter()
        self._unanswered: list[str] = []
        self._outcomes: Counter[str] = Counter()
        self._declared: Counter[str] = Counter()
        self._alike = self._deviating = 0
        self._undeclared: Counter[tuple[str, ...]] = Counter()
        self._smallest: dict[tuple[str, ...], Exchange | CallExchange] = {}

    @property
    def compared(self) -> int:
        """How many different requests both servers have answered."""
        return len(self._seen)

    def consider(self, asked: AskedT) -> None:
        """Compare the answers to one request, unless it was asked before."""
        identity = dataclasses.replace(asked, label="")  # what a request tries is no part of it
        if identity in self._seen:
            return
        self._seen.add(identity)
        self._labels[asked.label] += 1
        exchanges = self._put(asked)
        for exchange in exchanges:
            self._judge(exchange)
        if not any(exchange.differences for exchange in exchanges):
            self._alike += 1
        elif all(not exchange.differences or declared(exchange, self._deviations) for exchange in exchanges):
            self._deviating += 1

    def _judge(self, exchange: Exchange | CallExchange) -> None:
        self._outcomes[exchange.outcomes[0]] += 1
        if exchange.unanswered:
            self._unanswered.append(exchange.described())
        if not exchange.differences:
            return
        if deviations := declared(exchange, self._deviations):
            self._declared.update(deviation.id for deviation in deviations)
            return
        signature = (*exchange.outcomes, *sorted(_aspects(exchange)))
        self._undeclared[signature] += 1
        known = self._smallest.get(signature)
        if known is None or exchange.size < known.size:
            self._smallest[signature] = exchange

    def verdict(self) -> None:
        """Fail with what was left without an answer, or differs undeclared."""
        assert not self._unanswered, "\n\n".join(self._unanswered)
        if self._undeclared:
            pytest.fail(f"{self.summary()}\n\n{self._failures()}", pytrace=False)

    def summary(self) -> str:
        """One line for the end of the run."""
        answers = self._outcomes.total()
        several = f" ({answers} answers)" if answers > self.compared else ""
        outcomes = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(self._outcomes.items()))
        return (
            f"oracle: {self.compared} different {self._what}{several} compared, {self._alike} alike, "
            f"{self._deviating} deviate as declared {dict(self._declared)}, {self._undeclared.total()} undeclared "
            f"in {len(self._undeclared)} kinds; {len(self._labels)} kinds of request; Triton answered {outcomes}"
        )

    def _failures(self) -> str:
        """The smallest example of every undeclared kind of difference, the most frequent kinds first."""
        kept = [(count, self._smallest[kind]) for kind, count in self._undeclared.most_common(MOST_REPORTED)]
        return "\n\n".join(f"{count}x {exchange.described()}" for count, exchange in kept)


def _aspects(exchange: Exchange | CallExchange) -> set[str]:
    """What differs, without the positions and values that vary from one example to the next."""
    return {
        f"{d.kind} {re.sub(r'[0-9]+', 'N', d.where)}" + (f" {d.triton} {d.taxiway}" if d.kind == "error" else "")
        for d in exchange.differences
    }


def explore(
    kinds: Mapping[str, tuple[int, st.SearchStrategy[AskedT]]], total: int, number: int, survey: Survey[AskedT]
) -> None:
    """Visit `total` different requests, each kind in proportion; small kinds run out, others fill up."""
    weights = sum(weight for weight, _ in kinds.values())
    for round_ in range(MOST_ROUNDS):
        missing = total - survey.compared
        if missing <= 0:
            return
        for weight, strategy in kinds.values():
            share = math.ceil(missing * weight / weights)
            _run(strategy, max(share, LEAST_SHARE if round_ else 1), number + round_, survey.consider)


def _run(strategy: st.SearchStrategy[Any], count: int, number: int, visit: Callable[[Any], None]) -> None:
    @seed(number)
    @settings(settings.get_profile("oracle"), max_examples=count)
    @given(strategy)
    def each(asked: Any) -> None:
        visit(asked)

    each()
