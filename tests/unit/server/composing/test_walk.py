"""The way through a graph as a property: any graph, any order of answers, the same as evaluating it by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.server.composing.graphs import Made, evaluate, graphs

from taxiway.server.composing.plan import Plan, Route, Step
from taxiway.server.composing.walk import Ask, End, Give, Walk


@dataclass
class Told:
    """What a walk said."""

    gives: list[dict[str, Any]]
    asks: list[tuple[int, tuple[int, ...]]]
    ended: bool


def run(plan: Plan, route: Route, made: Made, inputs: dict[str, Any], order: random.Random) -> Told:
    """Walk, with answers in an order of their own, each made as the graph's functions say."""
    walk: Walk[Any] = Walk(route)
    told = Told([], [], False)
    waiting: list[tuple[Ask[Any], int]] = []

    def hear(instructions: list[Any]) -> None:
        for instruction in instructions:
            assert not told.ended, "something came after the end"
            if isinstance(instruction, Ask):
                told.asks.append((instruction.step.number, instruction.place))
                waiting.append((instruction, 0))
            elif isinstance(instruction, Give):
                told.gives.append(dict(instruction.outputs))
            else:
                told.ended = True

    hear(walk.begin({name: inputs[name] for name in made.inputs}))
    while waiting:
        ask, part = waiting.pop(order.randrange(len(waiting)))
        parts = made.parts(ask.step.number, ask.inputs)
        if not ask.step.decoupled:
            hear(walk.answered(ask.step, ask.place, parts[0], final=True))
        elif part < len(parts):
            waiting.append((ask, part + 1))
            hear(walk.answered(ask.step, ask.place, parts[part], final=False))
        else:
            hear(walk.answered(ask.step, ask.place, None, final=True))
    assert told.ended, "it never ended"
    assert walk.held == 0 or plan.decoupled, "tensors are kept that nobody will read"
    return told


@settings(max_examples=300, deadline=None)
@given(graphs(), st.randoms(use_true_random=False), st.data())
def test_it_gives_what_the_graph_is(made: Made, order: random.Random, data: st.DataObject) -> None:
    asked = data.draw(st.sets(st.sampled_from(made.outputs), min_size=1))
    inputs = {name: f"<{name}>" for name in made.inputs}
    told = run(made.plan, made.plan.route(asked), made, inputs, order)
    assert told.gives == evaluate(made, inputs, sorted(asked))
    assert len(told.asks) == len(set(told.asks)), "a step was run twice with the same tensors"


@settings(max_examples=100, deadline=None)
@given(graphs(decoupled=False), st.randoms(use_true_random=False))
def test_a_graph_that_answers_once_runs_each_step_that_counts_once(made: Made, order: random.Random) -> None:
    route = made.plan.route(None)
    told = run(made.plan, route, made, {name: f"<{name}>" for name in made.inputs}, order)
    assert sorted(number for number, _ in told.asks) == sorted(route.steps)
    assert len(told.gives) == 1


def _line(*, decoupled: bool) -> tuple[Plan, Step, Step]:
    made = Made.of([({"x": "IN"}, ["mid"], decoupled), ({"x": "mid"}, ["OUT"], False)], ["IN"], ["OUT"])
    return made.plan, made.plan.steps[0], made.plan.steps[1]


def test_parts_are_given_in_their_order_though_the_second_is_done_first() -> None:
    plan, first, second = _line(decoupled=True)
    walk: Walk[str] = Walk(plan.route(None))
    walk.begin({"IN": "i"})
    walk.answered(first, (), {"mid": "one"}, final=False)
    walk.answered(first, (), {"mid": "two"}, final=True)
    assert walk.answered(second, (1,), {"OUT": "TWO"}, final=True) == []
    told = walk.answered(second, (0,), {"OUT": "ONE"}, final=True)
    assert told == [Give({"OUT": "ONE"}), Give({"OUT": "TWO"}), End()]


def test_no_parts_are_no_answers() -> None:
    plan, first, _ = _line(decoupled=True)
    walk: Walk[str] = Walk(plan.route(None))
    walk.begin({"IN": "i"})
    assert walk.answered(first, (), None, final=True) == [End()]


def test_a_tensor_that_nobody_gave_is_left_out_of_what_is_asked() -> None:
    plan, first, second = _line(decoupled=False)
    walk: Walk[str] = Walk(plan.route(None))
    walk.begin({"IN": "i"})
    (ask,) = walk.answered(first, (), {"other": "o"}, final=True)
    assert ask == Ask(second, (), {}, ("OUT",))


def test_a_second_answer_of_a_model_that_gives_one_is_not_heard() -> None:
    plan, first, second = _line(decoupled=False)
    walk: Walk[str] = Walk(plan.route(None))
    walk.begin({"IN": "i"})
    (ask,) = walk.answered(first, (), {"mid": "m"}, final=False)
    assert ask == Ask(second, (), {"x": "m"}, ("OUT",))
    assert walk.answered(first, (), {"mid": "again"}, final=True) == []
    assert walk.answered(second, (), {"OUT": "o"}, final=True) == [Give({"OUT": "o"}), End()]


def test_only_what_serves_the_outputs_is_run() -> None:
    made = Made.of(
        [({"x": "IN"}, ["A"], False), ({"x": "IN"}, ["mid"], False), ({"x": "mid"}, ["B"], False)], ["IN"], ["A", "B"]
    )
    assert list(made.plan.route(["A"]).steps) == [0]
    assert list(made.plan.route(["B"]).steps) == [1, 2]
    assert list(made.plan.route(None).steps) == [0, 1, 2]
    assert made.plan.route(["A"]) is made.plan.route(["A"])
