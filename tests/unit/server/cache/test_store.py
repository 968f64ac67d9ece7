"""The store keeps its bound, and the most recently used, whatever is asked of it."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taxiway.core.requests import BatchResult
from taxiway.server.cache.store import AnswerStore, weigh

MAX_BYTES = 10_000
_keys = st.sampled_from([bytes([number]) * 32 for number in range(12)])
_owners = st.sampled_from(["one", "other"])
_widths = st.sampled_from([0, 1, 100, 500, 2000])


def _result(width: int) -> BatchResult:
    return BatchResult(["y"], [np.zeros((1, width), np.float32)], 1)


class StoreMachine(RuleBasedStateMachine):
    """Against a model: an ordered dictionary of owners and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.store = AnswerStore(MAX_BYTES)
        self.known: OrderedDict[bytes, tuple[str, BatchResult, int]] = OrderedDict()

    def _shrink(self) -> None:
        while sum(weight for _, _, weight in self.known.values()) > MAX_BYTES:
            self.known.popitem(last=False)

    @rule(key=_keys, owner=_owners, width=_widths)
    def put(self, key: bytes, owner: str, width: int) -> None:
        result = _result(width)
        self.store.put(owner, key, result)
        self.known.pop(key, None)
        if weigh(result) <= MAX_BYTES:
            self.known[key] = (owner, result, weigh(result))
        self._shrink()

    @rule(key=_keys)
    def get(self, key: bytes) -> None:
        found = self.store.get(key)
        if key in self.known:
            self.known.move_to_end(key)
            assert found is self.known[key][1]
        else:
            assert found is None

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """An edge converts what it was given."""
        key = data.draw(st.sampled_from(list(self.known)))
        owner, result, _ = self.known[key]
        result.printed[0] = result.arrays[0].reshape(-1).tolist()
        self.store.reweigh(key)
        self.known[key] = (owner, result, weigh(result))
        self._shrink()

    @rule(owner=_owners)
    def drop(self, owner: str) -> None:
        self.store.drop(owner)
        self.known = OrderedDict((key, one) for key, one in self.known.items() if one[0] != owner)

    @rule(key=_keys)
    def reweigh_what_may_be_gone(self, key: bytes) -> None:
        self.store.reweigh(key)

    @invariant()
    def keeps_its_bound(self) -> None:
        assert self.store.bytes == sum(weight for _, _, weight in self.known.values()) <= MAX_BYTES
        assert len(self.store) == len(self.known)
        assert list(self.store._entries) == list(self.known)
        assert {key for keys in self.store._owned.values() for key in keys} == set(self.known)
        assert all(self.store._owned.values())


TestStoreMachine = StoreMachine.TestCase


def test_one_that_is_larger_than_everything_is_not_kept_and_pushes_nobody_out() -> None:
    store = AnswerStore(MAX_BYTES)
    store.put("one", b"a", _result(1))
    store.put("one", b"b", _result(MAX_BYTES))
    assert store.get(b"a") is not None
    assert store.get(b"b") is None
    assert (store.evictions, store.oversized) == (0, 1)


def test_converted_numbers_are_weighed_as_the_objects_they_are() -> None:
    result = _result(1000)
    before = weigh(result)
    result.printed[0] = [float(number) for number in range(1000)]
    assert weigh(result) - before >= 1000 * 32


@pytest.mark.parametrize("texts", [[b"x" * 1000], [b""] * 100, [b"a", b"bc" * 50]])
def test_texts_are_weighed_with_their_content(texts: list[bytes]) -> None:
    made = np.empty((1, len(texts)), object)
    made[0] = texts
    assert weigh(BatchResult(["y"], [made], 1)) >= sum(len(text) + 33 + 8 for text in texts)


def test_an_output_nobody_asked_for_weighs_nothing() -> None:
    one = _result(10)
    with_gap = BatchResult(["y", "z"], [None, one.arrays[0]], 1)  # type: ignore[list-item]
    assert weigh(with_gap) == weigh(one)
