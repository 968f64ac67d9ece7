"""A broken recipe is mended with few exceptions; the front holds what nothing else beats."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from taxiway.optimize.graph.classes import NodeClass
from taxiway.optimize.recipes import Dynamic, Float8, Recipe, Static, WeightOnly
from taxiway.optimize.repair import Mendable, repair
from taxiway.optimize.shelf import recipes_for
from taxiway.optimize.targets import TARGETS, provider_options
from taxiway.optimize.trials import Trial, is_steady, pareto, probably_keeps, worthwhile

ALLOWED = 0.01


def classes(sizes: list[int]) -> tuple[NodeClass, ...]:
    return tuple(
        NodeClass(f"MatMul {at}", "MatMul", tuple(f"n{at}.{each}" for each in range(size)), 1000 * (at + 1))
        for at, size in enumerate(sizes)
    )


class Network:
    """Damage adds up over the nodes that are quantized."""

    def __init__(self, damage: dict[str, float]) -> None:
        self.damage = damage
        self.looks = 0

    def look(self, recipe: Mendable) -> Trial:
        self.looks += 1
        out = {*recipe.keep, *getattr(recipe, "measured", ())}
        drop = sum(damage for name, damage in self.damage.items() if name not in out)
        return Trial(recipe=recipe, target="cpu", drop=drop, error=0.0, distortion=drop)


damages = st.lists(st.lists(st.floats(1e-6, 0.02), min_size=1, max_size=8), min_size=1, max_size=4)


@given(damages)
def test_a_mix_that_is_found_keeps_the_promise_and_no_smaller_one_does(drawn: list[list[float]]) -> None:
    found = classes([len(one) for one in drawn])
    network = Network({f"n{at}.{each}": value for at, one in enumerate(drawn) for each, value in enumerate(one)})
    broken = network.look(Static())
    if probably_keeps(broken, ALLOWED):
        return
    repaired = repair(broken, found, network.look, ALLOWED, frozenset())
    for recipe in repaired.recipes:
        assert probably_keeps(network.look(recipe), ALLOWED)
        fewer = msgspec.structs.replace(recipe, keep=recipe.keep[:-1])
        assert not probably_keeps(network.look(fewer), ALLOWED)


def test_the_damage_that_sits_in_one_place_is_found_in_few_looks() -> None:
    found = classes([24, 6, 6, 12])
    damage = {name: 1e-5 for one in found for name in one.nodes} | {"n2.0": 0.03, "n2.2": 0.02}
    network = Network(damage)
    repaired = repair(network.look(Static()), found, network.look, ALLOWED, frozenset())
    assert repaired.damages[0].where.name == "MatMul 2"
    assert {"n2.0", "n2.2"} == set(repaired.recipes[0].keep)
    assert network.looks < 20


def test_what_multiplies_weights_may_round_at_run_time_instead() -> None:
    found = classes([4, 4])
    network = Network({name: 0.004 for one in found for name in one.nodes})
    kept, measured = repair(network.look(Static()), found, network.look, 0.02, frozenset({"n0.0", "n0.1"})).recipes
    assert isinstance(kept, Static)
    assert isinstance(measured, Static)
    assert kept.keep
    assert not kept.measured
    assert set(measured.measured) <= {"n0.0", "n0.1"}


def test_a_mix_without_products_is_one_recipe() -> None:
    found = classes([6, 6])
    network = Network({f"n{at}.{each}": 0.03 if at == 0 else 1e-6 for at in range(2) for each in range(6)})
    products = frozenset(found[1].nodes)
    repaired = repair(network.look(Static()), found, network.look, ALLOWED, products)
    assert len(repaired.recipes) == len(set(repaired.recipes)) == 1


def test_nothing_is_made_of_what_half_of_the_nodes_kept_out_do_not_mend() -> None:
    found = classes([10])
    network = Network(dict.fromkeys(found[0].nodes, 0.05))
    assert not repair(network.look(Float8()), found, network.look, ALLOWED, frozenset()).recipes


def trial(speed: float | None, size: int, drop: float, recipe: Recipe | None = None) -> Trial:
    return Trial(
        recipe=recipe or Static(), target="cpu", speed=speed, speed_low=speed, size=size << 20, drop=drop, error=0.0
    )


def test_the_front_is_what_nothing_else_beats_in_everything() -> None:
    fast, small, exact, beaten = trial(2.0, 50, 0.01), trial(1.2, 20, 0.01), trial(1.1, 60, 0.0), trial(1.1, 60, 0.01)
    assert pareto([fast, small, exact, beaten]) == [fast, small, exact]


def test_a_steady_answer_is_a_merit_of_its_own() -> None:
    dynamic, static = trial(2.0, 20, 0.0, Dynamic()), trial(1.5, 30, 0.0, Static())
    assert pareto([dynamic, static]) == [dynamic, static]
    assert not is_steady(Static(measured=("a",)))


def test_what_is_slower_is_worth_something_only_if_it_is_smaller_than_what_is_faster() -> None:
    fast, slow_small, slow_large = trial(2.0, 50, 0.0), trial(0.9, 40, 0.0), trial(0.9, 60, 0.0)
    assert worthwhile([slow_large, slow_small, fast], 100 << 20) == [fast, slow_small]
    assert worthwhile([slow_large], 100 << 20) == [slow_large]
    assert worthwhile([slow_large], 61 << 20) == []


def test_recipes_are_for_what_a_graph_is_made_of() -> None:
    trees = {recipe.name for one in recipes_for("cpu", {"TreeEnsembleClassifier": 1}) for recipe in one}
    assert trees == {"fused", "fp16"}
    transformer = {"MatMul": 48, "Softmax": 6, "LayerNormalization": 13, "Gather": 1}
    on_cpu = [recipe for one in recipes_for("cpu", transformer) for recipe in one]
    assert any(isinstance(one, Dynamic) for one in on_cpu)
    assert any(isinstance(one, WeightOnly) for one in on_cpu)
    on_gpu = [recipe for one in recipes_for("tensorrt", transformer) for recipe in one]
    assert any(isinstance(one, Float8) for one in on_gpu)
    assert all(one.activations == "int8" for one in on_gpu if isinstance(one, Static))


def test_tensorrt_is_told_the_shapes_of_the_workload_and_keeps_its_engines_apart() -> None:
    shapes = [{"ids": (1, 7), "mask": (1, 7)}, {"ids": (16, 64), "mask": (16, 64)}, {"ids": (4, 20), "mask": (4, 20)}]
    options = provider_options(TARGETS["tensorrt"], shapes, Path("/engines"))
    assert options["trt_profile_min_shapes"] == "ids:1x7,mask:1x7"
    assert options["trt_profile_opt_shapes"] == "ids:4x20,mask:4x20"
    assert options["trt_profile_max_shapes"] == "ids:16x64,mask:16x64"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == "/engines"
    assert provider_options(TARGETS["cpu"], shapes, Path("/engines")) == {}
