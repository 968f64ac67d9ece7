"""The nouns of data: samples with their inputs and labels, in groups of one shape. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Group:
    """Samples whose inputs have the same shapes.

    Attributes:
        inputs: by name, [samples, ...].
        labels: [samples, ...]; None: the data have none.
        whole: a sample holds every input of one run of the model, batch axis and all; else samples are rows that
            may be run together.
    """

    inputs: Feeds
    labels: NDArray[Any] | None
    whole: bool

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, places: Sequence[int] | NDArray[np.int64]) -> Group:
        """Some of the samples, in that order."""
        at = np.asarray(places, dtype=np.int64)
        labels = None if self.labels is None else self.labels[at]
        return Group({name: values[at] for name, values in self.inputs.items()}, labels, self.whole)

    def calls(self, batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Inputs of one run each, of at most `batch` rows."""
        if self.whole:
            for at in range(len(self)):
                yield {name: np.asarray(values[at]) for name, values in self.inputs.items()}
            return
        for start in range(0, len(self), batch):
            yield {name: values[start : start + batch] for name, values in self.inputs.items()}

    def digests(self) -> list[bytes]:
        """What each sample's inputs are, in 16 bytes: equal for equal samples."""
        names = sorted(self.inputs)
        return [_digest([self.inputs[name][at] for name in names]) for at in range(len(self))]


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples of a purpose; their order is that of the groups."""

    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    @property
    def labelled(self) -> bool:
        """Whether the truth is known."""
        return bool(self.groups) and all(group.labels is not None for group in self.groups)

    def calls(self, batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Inputs of one run each."""
        for group in self.groups:
            yield from group.calls(batch)

    def digests(self) -> list[bytes]:
        """Of each sample."""
        return [digest for group in self.groups for digest in group.digests()]

    def labels(self) -> list[Any]:
        """The truth of each sample; empty if it is not known."""
        if not self.labelled:
            return []
        return [label for group in self.groups if group.labels is not None for label in group.labels]

    def label_digest(self) -> bytes:
        """What the truth is, to the last bit."""
        return _digest([np.asarray(group.labels) for group in self.groups if group.labels is not None])

    def take(self, places: Sequence[int]) -> Samples:
        """The samples at these places, group by group, in ascending order within each."""
        wanted = np.sort(np.asarray(places, dtype=np.int64))
        groups, start = [], 0
        for group in self.groups:
            inside = wanted[(wanted >= start) & (wanted < start + len(group))] - start
            if len(inside):
                groups.append(group.take(inside))
            start += len(group)
        return Samples(tuple(groups))

    def first(self, count: int) -> Samples:
        """At most `count` samples, spread evenly over all of them."""
        if count >= len(self):
            return self
        return self.take([int(at) for at in np.linspace(0, len(self) - 1, count)])


def _digest(arrays: Sequence[NDArray[Any]]) -> bytes:
    made = hashlib.blake2b(digest_size=16)
    for array in arrays:
        made.update(f"{array.dtype.str}{array.shape}".encode())
        made.update("\0".join(map(str, array.reshape(-1))).encode() if array.dtype == object else array.tobytes())
    return made.digest()
