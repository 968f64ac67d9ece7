"""Decoupled models over gRPC: answers on streams as they come, unary calls, slow and lost clients, statuses."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.flow.telling import ERROR, FINAL, FLOOD, PAUSE, REJECT, Telling, serve_teller
from tests.support.grpc_calls import Channel, connected, infer_request, output_of, refused
from tests.support.raw_http import wait_until

from taxiway.server.wire.grpc.protos import Message

UNIMPLEMENTED, RESOURCE_EXHAUSTED = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    with serve_teller(tmp_path_factory.mktemp("strict"), limits__max_stream_buffer_bytes=4 << 20) as telling:
        yield telling


@pytest.fixture
def channel(strict: Telling) -> Iterator[Channel]:
    with connected(strict.server.grpc) as channel:
        yield channel


def script(*words: int, empty_final: bool = False, **fields: Any) -> Message:
    message = infer_request("teller", ("x", np.array(words, np.int64)), **fields)
    if empty_final:
        message.parameters["triton_enable_empty_final_response"].bool_param = True
    return message


class Call:
    """One call of ModelStreamInfer, to which requests are given one by one."""

    def __init__(self, channel: Channel, **metadata: str) -> None:
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        headers = tuple(metadata.items())
        self.call: Any = channel.method("ModelStreamInfer")(
            iter(self._requests.get, None), timeout=20, metadata=headers
        )

    def ask(self, *messages: Message) -> Call:
        for message in messages:
            self._requests.put(message)
        return self

    def end(self) -> Call:
        self._requests.put(None)
        return self

    def next(self) -> Message:
        return next(self.call)

    def rest(self) -> list[Message]:
        return list(self.call)


def told(answer: Message) -> tuple[str, str | list[int], bool]:
    """The request's id, its error or its y, and whether it is the last."""
    response = answer.infer_response
    final = response.parameters["triton_final_response"].bool_param
    if answer.error_message:
        return response.id, answer.error_message, final
    return response.id, output_of(response, 0, "<i8") if response.outputs else [], final


def test_each_answer_is_a_response(channel: Channel) -> None:
    answers = Call(channel).ask(script(2, 3, FINAL, id="a")).end().rest()
    assert [told(answer) for answer in answers] == [("a", [2], False), ("a", [3], False), ("a", [7], True)]
    assert [[output.name for output in answer.infer_response.outputs] for answer in answers] == [
        ["y", "z"],
        ["y"],
        ["y"],
    ]
    assert {answer.infer_response.model_version for answer in answers} == {"1"}


def test_the_end_is_told_to_those_who_ask(channel: Channel) -> None:
    assert [told(answer) for answer in Call(channel).ask(script(2, id="a")).end().rest()] == [("a", [2], False)]
    asked = script(2, id="a", empty_final=True)
    *_, last = Call(channel).ask(asked).end().rest()
    assert told(last) == ("a", [], True)
    response = last.infer_response
    assert (response.model_name, response.model_version, list(response.parameters)) == (
        "teller",
        "",
        ["triton_final_response"],
    )
    assert [told(one) for one in Call(channel).ask(script(FINAL, empty_final=True)).end().rest()] == [("", [7], True)]
    assert Call(channel).ask(script()).end().rest() == []


def test_answers_of_different_requests_come_as_they_are_given(strict: Telling, channel: Channel) -> None:
    call = Call(channel).ask(script(2, PAUSE, 4, id="slow"))
    assert told(call.next()) == ("slow", [2], False)
    call.ask(script(3, FINAL, id="quick"), infer_request("doubler", ("x", np.ones((1, 2), np.float32)), id="once"))
    between = sorted(call.next().infer_response.id for _ in range(3))
    assert between == ["once", "quick", "quick"]
    strict.executor.go_on()
    assert [told(answer) for answer in call.end().rest()] == [("slow", [4], False)]


