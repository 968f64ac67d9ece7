"""The section `monitoring.capture`: which requests and answers are kept as Parquet, and what of them never is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from taxiway.config.sections import Bytes, Count, FileName, Section

_Name = Annotated[str, Field(min_length=1, max_length=256)]


class CaptureSettings(Section):
    """Sampled requests and their answers, kept as Parquet for `taxiway monitor query`."""

    models: Annotated[tuple[_Name, ...], Field(max_length=1000)] = ()
    """Models that are captured, `"*"` for all; none: nothing is."""

    directory: FileName = ""
    """Where the files are kept; empty: `capture` below monitoring.directory."""

    keep: Annotated[tuple[_Name, ...], Field(max_length=1000)] = ()
    """Tensors and columns that are kept, by name; none: all that `redact` does not name."""

    redact: dict[_Name, Literal["drop", "hash"]] = Field(default_factory=dict)
    """What is never written as it came, by the name of a tensor or a column (`age`, `x[3]`, `request_id`): `drop`
    leaves it out, `hash` writes a keyed BLAKE2 of it, so that equal values are still known as equal."""

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the requests that were sampled (monitoring.sampling) so many are captured, by chance."""

    rotate_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """A file is written once a version has so many rows, or after `rotate_s`."""

    rotate_s: Annotated[float, Field(ge=1, le=86400)] = 60.0
    """A file is written once its first row has waited so long, or after `rotate_rows`."""

    buffer_bytes: Bytes = 64 << 20
    """Rows that wait in memory, of all versions together; what there is no room for is dropped and counted."""

    retention_days: Annotated[float, Field(gt=0, le=3650)] = 30.0
    """How long a file is kept."""

    max_bytes: Bytes = 1 << 30
    """What all files may take on the disk; of more, the oldest are removed earlier."""

    query_memory_bytes: Annotated[int, Field(ge=16 << 20, le=1 << 50)] = 1 << 30
    """What `taxiway monitor query` may take of memory."""

    query_files: Count = 20_000
    """Files that a query reads at most, the newest."""
