"""Rows of requests and answers that were copied in service, for whoever watches: the nouns that cross processes."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class SampledTensor(Struct, frozen=True):
    """One tensor of all sampled requests, their rows one after the other.

    Attributes:
        datatype: as the protocol names it: FP32, BYTES.
        shape: rows first.
        data: little-endian, row by row; of BYTES each element after its length in 4 bytes.
    """

    datatype: str
    shape: tuple[int, ...]
    data: bytes


class SampledRows(Struct, frozen=True):
    """What was sampled of one version since it was asked for last.

    Attributes:
        arm: of a rollout; empty outside one.
        seen: requests that could have been sampled.
        dropped: requests that were to be, and that there was no room for.
        began_ns, ended_ns: of the time this is about, in UTC nanoseconds.
        ids: of the sampled requests; empty where a request has none.
        times_ns: when each was answered, in UTC nanoseconds.
        counts: rows of each.
        inputs, outputs: by name; a tensor that some of the requests did not have is left out.
    """

    model: str
    version: int
    arm: str
    seen: int
    dropped: int
    began_ns: int
    ended_ns: int
    ids: tuple[str, ...]
    times_ns: tuple[int, ...]
    counts: tuple[int, ...]
    inputs: Mapping[str, SampledTensor]
    outputs: Mapping[str, SampledTensor]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(self.counts)
