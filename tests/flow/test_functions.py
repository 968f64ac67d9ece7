"""Functions of somebody's that give scores, in real processes: right ones, wrong ones, and some that do not behave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.raw_http import wait_until

from taxiway.control.functions import MAX_WAITING, ProcessFunctions
from taxiway.core.errors import InvalidArgument
from taxiway.rollout.functions import Function, Question, Reply

FILE = """
import os, sys, time
import numpy as np
print("this must not come between anybody's lines")

def mean(answer):
    return answer.outputs["y"].mean()

def agrees(answer, feedback):
    return float(answer.outputs["text"][0] == feedback.value)

def sum_of_inputs(answer):
    return answer.inputs["x"].sum() / 10

def nothing(answer):
    return None

def too_much(answer):
    return 1.5

def no_number(answer):
    return "good"

def fails(answer):
    raise LookupError("no such word")

def sleeps(answer):
    time.sleep(float(answer.outputs["y"].sum()))
    return 1.0

def eats(answer):
    return float(len(bytearray(int(answer.outputs["y"].sum()) << 30)) > 0)

def dies(answer):
    if answer.outputs["y"].sum() > 0:
        os._exit(3)
    return 1.0

def leaves(answer):
    sys.exit("enough")

def scribbles(answer):
    os.write(int(sys.argv[1]), b"\\0\\0\\0\\x01\\xc1")
    time.sleep(60)

def starts(answer):
    if answer.outputs["y"].sum() > 0:
        import subprocess
        started = subprocess.Popen(["sleep", "600"])
        with open(os.path.join(os.path.dirname(__file__), "pid"), "w") as file:
            file.write(str(started.pid))
        time.sleep(60)
    return 1.0

async def later(answer):
    return 1.0

NUMBER = 5
"""


@pytest.fixture
def functions(tmp_path: Path) -> Iterator[ProcessFunctions]:
    (tmp_path / "quality.py").write_text(FILE)
    made = ProcessFunctions(tmp_path, timeout_s=1.0, memory_bytes=2 << 30, rest_s=1.0)
    yield made
    made.close()


def function(name: str, arguments: int = 1, file: str = "quality.py") -> Function:
    return Function.parse("quality.judge", f"{file}:{name}", arguments)


def tensor(name: str, values: Any) -> dict[str, Any]:
    array = np.asarray(values, np.float32)
    return {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.tobytes()}


def asked(functions: ProcessFunctions, which: Function, *answers: Any, feedback: Any = None) -> Reply:
    """What comes of one call about these answers, each its inputs and outputs."""
    assert functions.ask(which, Question("r-1", "key", answers, feedback))
    found: list[Reply] = []

    def answered() -> bool:
        found.extend(functions.replies(which, "r-1"))
        return bool(found)

    wait_until(answered, "it is answered")
    (reply,) = found
    assert (reply.rollout, reply.key) == ("r-1", "key")
    return reply


def y(*values: float) -> tuple[list[Any], list[Any]]:
    return [], [tensor("y", values)]


def test_a_function_scores_each_answer_by_what_it_is_given(functions: ProcessFunctions) -> None:
    assert asked(functions, function("mean"), y(0.2, 0.4), y(1.0)).scores == pytest.approx([0.3, 1.0])
    assert asked(functions, function("sum_of_inputs"), ([tensor("x", [1, 2])], [])).scores == pytest.approx([0.3])
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": b"\x03\0\0\0yes"}
    said = {"kind": "label", "value": "yes"}
    assert asked(functions, function("agrees", 2), ([], [text]), feedback=said).scores == [1.0]
    assert asked(functions, function("agrees", 2), ([], [text]), feedback={**said, "value": "no"}).scores == [0.0]
    assert asked(functions, function("nothing"), y(1)) == Reply("r-1", "key", [None], "")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("too_much", "a score must be from 0 to 1, or None: 1.5"),
        ("no_number", "could not convert string to float"),
        ("fails", "LookupError: no such word"),
        ("leaves", "SystemExit: enough"),
    ],
)
def test_what_is_no_score_is_told_and_counts_for_nothing(functions: ProcessFunctions, name: str, problem: str) -> None:
    reply = asked(functions, function(name), y(1))
    assert reply.scores == [None]
    assert problem in reply.problem
    assert functions.problem(function(name), "r-1") == "", "other answers may have a score"


def test_one_that_takes_too_long_is_ended_and_started_again(functions: ProcessFunctions) -> None:
    assert "it took longer than 1 s" in asked(functions, function("sleeps"), y(60)).problem
    assert asked(functions, function("sleeps"), y(0)).scores == [1.0]
    assert functions.problem(function("sleeps"), "r-1") == ""


def test_one_that_wants_more_memory_than_it_may_have_fails_alone(functions: ProcessFunctions) -> None:
    assert "MemoryError" in asked(functions, function("eats"), y(8)).problem
    assert asked(functions, function("eats"), y(0)).scores == [0.0]


def test_one_that_dies_is_started_again_until_it_has_died_too_often(functions: ProcessFunctions) -> None:
    assert "its process ended (status 3)" in asked(functions, function("dies"), y(1)).problem
    assert asked(functions, function("dies"), y(0)).scores == [1.0]
    for _ in range(4):
        asked(functions, function("dies"), y(1))
    assert functions.ask(function("dies"), Question("r-1", "waits", [y(0)]))
    wait_until(lambda: "it rests" in functions.problem(function("dies"), "r-1"), "it rests")
    assert functions.replies(function("dies"), "r-1") == [], "nobody's answer is lost to that"
    wait_until(lambda: functions.problem(function("dies"), "r-1") == "", "it goes on")
    wait_until(lambda: functions.replies(function("dies"), "r-1") == [Reply("r-1", "waits", [1.0])], "and answers")


def test_one_whose_file_has_gone_or_is_broken_waits_until_it_is_well_again(
    functions: ProcessFunctions, tmp_path: Path
) -> None:
    file, mean = tmp_path / "late.py", function("mean", 1, "late.py")
    assert functions.ask(mean, Question("r-1", 1, [y(0.5)]))
    wait_until(lambda: "there is no file" in functions.problem(mean, "r-1"), "it is told")
    file.write_text("def mean(:")
    wait_until(lambda: "SyntaxError" in functions.problem(mean, "r-1"), "it is told")
    file.write_text(FILE)
    found: list[Reply] = []

    def answered() -> bool:
        found.extend(functions.replies(mean, "r-1"))
        return bool(found)

    wait_until(answered, "it is answered")
    assert found == [Reply("r-1", 1, [0.5])]
    assert functions.problem(mean, "r-1") == ""


def test_a_file_that_was_changed_counts_for_the_next_rollout(functions: ProcessFunctions, tmp_path: Path) -> None:
    file, half = tmp_path / "changing.py", function("half", 1, "changing.py")
    file.write_text("def half(answer): return 0.5")
    assert asked(functions, half, y(1)).scores == [0.5]
    file.write_text("def half(answer): return 0.25")
    functions.keep({"r-1"})
    assert asked(functions, half, y(1)).scores == [0.5]
    functions.keep({"r-2"})
    assert asked(functions, half, y(1)).scores == [0.25]


def test_what_somebody_else_says_for_it_is_no_score(functions: ProcessFunctions) -> None:
    assert "its process ended (and said nothing)" in asked(functions, function("scribbles"), y(1)).problem


def test_what_a_function_starts_ends_with_it(functions: ProcessFunctions, tmp_path: Path) -> None:
    assert "it took longer" in asked(functions, function("starts"), y(1)).problem
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not _runs(pid), "it has ended")


def _runs(pid: int) -> bool:
    """Whether it does; one that nobody has asked after yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_more_calls_than_may_wait_are_refused_and_not_waited_for(functions: ProcessFunctions) -> None:
    slow = function("sleeps")
    taken = [functions.ask(slow, Question("r-1", place, [y(0.9)])) for place in range(MAX_WAITING + 10)]
    assert taken[:10] == [True] * 10
    assert not taken[-1]


