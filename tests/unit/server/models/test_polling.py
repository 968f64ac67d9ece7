"""Following files: whatever happens on disk, only what has stood still is loaded, and everything is in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taxiway.server.models.fingerprint import Stamps
from taxiway.server.models.polling import Followed, Seen, decide_poll


def _stamps(content: int) -> Stamps:
    return Stamps(None, (), {1: (("model.onnx", content, 0),)})


def _follow(*looks: Seen) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    followed = Followed()
    done = []
    for look in looks:
        decision = decide_poll(followed, look)
        followed = decision.then
        done.append((decision.load, decision.unload))
    return done


def test_a_half_copied_directory_is_left_alone_until_it_stands_still() -> None:
    half, more, whole = ({"m": _stamps(size)} for size in (1, 2, 3))
    assert _follow(half, more, whole, whole, whole) == [
        ((), ()),
        ((), ()),
        ((), ()),
        (("m",), ()),
        ((), ()),
    ]


def test_what_is_gone_for_two_looks_is_unloaded() -> None:
    there = {"m": _stamps(1)}
    assert _follow(there, there, {}, {}, {}) == [((), ()), (("m",), ()), ((), ()), ((), ("m",)), ((), ())]


def test_what_is_replaced_between_two_looks_is_never_unloaded() -> None:
    assert _follow({"m": _stamps(1)}, {"m": _stamps(1)}, {}, {"m": _stamps(2)}, {"m": _stamps(2)})[2:] == [
        ((), ()),
        ((), ()),
        (("m",), ()),
    ]


def test_what_cannot_be_looked_at_is_neither_loaded_nor_unloaded() -> None:
    there = {"m": _stamps(1)}
    assert _follow(there, there, {"m": None}, {"m": None}, {"m": None})[2:] == [((), ())] * 3


LOOKS = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 2).map(_stamps)), max_size=3)
)


@given(LOOKS)
def test_whatever_happens_only_what_stands_still_is_acted_upon(looks: list[Seen]) -> None:
    followed = Followed()
    loaded: dict[str, Stamps] = {}
    before: Seen = {}
    for look in looks:
        decision = decide_poll(followed, look)
        followed = decision.then
        for name in decision.load:
            stamps = look[name]
            assert stamps is not None
            assert before[name] == stamps, "it had not stood still"
            assert loaded.get(name) != stamps, "it was loaded already"
            loaded[name] = stamps
        for name in decision.unload:
            assert name not in look
            assert name not in before
            del loaded[name]
        assert loaded == followed.acted
        before = look


@given(LOOKS, st.dictionaries(st.sampled_from("abc"), st.integers(0, 2).map(_stamps), max_size=3))
def test_in_the_end_what_is_on_disk_is_what_was_loaded(looks: list[Seen], end: Seen) -> None:
    followed = Followed()
    for look in [*looks, end, end, end]:
        followed = decide_poll(followed, look).then
    assert followed.acted == end
