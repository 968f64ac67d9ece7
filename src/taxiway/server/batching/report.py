"""What a person, or a scrape, reads of a batcher."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatcherGauges:
    """How things stand now."""

    queued_requests: int
    queued_rows: int
    queued_bytes: int
    running_batches: int
    predicted_wait_ns: int
    dropped_results: int
    """Since the start: results of requests that had been cancelled or had expired while they ran."""