def test_errors_leave_the_stream_open(channel: Channel) -> None:
    call = Call(channel).ask(script(ERROR, 3, id="a")).ask(script(3, REJECT, id="b")).end()
    answers = [told(answer) for answer in call.rest()]
    assert [answer for answer in answers if answer[0] == "a"] == [("a", "not this one", False), ("a", [3], False)]
    assert [answer for answer in answers if answer[0] == "b"] == [
        ("b", [3], False),
        ("b", "the model is done for", True),
    ]


def test_what_cannot_be_read_is_told_and_the_stream_goes_on(channel: Channel) -> None:
    wrong = infer_request("teller", ("w", np.zeros(1, np.int64)), id="wrong")
    first, *rest = Call(channel).ask(wrong, script(2, id="a")).end().rest()
    assert "w" in first.error_message
    assert [told(answer) for answer in rest] == [("a", [2], False)]


def test_a_request_that_the_server_has_no_room_for_is_told_so_and_the_stream_goes_on(tmp_path: Path) -> None:
    flags = {"limits__max_pipelined": 2, "limits__max_requests": 1}
    with serve_teller(tmp_path, **flags) as telling, connected(telling.server.grpc) as channel:
        call = Call(channel).ask(script(2, PAUSE, id="first"))
        assert told(call.next()) == ("first", [2], False)
        for number in range(4):
            answer = call.ask(script(2, id=str(number))).next()
            assert "limits.max_requests" in answer.error_message
        telling.executor.go_on()
        wait_until(lambda: telling.executor.running == 0, "the first is over")
        call.ask(*[script(2, PAUSE, id=f"then {number}") for number in range(2)])
        # The refusal may overtake the answer: one is given at once, the other comes from the model's thread.
        answers = sorted((told(call.next()) for _ in range(2)), key=lambda answer: answer[0])
        assert answers[0] == ("then 0", [2], False)
        assert "limits.max_requests" in answers[1][1]
        telling.executor.go_on()
        assert call.end().rest() == []


@pytest.mark.parametrize("word", [ERROR, REJECT])
def test_the_first_error_ends_the_call_for_those_who_ask(strict: Telling, channel: Channel, word: int) -> None:
    call = Call(channel, triton_grpc_error="true").ask(script(PAUSE, 3, id="other"), script(2, word, 3, id="a"))
    assert told(call.next()) == ("a", [2], False)
    with refused(grpc.StatusCode.INTERNAL):
        call.rest()
    strict.executor.go_on()
    wait_until(lambda: strict.executor.running == 0, "nothing runs")
    assert "other" in strict.executor.abandoned


def test_a_client_that_goes_takes_its_requests_with_it(strict: Telling, channel: Channel) -> None:
    call = Call(channel).ask(script(2, PAUSE, 3, id="gone"))
    call.next()
    assert strict.series("taxiway_open_streams", protocol="grpc") == 1
    call.call.cancel()
    wait_until(lambda: "gone" in strict.executor.abandoned, "the request is given up")
    strict.executor.go_on()
    wait_until(lambda: strict.executor.running == 0, "nothing runs")
    wait_until(lambda: strict.series("taxiway_open_streams", protocol="grpc") == 0, "the stream is closed")
    assert strict.series("taxiway_http_requests_in_flight") == 0


def test_a_slow_reader_ends_its_own_call_only(strict: Telling, channel: Channel) -> None:
    other = Call(channel).ask(script(2, PAUSE, 4, id="other"))
    assert told(other.next()) == ("other", [2], False)
    with connected(strict.server.grpc, ("grpc.max_receive_message_length", -1)) as own:
        slow = Call(own).ask(script(FLOOD, id="slow"))  # nothing is read: what is unread when it ends, gRPC may drop
        wait_until(lambda: "slow" in strict.executor.abandoned, "the request is given up")
        strict.executor.go_on()
        assert [told(answer) for answer in other.end().rest()] == [("other", [4], False)]
        with refused(RESOURCE_EXHAUSTED) as refusal:
            slow.rest()
    assert "limits.max_stream_buffer_bytes is 4194304" in refusal.details
    assert not refusal.details.startswith("0 ")
    wait_until(lambda: strict.series("taxiway_http_buffered_bytes") == 0, "nothing is held")


