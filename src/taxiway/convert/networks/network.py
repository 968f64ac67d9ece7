"""A network that is to be exported: what it takes, what it answers, and cases that find an exporter's mistakes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from taxiway.convert.outcome import Reason, Refused
from taxiway.runtimes.hosted.torch_programs import returned_parts
from taxiway.runtimes.hosted.torch_tensors import WIRE_NAMES, to_array

Feeds = Mapping[str, NDArray[Any]]
Sizes = Mapping[str, int]
"""What each free dimension is in one case, by its name."""
BATCH: Final = "batch"
SEQUENCE: Final = "sequence"
BATCHES: Final = (1, 2, 5)
SEQUENCES: Final = (3, 16, 33)
FACTORS: Final = (-1.0, 0.0, 4.0)


@dataclass(frozen=True)
class Network:
    """A module that is called with tensors by place.

    Attributes:
        framework: torch, transformers or keras.
        module: what is called; where it is an exported program, `program` is that.
        examples: one array for each argument, in order; two rows at least where the rows are free.
        free: the names of the free dimensions of each argument, by their place.
        most: what a free dimension may be at most.
        outputs: the names of what it returns, in order.
        sample: makes arguments of such sizes; None: they are like the examples.
    """

    framework: str
    module: Any
    examples: Feeds
    free: Mapping[str, Mapping[int, str]]
    libraries: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    program: Any = None
    most: Sizes = field(default_factory=dict)
    sample: Callable[[Sizes, np.random.Generator], Feeds] | None = None

    def answer(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """What torch answers, by the names that a server would give it."""
        with torch.inference_mode():
            returned = self.module(*self.tensors(feeds))
        return {name: to_array(part) for name, part in returned_parts(returned).items()}

    def tensors(self, feeds: Feeds) -> tuple[Any, ...]:
        """Arguments for torch, by place; copies, for a network may write to them."""
        return tuple(torch.from_numpy(np.array(feeds[name])) for name in self.examples)

    def cases(self, chance: np.random.Generator) -> list[Feeds]:
        """The examples, arguments for every mix of small sizes of the free dimensions, and the examples turned over.

        A graph that was traced does whatever the module did with the examples: with others a branch may go elsewhere.
        """
        turned = [] if self.sample is not None else [_scaled(self.examples, by) for by in FACTORS]
        return [self.examples, *self._of_other_sizes(chance), *turned]

    def takes_other_sizes(self) -> bool:
        """Whether torch itself answers whatever size the free dimensions have."""
        try:
            for feeds in self._of_other_sizes(np.random.default_rng(0)):
                self.answer(feeds)
        except Exception:  # noqa: BLE001 - however a module refuses
            return False
        return True

    def _of_other_sizes(self, chance: np.random.Generator) -> list[Feeds]:
        names = sorted({name for dims in self.free.values() for name in dims.values()})
        choices = [[s for s in _sizes_of(name) if s <= self.most.get(name, s)] for name in names]
        return [self._case(dict(zip(names, sizes, strict=True)), chance) for sizes in itertools.product(*choices)]

    def _case(self, sizes: Sizes, chance: np.random.Generator) -> Feeds:
        if self.sample is not None:
            return self.sample(sizes, chance)
        return {
            name: _like(values, _shape(values, self.free.get(name, {}), sizes), chance)
            for name, values in self.examples.items()
        }


def _scaled(examples: Feeds, by: float) -> Feeds:
    return {
        name: (values * by).astype(values.dtype) if values.dtype.kind == "f" else values
        for name, values in examples.items()
    }


def _sizes_of(name: str) -> Sequence[int]:
    return SEQUENCES if name == SEQUENCE else BATCHES


def _shape(values: NDArray[Any], free: Mapping[int, str], sizes: Sizes) -> tuple[int, ...]:
    return tuple(sizes[free[place]] if place in free else size for place, size in enumerate(values.shape))


def _like(values: NDArray[Any], shape: tuple[int, ...], chance: np.random.Generator) -> NDArray[Any]:
    """Numbers such as the example has: of its mean and spread, or from among its own if they count something."""
    if values.dtype.kind != "f":
        chosen: NDArray[Any] = (
            chance.choice(values.reshape(-1), shape) if values.size else np.zeros(shape, values.dtype)
        )
        return chosen.astype(values.dtype)
    spread = float(np.std(values)) or 1.0
    drawn: NDArray[Any] = chance.normal(float(np.mean(values)), spread, shape).astype(values.dtype)
    return drawn


def described(network: Network) -> Network:
    """The network with the names of what it returns, once it has answered its examples.

    Raises:
        Refused: it fails on them, or takes what cannot be sent.
    """
    for name, values in network.examples.items():
        if values.dtype == object:
            raise Refused(Reason.UNSUPPORTED, f"argument {name!r} is no tensor of numbers")
    try:
        answered = network.answer(network.examples)
    except Exception as problem:
        raise Refused(
            Reason.BAD_SAMPLES,
            f"{network.framework} itself fails on the examples: {type(problem).__name__}: {str(problem)[:300]}",
            "give arrays for its arguments by name in an .npz: --samples",
        ) from problem
    return replace(network, outputs=tuple(answered))


def to_example(name: str, value: Any) -> NDArray[Any]:  # noqa: ANN401 - whatever somebody gives
    """An argument as an array.

    Raises:
        Refused: it is none, or of a datatype that NumPy has not.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, torch.Tensor) and value.dtype in WIRE_NAMES and value.dtype is not torch.bfloat16:
        array: NDArray[Any] = value.detach().cpu().numpy()
        return array
    what = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
    raise Refused(
        Reason.UNSUPPORTED,
        f"argument {name!r} is {what}, which cannot be sent to ONNX Runtime",
        "have the module's forward take tensors of whole, FP16, FP32 or FP64 numbers",
    )


def batched(examples: Feeds) -> dict[str, NDArray[Any]]:
    """The examples with two rows at least: exporters take a size of one for a constant."""
    return {name: np.concatenate([v, v]) if v.shape[0] == 1 else v for name, v in examples.items()}


def rows_are_free(examples: Feeds) -> bool:
    """Whether all arguments have as many rows as each other."""
    return len({v.shape[0] if v.ndim else -1 for v in examples.values()} | {-1}) == 2 and all(
        v.ndim for v in examples.values()
    )
