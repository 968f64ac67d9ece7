"""What the workshop is asked and what it answers: plain data, one JSON object a line."""

from __future__ import annotations

import msgspec

from taxiway.optimize.recipes import Recipe

ALIVE = b" "
"""Written before an answer, again and again: JSON does not mind."""


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Bring the model to the form that recipes start from."""

    source: str
    target: str


class Calibrate(msgspec.Struct, frozen=True, tag="calibrate"):
    """Look at the tensors of the prepared model while it runs over samples; write histograms to `target`."""

    model: str
    samples: str
    target: str
    batch: int


class Make(msgspec.Struct, frozen=True, tag="make"):
    """Make a candidate."""

    recipe: Recipe
    prepared: str
    histograms: str
    target: str
    keep_shapes: bool = False


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Write what the baseline says to samples to a folder, a file for each run, and its own scores to `target`."""

    model: str
    samples: str
    folder: str
    batch: int
    metric: str
    output: str
    target: str


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Run a candidate over samples and score it beside the baseline's answers.

    `target`: an .npy for the scores.
    """

    model: str
    samples: str
    folder: str
    batch: int
    metric: str
    output: str
    target: str
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    options: dict[str, str] = msgspec.field(default_factory=dict)


class Race(msgspec.Struct, frozen=True, tag="race"):
    """Run models in turns over the same inputs and take each one's time, for `budget_s` of CPU or a few rounds."""

    models: tuple[str, ...]
    samples: str
    batch: int
    budget_s: float
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    options: dict[str, str] = msgspec.field(default_factory=dict)


class Weigh(msgspec.Struct, frozen=True, tag="weigh"):
    """How much memory a model takes: load it in a process that has nothing else, and run it."""

    model: str
    samples: str
    batch: int


Order = Prepare | Calibrate | Make | Answer | Score | Race | Weigh


class Step(msgspec.Struct, frozen=True):
    """One thing done to the graph; `problem`: why it was undone."""

    name: str
    problem: str


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """The steps tried, and the operators left."""

    steps: tuple[Step, ...]
    operators: dict[str, int]


class Made(msgspec.Struct, frozen=True, tag="made"):
    """A file was written."""

    size: int


class Calibrated(msgspec.Struct, frozen=True, tag="calibrated"):
    """Histograms were written; `not_finite`: tensors that were NaN or infinite somewhere."""

    tensors: int
    not_finite: tuple[str, ...]


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """Runs, samples in all; outputs in the model's order with their widths."""

    runs: int
    samples: int
    outputs: tuple[str, ...]


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """Scores were written.

    `distortion`: mean of one minus the cosine to the baseline, whatever the metric: what ranks nodes, as it moves
    with every node where an accuracy of a few hundred samples does not.
    """

    samples: int
    distortion: float
    finite: bool


class Times(msgspec.Struct, frozen=True):
    """Of one model: milliseconds of CPU and of the wall for one run (medians), and rows a run."""

    cpu_ms: float
    wall_ms: float
    p99_ms: float
    rows: float


class Raced(msgspec.Struct, frozen=True, tag="raced"):
    """Times by model, and each one's speed as a multiple of the first's: the median of ratios within a round.

    `low`, `high`: quartiles of those ratios.
    """

    times: tuple[Times, ...]
    speed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Weighed(msgspec.Struct, frozen=True, tag="weighed"):
    """Bytes that the process grew by."""

    bytes: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It could not be done, and why.

    Attributes:
        code: of an error of ours, where it was one.
        passing: for want of memory: it may be done another time.
    """

    message: str
    code: str = ""
    hint: str = ""
    passing: bool = False


Reply = Prepared | Made | Calibrated | Answered | Scored | Raced | Weighed | Failed