def test_the_only_answer_answers_a_call_of_its_own(channel: Channel) -> None:
    for words, expected in (((3,), [3]), ((FINAL,), [7])):
        answer = channel.call("ModelInfer", script(*words, id="a"))
        assert (answer.id, output_of(answer, 0, "<i8"), list(answer.parameters)) == ("a", expected, [])
    typed = script(2)
    typed.parameters["contents"].string_param = "typed"
    answer = channel.call("ModelInfer", typed)
    assert [list(output.contents.int64_contents) for output in answer.outputs] == [[2], [2]]


@pytest.mark.parametrize("words", [(), (2, 3), (2, FINAL)])
def test_any_other_number_of_answers_is_refused(channel: Channel, words: tuple[int, ...]) -> None:
    with refused(UNIMPLEMENTED) as refusal:
        channel.call("ModelInfer", script(*words))
    assert refusal.trailers["taxiway-code"] == "not-one-answer"


def test_likeness_to_an_earlier_request_does_not_count(channel: Channel) -> None:
    for _ in range(4):
        assert output_of(channel.call("ModelInfer", script(3)), 0, "<i8") == [3]
        assert [told(answer) for answer in Call(channel).ask(script(3)).end().rest()] == [("", [3], False)]


def test_triton_refuses_a_call_of_its_own(tmp_path: Path) -> None:
    with serve_teller(tmp_path, compat="triton") as telling, connected(telling.server.grpc) as channel:
        with refused(UNIMPLEMENTED) as refusal:
            channel.call("ModelInfer", script(3))
        assert refusal.details == "ModelInfer RPC doesn't support models with decoupled transaction policy"
        assert [told(answer) for answer in Call(channel).ask(script(3)).end().rest()] == [("", [3], False)]


def test_a_stream_that_outlasts_the_drain_is_told(tmp_path: Path) -> None:
    with serve_teller(tmp_path, limits__drain_timeout_s=0.3) as telling, connected(telling.server.grpc) as channel:
        call = Call(channel).ask(script(2, PAUSE, 3, id="late"))
        call.next()
        telling.server.stop()
        assert told(call.next()) == ("late", "the server is shutting down", True)
        with refused(grpc.StatusCode.UNAVAILABLE):
            call.rest()


def test_triton_s_client_reads_it(strict: Telling) -> None:
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(strict.server.grpc) as client:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        tensor = triton.InferInput("x", [3], "INT64")
        tensor.set_data_from_numpy(np.array([2, ERROR, 4], np.int64))
        client.async_stream_infer("teller", [tensor], request_id="a", enable_empty_final_response=True)
        got = [answers.get(timeout=20) for _ in range(4)]
        client.stop_stream()
    assert [result and result.get_response().parameters["triton_final_response"].bool_param for result, _ in got] == [
        False,
        None,
        False,
        True,
    ]
    assert [result.as_numpy("y").tolist() for result, _ in (got[0], got[2])] == [[2], [4]]
    assert "not this one" in str(got[1][1])


def test_a_client_that_goes_amid_answers_is_no_defect(
    strict: Telling, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        call = Call(channel).ask(script(*[3] * 5000, PAUSE, id=f"amid {number}"))
        call.next()
        call.call.cancel()
        wait_until(lambda: f"amid {number}" in strict.executor.abandoned, "it is given up")  # noqa: B023
    if strict.executor.pausing():
        strict.executor.go_on()
    wait_until(lambda: strict.executor.running == 0, "nothing runs")
    wait_until(lambda: strict.series("taxiway_open_streams", protocol="grpc") == 0, "the streams are closed")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert strict.series("taxiway_http_buffered_bytes") == 0
