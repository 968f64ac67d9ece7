"""Keys are equal for requests that are owed the same answer, and for no others."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.server.batching.fakes import RecordingResponder

from taxiway.core.requests import InferRequest, InputTensor
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.cache.key import KeyMaker, write_request

SPECS = [TensorSpec("x", Datatype.FP32, (-1,)), TensorSpec("text", Datatype.BYTES, (-1,), optional=True)]
OUTPUTS = [TensorSpec(name, Datatype.FP32, (-1,)) for name in ("y", "z", "w")]
EVERY = (0, 1, 2)


class Meaning(NamedTuple):
    """All of a request that its answer depends on."""

    tensors: tuple[tuple[tuple[int, ...], bytes | tuple[bytes, ...]] | None, ...]
    parameters: tuple[tuple[str, type, str], ...]
    outputs: frozenset[int]


def _request(tensors: list[Any], parameters: dict[str, Any] | None = None, outputs: Any = None) -> InferRequest:
    made = [None if tensor is None else InputTensor(tensor[1], tensor[0]) for tensor in tensors]
    return InferRequest(made, 1, RecordingResponder(), 0, outputs=outputs, parameters=parameters)


def _meaning(request: InferRequest) -> Meaning:
    tensors = tuple(
        None
        if tensor is None
        else (tensor.shape, tuple(tensor.data) if isinstance(tensor.data, list) else bytes(tensor.data))
        for tensor in request.inputs
    )
    own = request.parameters or {}
    parameters = tuple((name, type(value), repr(value)) for name, value in sorted(own.items()))
    return Meaning(tensors, parameters, frozenset(EVERY if request.outputs is None else request.outputs))


_shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
_buffers = st.tuples(_shapes, st.binary(max_size=6))
_texts = st.tuples(_shapes, st.lists(st.sampled_from([b"", b"a", b"b", b"ab", b"\0", b"\1\0\0\0\0\0\0\0"]), max_size=4))
_values = st.one_of(
    st.booleans(), st.integers(-2, 2), st.sampled_from(["", "1", "True", "1.0", "int:1"]), st.floats(width=16)
)
_parameters = st.none() | st.dictionaries(st.sampled_from(["", "a", "b", "ab"]), _values, max_size=3)
_outputs = st.none() | st.lists(st.sampled_from(EVERY), min_size=1, max_size=3).map(tuple)
_requests = st.builds(_request, st.tuples(st.none() | _buffers, st.none() | _texts).map(list), _parameters, _outputs)
_unbound = KeyMaker(SPECS, OUTPUTS, 1000)


def _words(request: InferRequest) -> bytes:
    return b"".join(bytes(words) for words in write_request(request, EVERY))


@given(_requests, _requests)
def test_words_are_equal_exactly_where_the_meaning_is(one: InferRequest, other: InferRequest) -> None:
    is_same = _meaning(one) == _meaning(other)
    assert (_words(one) == _words(other)) == is_same
    assert (_unbound.key_of(one) == _unbound.key_of(other)) == is_same


@given(st.lists(_requests, min_size=2, max_size=40))
def test_no_two_meanings_in_a_crowd_share_their_words(crowd: list[InferRequest]) -> None:
    meanings: dict[bytes, Meaning] = {}
    for request in crowd:
        assert meanings.setdefault(_words(request), _meaning(request)) == _meaning(request)


X = ((2, 3), bytes(range(24)))
DIFFERENT: dict[str, InferRequest] = {
    "another shape": _request([((3, 2), X[1]), None]),
    "one row": _request([((1, 6), X[1]), None]),
    "no rows": _request([((6,), X[1]), None]),
    "another shape of texts": _request([X, ((2, 3), [b""] * 6)]),
    "yet another shape of texts": _request([X, ((3, 2), [b""] * 6)]),
    "one byte": _request([((2, 3), bytes(range(1, 25))), None]),
    "an optional input": _request([X, ((0,), [])]),
    "a parameter": _request([X, None], {"a": 1}),
    "one output": _request([X, None], None, (0,)),
}


def test_whatever_differs_has_another_key() -> None:
    keys = {_unbound.key_of(request) for request in (_request([X, None]), *DIFFERENT.values())}
    assert len(keys) == len(DIFFERENT) + 1


def test_elements_that_look_like_the_next_tensor_are_elements() -> None:
    two = _request([((), b""), ((), [b"\xff"])])
    before_texts = len(_words(_request([((), b""), None]))) - 1
    end = _words(two)[before_texts:]
    assert end.endswith(b"\xff"), "as the words of an absent tensor"
    assert _words(_request([((), end[:-1]), None])) != _words(two)


def test_the_kind_of_a_parameter_counts() -> None:
    values = [1, 1.0, True, "1", "True", "1.0", "int:1"]
    assert len({_unbound.key_of(_request([X, None], {"a": value})) for value in values}) == len(values)


def test_texts_are_not_what_their_joined_bytes_are() -> None:
    parts = [[b"ab", b""], [b"a", b"b"], [b"", b"ab"]]
    assert len({_unbound.key_of(_request([X, ((2,), texts)])) for texts in parts}) == len(parts)


def test_json_and_binary_elements_and_any_order_of_outputs_are_the_same() -> None:
    numbers = array("f", [1.0, 2.0])
    json = _request([((2,), numbers), None], None, (2, 0, 1))
    binary = _request([((2,), memoryview(numbers.tobytes())), None])
    assert _unbound.key_of(json) == _unbound.key_of(binary)


def test_every_load_has_keys_of_its_own() -> None:
    request = _request([X, None])
    assert _unbound.key_of(request) == _unbound.key_of(request)
    assert _unbound.key_of(request) != KeyMaker(SPECS, OUTPUTS, 1000).key_of(request)


def test_a_large_request_has_no_key() -> None:
    request = _request([X, None])
    request.nbytes = 1001
    assert _unbound.key_of(request) is None
