from __future__ import annotations

import datetime as dt
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InternalError, WrongShape
from taxiway.server.access import AccessLog
from taxiway.telemetry.log_fields import LogFields, describe_fields
from taxiway.telemetry.logs import MODEL_LOGGER, Log, RepeatLimit, configure_logs, describe_record


class HandClock:
    """Moves when told."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def now_utc(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def stream(clock: HandClock) -> io.StringIO:
    stream = io.StringIO()
    configure_logs(level="debug", stream=stream, clock=clock)
    return stream


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_on_one_line(stream: io.StringIO) -> None:
    Log("taxiway.test").info("model_ready", model="add\nsub", version="1", duration_ms=1.5)
    (line,) = _lines(stream)
    assert list(line) == ["ts", "level", "event", "logger", "model", "version", "duration_ms"]
    assert line["event"] == "model_ready"
    assert line["model"] == "add\nsub"
    assert dt.datetime.fromisoformat(line["ts"]).utcoffset() == dt.timedelta(0)
    assert line["ts"].endswith("Z")


def test_every_line_names_its_process_where_there_are_several() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream, worker=0)
    Log("taxiway.test").info("model_ready", model="add")
    logging.getLogger("other").warning("hello")
    configure_logs(form="text", stream=stream, worker=1)
    Log("taxiway.test").info("model_ready", model="add")
    first, second, third = stream.getvalue().splitlines()
    assert list(json.loads(first)) == ["ts", "level", "event", "logger", "worker", "model"]
    assert json.loads(second)["worker"] == 0
    assert "model_ready logger=taxiway.test worker=1 model=add" in third


def test_text_form_quotes_what_could_be_misread() -> None:
    stream = io.StringIO()
    configure_logs(form="text", stream=stream)
    Log("t").warning("odd", model='a b="c"', reason="x\ny", path="", count=3)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.rstrip().endswith(r'WARNING odd logger=t model="a b=\"c\"" reason="x\ny" path="" count=3')


def test_text_form_tells_an_error_in_words_and_once() -> None:
    stream = io.StringIO()
    configure_logs(form="text", stream=stream)
    problem = WrongShape("cannot take 3: too few", hint="send 4")
    problem.__cause__ = ValueError("too few")
    Log("t").error("refused", error=problem)
    assert (
        stream.getvalue()
        .rstrip()
        .endswith('refused logger=t error="cannot take 3: too few" code=wrong-shape hint="send 4"')
    )


def test_text_form_tells_where_a_defect_is_and_what_caused_it() -> None:
    stream = io.StringIO()
    configure_logs(form="text", stream=stream)
    problem = ZeroDivisionError()
    problem.__cause__ = KeyError("rows")
    Log("t").error("failed", error=problem)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.rstrip().endswith("error=ZeroDivisionError type=ZeroDivisionError cause=\"KeyError: 'rows'\" frames=[]")


def test_each_level_and_the_threshold() -> None:
    stream = io.StringIO()
    configure_logs(level="warning", stream=stream)
    log = Log("t")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [(line["level"], line["event"]) for line in _lines(stream)] == [("warning", "c"), ("error", "d")]


def test_a_client_s_error_is_data_without_frames_or_facts(stream: io.StringIO) -> None:
    Log("t").info("refused", error=WrongShape("no", hint="send [4]", value=[1, 2]))
    assert _lines(stream)[0]["error"] == {
        "type": "WrongShape",
        "message": "no",
        "kind": "invalid_argument",
        "code": "wrong-shape",
        "hint": "send [4]",
    }


def test_a_defect_tells_where_and_why(stream: io.StringIO) -> None:
    def break_down() -> None:
        raise InternalError("broken") from KeyError("x")

    try:
        break_down()
    except InternalError as error:
        Log("t").error("defect", error=error)
    told = _lines(stream)[0]["error"]
    assert told["frames"][-1].endswith(" break_down")
    assert told["cause"] == "KeyError: 'x'"


def test_other_libraries_come_out_in_the_same_form(stream: io.StringIO) -> None:
    try:
        int("boom")
    except ValueError:
        logging.getLogger("asyncio").exception("task %s failed", 7)
    (line,) = _lines(stream)
    assert (line["event"], line["message"], line["error"]["type"]) == (
        "message",
        "task 7 failed",
        "ValueError",
    )


@pytest.mark.parametrize("value", [np.zeros(3), [1.0, 2.0], b"tensor", {"data": [1]}, (1, 2)])
def test_contents_are_never_written(stream: io.StringIO, value: object) -> None:
    Log("t").info("odd", reason=value)  # type: ignore[arg-type]
    assert _lines(stream)[0]["reason"] == f"<{type(value).__name__}>"


def test_long_texts_are_cut_and_nan_stays_json(stream: io.StringIO) -> None:
    Log("t").info("odd", reason="x" * 5000, duration_ms=float("nan"))
    (line,) = _lines(stream)
    assert line["reason"].endswith("... (5000 characters)")
    assert line["duration_ms"] == "nan"


def test_a_hot_line_is_held_back_and_counted(stream: io.StringIO, clock: HandClock) -> None:
    limit = configure_logs(stream=stream, clock=clock)
    log = Log("t")
    for _ in range(100):
        log.error("model_failed", model="a")
    log.error("model_failed", model="b")
    assert len(_lines(stream)) == 11
    assert limit.suppressed == 90
    clock.now_ns += 11 * 10**9
    log.error("model_failed", model="a")
    assert _lines(stream)[-1]["suppressed"] == 90
    log.error("model_failed", model="a")
    assert "suppressed" not in _lines(stream)[-1]


def test_different_errors_are_not_alike(stream: io.StringIO, clock: HandClock) -> None:
    configure_logs(stream=stream, clock=clock, limit=RepeatLimit(clock, burst=1))
    for error in (KeyError("a"), ValueError("b"), KeyError("c")):
        Log("t").error("failed", error=error)
    assert [line["error"]["type"] for line in _lines(stream)] == ["KeyError", "ValueError"]


def test_ever_new_lines_are_bounded_too(stream: io.StringIO, clock: HandClock) -> None:
    configure_logs(stream=stream, clock=clock, limit=RepeatLimit(clock, burst=2, max_keys=5))
    for index in range(1000):
        Log("t").info("seen", model=f"m{index}")
    assert len(_lines(stream)) == 5 + 2
    clock.now_ns += 20 * 10**9
    Log("t").info("seen", model="later")
    assert _lines(stream)[-1]["model"] == "later"
    assert len(_lines(stream)) == 8


def test_configuring_again_replaces(stream: io.StringIO) -> None:
    second = io.StringIO()
    configure_logs(stream=second)
    Log("t").info("once")
    assert not stream.getvalue()
    assert len(_lines(second)) == 1


def test_a_message_that_is_no_text_is_no_trouble(stream: io.StringIO) -> None:
    logging.getLogger("lib").warning(["a"])
    assert _lines(stream)[0]["message"] == "['a']"


def test_every_field_is_described() -> None:
    described = describe_fields()
    assert described.keys() == LogFields.__annotations__.keys()
    assert all(meaning for _, meaning in described.values())


@given(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary(), st.lists(st.floats())))
def test_whatever_is_told_is_json(event: str, value: object) -> None:
    record = logging.makeLogRecord({"msg": event, "levelname": "INFO", "taxiway_fields": {"reason": value}})
    assert json.loads(json.dumps(describe_record(record), allow_nan=False))["event"] == event


def test_access_lines_are_written_one_by_one_whatever_the_level() -> None:
    stream = io.StringIO()
    limit = configure_logs(form="json", level="error", stream=stream, clock=HandClock())
    access = AccessLog()
    for _ in range(50):
        access.tell(0, path="/v2", status=200, caller="", model="m")
    Log("taxiway.http").info("not_wanted")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 50
    assert limit.suppressed == 0
    assert (lines[0]["event"], lines[0]["path"], lines[0]["status"]) == ("request", "/v2", 200)
    assert "caller" not in lines[0]


def test_what_models_print_is_never_taken_for_a_repetition(stream: io.StringIO, clock: HandClock) -> None:
    configure_logs(stream=stream, clock=clock, limit=RepeatLimit(clock, burst=1))
    for number in range(30):  # a traceback, say
        Log(MODEL_LOGGER).info("model_output", model="m", version="1", line=f"line {number}")
    assert [line["line"] for line in _lines(stream)] == [f"line {number}" for number in range(30)]