@pytest.mark.parametrize(
    ("name", "arguments", "file", "problem"),
    [
        ("absent", 1, "quality.py", "quality.py has no function absent"),
        ("NUMBER", 1, "quality.py", "has no function NUMBER"),
        ("later", 1, "quality.py", "must be an ordinary function"),
        ("mean", 2, "quality.py", r"must be callable as mean\(answer, feedback\)"),
        ("mean", 1, "absent.py", "there is no file"),
        ("mean", 1, "../outside.py", "the file is not below"),
        ("mean", 1, "broken.py", "SyntaxError"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_depends_on_it(
    functions: ProcessFunctions, tmp_path: Path, name: str, arguments: int, file: str, problem: str
) -> None:
    (tmp_path / "broken.py").write_text("def mean(:")
    (tmp_path.parent / "outside.py").write_text(FILE)
    with pytest.raises(InvalidArgument, match=problem):
        functions.check(function(name, arguments, file))


def test_what_can_be_used_is_found_to_be(functions: ProcessFunctions) -> None:
    functions.check(function("mean"))
    functions.check(function("agrees", 2))


def test_the_functions_that_the_docs_show_can_be_used(functions: ProcessFunctions, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text()
    (tmp_path / "docs.py").write_text(next(re.finditer(r"```python\n(# quality.py.*?)```", page, re.DOTALL))[1])
    close, polite = function("close", 2, "docs.py"), function("polite", 1, "docs.py")
    said = {"kind": "value", "value": 10.0}
    reply = asked(functions, close, ([], [tensor("price", [9.0])]), feedback=said)
    assert reply.scores == pytest.approx([0.9])
    answers = [
        ([_text("prompt", one)], [_text("text", other)]) for one, other in (("Who?", "Please"), ("", ""), ("Who?", ""))
    ]
    assert asked(functions, polite, *answers).scores == [1.0, None, 0.0]


def _text(name: str, said: str) -> dict[str, Any]:
    data = len(said.encode()).to_bytes(4, "little") + said.encode()
    return {"name": name, "datatype": "BYTES", "shape": [1], "data": data}


@pytest.mark.parametrize("text", ["mean", "quality.py", "quality.py:", "quality.txt:mean", "quality.py:a.b", ":mean"])
def test_what_names_no_function_is_told(text: str) -> None:
    with pytest.raises(InvalidArgument, match="names no function"):
        Function.parse("quality.judge", text, 1)
