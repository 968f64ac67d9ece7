"""The section `monitoring.drift`: which models are watched for drift, and against what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taxiway.config.sections import Count, Section

_Names = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=512)]


class ModelDriftSettings(Section):
    """What is particular about one model."""

    enabled: bool = True
    """Whether it is watched."""

    features: dict[str, _Names] = Field(default_factory=dict)
    """What the elements of a tensor are called, by the tensor's name: `{"x": ["age", "income"]}`."""

    ignore: _Names = ()
    """Features that are not watched: those that change by their nature, as an id or a time."""

    slices: Annotated[_Names, Field(max_length=10)] = ()
    """Features whose values part rows into slices: accuracy is told of each."""


class DriftSettings(Section):
    """When rows differ from a reference, and when today is unlike any day before."""

    enabled: bool = True
    """Whether models are watched for drift."""

    promise: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """How likely a version that never drifts ever raises an alarm, over its whole life and all its features."""

    reference_rows: Annotated[int, Field(ge=50, le=1_000_000)] = 5000
    """Of a version that was given no reference: so many of its own first rows are one."""

    look_rows: Annotated[int, Field(ge=50, le=1_000_000)] = 500
    """Rows that are looked at together, at least."""

    look_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long after a look the next one comes, unless there are ten times `look_rows`: evidence is as good, and
    mathematics cost less."""

    tolerance_rows: Annotated[int, Field(ge=0, le=10**9)] = 0
    """A stream that is no further from the reference than another sample of so many rows would be is no drift to speak
    of; 0: every difference is, however small, once it is proven."""

    block_s: Annotated[float, Field(ge=60, le=31 * 86400)] = 86400.0
    """How long a block is: rows of one block may be alike in what no other has; a day, for most."""

    reference_blocks: Annotated[int, Field(ge=2, le=1000)] = 14
    """Blocks that are learned before one is held against them."""

    save_every_s: Annotated[float, Field(ge=1, le=86400)] = 60.0
    """How often what is known is written to the disk."""

    max_versions: Count = 500
    """Versions that are watched at the same time; of more, those that are asked the least are forgotten."""

    models: dict[str, ModelDriftSettings] = Field(default_factory=dict)
    """What is particular about models, by name."""
