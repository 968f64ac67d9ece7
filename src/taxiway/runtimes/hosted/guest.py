"""The face that every framework shows inside a model process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from taxiway.runtimes.hosted.batch import Arrays, Batch
from taxiway.runtimes.hosted.frames import Declared, Learn, Open, Opened


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model lies, and how it is to be loaded.

    Attributes:
        directory: the model's, which holds its versions.
        file: the version's file, or directory.
        config: Triton's configuration as JSON.
        trusted: SHA-256 digests of the pickles that may be loaded.
        compat: `triton` has errors tell where in the model's code they arose.
    """

    name: str
    version: int
    directory: Path
    file: Path
    config: str
    options: dict[str, str]
    trusted: frozenset[str]
    instance: str
    kind: str
    device: int
    compat: str

    @classmethod
    def of(cls, opened: Open) -> Source:
        """What the data plane said."""
        return cls(
            opened.name,
            opened.version,
            Path(opened.directory),
            Path(opened.file),
            opened.config,
            opened.options,
            frozenset(opened.trusted),
            opened.instance,
            opened.kind,
            opened.device,
            opened.compat,
        )


class ArrayModel(Protocol):
    """A model that is a function from arrays to arrays: most of them.

    Attributes:
        inputs, outputs: whole shapes as it declares them, -1 where free; None if it does not know them.
        batches: whether the first dimension of all of them counts rows.
    """

    inputs: Sequence[Declared] | None
    outputs: Sequence[Declared] | None
    batches: bool

    def predict(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """The named outputs (others do no harm) of whole input arrays; BYTES arrays hold bytes objects.

        Raises:
            Exception: whatever it likes; the request is told.
        """


class Guest(Protocol):
    """A loaded model as the host runs it."""

    opened: Opened
    """What is told of it once it is loaded."""

    def learn(self, names: Learn) -> None:
        """The configuration is complete; runs come next."""

    def run(self, batches: Sequence[Batch]) -> None:
        """Answer every request of these runs. Several only of a decoupled model."""

    def close(self) -> None:
        """Finalize the model."""
