"""What is asked of an optimization and what comes of it: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from taxiway.optimize.trials import Trial
from taxiway.optimize.workshop.orders import Step

Outcome = Literal["recommended", "baseline", "not enough data", "speed unknown"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What whoever optimizes says.

    Attributes:
        model: an ONNX file, which is only read.
        data: as in `read_samples`.
        eval_data: samples for the proof alone; empty: some of `data` are set aside.
        metric: a name of METRICS, or a function of the user's; empty: accuracy where there are labels, else
            agreement for an answer that looks like classes, else cosine.
        max_drop: as in `judge`.
        output: that the metric looks at; empty: the first.
        batch: rows that are run together.
        workload: recorded requests to take the time of; None: rows of `data`, a batch at a time.
        targets: names of TARGETS.
        cache: a directory for what was found out.
    """

    model: Path
    data: str
    cache: Path
    eval_data: str = ""
    metric: str = ""
    max_drop: float = 0.005
    output: str = ""
    batch: int = 16
    targets: tuple[str, ...] = ("cpu",)
    workload: Path | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found out.

    Attributes:
        baseline: size, times and memory of the model as it is.
        trials: every candidate, the recommended first, then by speed.
        damages: what each class of nodes does when it alone is quantized, by recipe.
        samples: how many calibrated, chose and proved.
        recommended: the name of a trial; empty: the baseline.
        provider_options: what the provider of each target is to be started with.
        spent_s: CPU seconds of this run.
    """

    model: str
    model_digest: str
    metric: str
    output: str
    max_drop: float
    batch: int
    baseline: Trial
    baseline_value: float
    trials: tuple[Trial, ...]
    damages: dict[str, tuple[tuple[str, int, float], ...]]
    steps: tuple[Step, ...]
    operators: dict[str, int]
    samples: dict[str, int]
    versions: dict[str, str]
    outcome: Outcome
    recommended: str
    provider_options: dict[str, dict[str, str]]
    spent_s: float
    asked: int

    @property
    def metric_name(self) -> str:
        """In a table: of a function its name without its place."""
        return self.metric.rpartition(":")[2]
