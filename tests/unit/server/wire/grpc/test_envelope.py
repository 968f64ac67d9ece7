"""Large requests are cut apart without protobuf; the result is what protobuf reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import MalformedRequest
from taxiway.server.wire.grpc import envelope
from taxiway.server.wire.grpc.envelope import open_request
from taxiway.server.wire.grpc.protos import message_class

Request = message_class("inference.ModelInferRequest")
LARGE = 64 * 1024


@given(st.lists(st.binary(max_size=40), max_size=4), st.text(max_size=5), st.booleans())
def test_what_is_cut_is_what_protobuf_reads(raw: list[bytes], identity: str, large: bool) -> None:
    if large:
        raw.append(bytes(LARGE))
    message = Request(model_name="m", id=identity, raw_input_contents=raw)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 300])
    message.parameters["priority"].int64_param = -1
    words, contents = open_request(message.SerializeToString())
    assert [bytes(one) for one in contents] == raw
    del message.raw_input_contents[:]
    if large:
        assert words == message
    assert (words.id, words.inputs[0].shape, words.parameters["priority"].int64_param) == (identity, [1, 300], -1)


def test_large_contents_are_the_calls_own_memory() -> None:
    body = Request(model_name="m", raw_input_contents=[bytes(LARGE)]).SerializeToString()
    _, contents = open_request(body)
    assert isinstance(contents[0], memoryview)
    assert contents[0].obj is body


@pytest.mark.parametrize(
    "tail",
    [b"\x3a", b"\x3a\xff", b"\x3a\x05abc", b"\x80" * 11, b"\x0b", b"\x3f", b"\x0a\x02\xff\xff"],
    ids=["no length", "half a length", "short", "endless number", "group", "no such wire type", "no UTF-8"],
)
@pytest.mark.parametrize("large", [False, True])
def test_what_is_no_request_is_told_so(tail: bytes, large: bool) -> None:
    body = (Request(raw_input_contents=[bytes(LARGE)]).SerializeToString() if large else b"") + tail
    with pytest.raises(MalformedRequest, match="not an inference"):
        open_request(body)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    body = Request(raw_input_contents=[bytes(LARGE)]).SerializeToString() + tail
    try:
        words, raw = open_request(body)
    except MalformedRequest:
        return
    theirs = Request.FromString(body)
    assert [bytes(one) for one in raw] == list(theirs.raw_input_contents)
    assert words.model_name == theirs.model_name
    assert envelope._LARGE_BYTES < LARGE
