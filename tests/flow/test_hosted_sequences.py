"""Stateful models in processes of their own: the state is in the process, and a sequence stays with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flow.serving import Server, serve
from tests.flow.test_sequences import ask, step
from tests.support import stateful_models as models


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hosted")
    models.counter(folder / "direct", instances=2)
    models.counter(folder / "oldest", strategy="oldest { max_candidate_sequences: 6 }")
    models.triton_counter(folder / "python")
    with serve(folder, execution__instances=0, limits__drain_timeout_s=1) as running:
        yield running


@pytest.mark.parametrize("model", ["direct", "oldest", "python"])
def test_sequences_stay_with_the_process_that_has_their_state(server: Server, model: str) -> None:
    failures: list[str] = []

    def call(number: int) -> None:
        for round_ in range(2):
            total = 0.0
            for x in range(1, 7):
                total += x * number
                got = step(server, model, x * number, number, start=x == 1, end=x == 6)
                if got != [total]:
                    failures.append(f"{number}, round {round_}: {got}, not {total}")

    callers = [threading.Thread(target=call, args=(20 + n,)) for n in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_a_step_that_raises_fails_alone_and_is_not_tried_again(server: Server) -> None:
    assert step(server, "direct", 1, 1, start=True) == [1]
    failed = ask(server, "direct", 13, sequence_id=1)
    assert failed.status == 500
    assert "no thirteens" in failed.json()["error"]
    assert step(server, "direct", 2, 1, end=True) == [3]


def test_a_process_takes_its_sequences_with_it(server: Server) -> None:
    assert step(server, "oldest", 1, 1, start=True) == [1]
    assert step(server, "oldest", 1, 2, start=True) == [1]
    died = ask(server, "oldest", 666, sequence_id=1)
    assert died.status == 500
    lost = ask(server, "oldest", 2, sequence_id=2)
    assert lost.status == 400, lost.body
    assert "START flag" in lost.json()["error"]
    assert step(server, "oldest", 5, 2, start=True) == [5], "another process is there"
    assert step(server, "oldest", 5, 2, end=True) == [10]


def test_what_waits_for_a_lost_state_is_told(tmp_path: Path) -> None:
    models.counter(tmp_path / "m")
    with serve(tmp_path, limits__drain_timeout_s=1) as server:
        assert step(server, "m", 1, 1, start=True) == [1]
        answers = []
        callers = [
            threading.Thread(target=lambda: answers.append(ask(server, "m", 666, sequence_id=1))) for _ in range(4)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert {answer.status for answer in answers} <= {500, 400}
        assert step(server, "m", 2, 1, start=True, end=True) == [2]
