"""Each declared deviation is real: an example shows both behaviours, so that no entry outlives what it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.oracle.compare import Exchange
from tests.oracle.deviations import DEVIATIONS, Deviation, declared, load_deviations
from tests.oracle.examples import BREAKING, CALL_EXAMPLES, EXAMPLES, WALK_EXAMPLES
from tests.oracle.replies import CallExchange

if TYPE_CHECKING:
    from tests.oracle.servers import Pair
    from tests.oracle.walking import Walker
    from tools.oracle_triton import TritonServer


@pytest.fixture(autouse=True)
def _not_between_two_of_a_kind(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--oracle-against") == "triton":
        pytest.skip("two real Tritons do not deviate")


@pytest.fixture
def examples_pair(deviation: Deviation, pair: Pair, start_triton: Callable[..., TritonServer]) -> Iterator[Pair]:
    if deviation.id not in BREAKING:
        yield pair
        return
    mortal = pair.with_mortal(start_triton, BREAKING[deviation.id])
    yield mortal
    mortal.close()


def test_every_deviation_has_an_example(deviations: tuple[Deviation, ...]) -> None:
    over_http = {deviation.id for deviation in deviations if deviation.match is not None}
    over_grpc = {deviation.id for deviation in deviations if deviation.call is not None}

    assert over_http <= EXAMPLES.keys() | WALK_EXAMPLES.keys()
    assert over_grpc <= CALL_EXAMPLES.keys() | WALK_EXAMPLES.keys()
    assert EXAMPLES.keys() | WALK_EXAMPLES.keys() | CALL_EXAMPLES.keys() <= over_http | over_grpc


def _each(examples: dict[str, Any]) -> list[Any]:
    marks = dict.fromkeys(BREAKING, (pytest.mark.slow,))
    chosen = [deviation for deviation in load_deviations(DEVIATIONS) if deviation.id in examples]
    return [pytest.param(deviation, id=deviation.id, marks=marks.get(deviation.id, ())) for deviation in chosen]


@pytest.mark.parametrize("deviation", _each(EXAMPLES))
def test_deviation_of_a_request_is_real(
    deviation: Deviation, examples_pair: Pair, deviations: tuple[Deviation, ...]
) -> None:
    _check(deviation, (examples_pair.exchange(EXAMPLES[deviation.id]),), deviations)


@pytest.mark.parametrize("deviation", _each(CALL_EXAMPLES))
def test_deviation_of_a_call_is_real(
    deviation: Deviation, examples_pair: Pair, deviations: tuple[Deviation, ...]
) -> None:
    _check(deviation, examples_pair.call(CALL_EXAMPLES[deviation.id]), deviations)


@pytest.mark.timeout(600)
def test_deviations_of_walks_are_real(walker: Walker, deviations: tuple[Deviation, ...]) -> None:
    chosen = [deviation for deviation in deviations if deviation.id in WALK_EXAMPLES]
    with ThreadPoolExecutor(walker.at_once) as pool:
        taken = list(pool.map(lambda deviation: walker.take(WALK_EXAMPLES[deviation.id]), chosen))

    for deviation, exchanges in zip(chosen, taken, strict=True):
        _check(deviation, exchanges, deviations)


def _check(
    deviation: Deviation, exchanges: tuple[Exchange | CallExchange, ...], deviations: tuple[Deviation, ...]
) -> None:
    """The example shows this deviation, and everything else in it is declared too."""
    said = "\n".join(exchange.described() for exchange in exchanges if exchange.differences)
    found = {other.id for exchange in exchanges for other in declared(exchange, deviations)}

    assert said, f"both answer alike; remove {deviation.id!r} from deviations.toml"
    assert all(not exchange.differences or declared(exchange, deviations) for exchange in exchanges), said
    assert deviation.id in found, said
