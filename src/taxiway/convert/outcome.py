"""What is asked of a conversion and what comes of it; plain data, for it crosses to a child process and back."""

from __future__ import annotations

import enum

import msgspec

TOLERANCE = 1e-5
"""The largest relative error of a number that still counts as the same answer."""

STORY, VERDICT = "story.json", "verdict.json"
"""Where a child leaves what it has found out so far, and what it came to in the end."""


class Reason(enum.Enum):
    """Why there is no artifact. The native library serves such a model."""

    UNTRUSTED = "untrusted"
    UNREADABLE = "unreadable"
    LIBRARY_MISSING = "library-missing"
    UNSUPPORTED = "unsupported"
    BAD_SAMPLES = "bad-samples"
    EXPORT_FAILED = "export-failed"
    PARITY_FAILED = "parity-failed"
    TIMED_OUT = "timed-out"
    CRASHED = "crashed"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion.

    `source` is the model file, whose name's ending says the framework; or a Hugging Face directory; or a function,
    `module:function` or `path.py:function`, that returns a torch module and example arguments, and that is run.
    `target` is where the artifact goes.
    `samples` is a .npy, .npz or .csv of rows to compare on; without one, rows are made from the model itself. For
    networks it is an .npz with an array for each argument.
    `trusted_digest` is the SHA-256 (hex) of a file that may be unpickled, or whose unknown skops types may be built.
    `scanned_digest` is the SHA-256 (hex) of a .pt2 or of TorchScript in which a scan found no code that torch would run
    while it reads it; such a file is read only if it is scanned or trusted.
    `python` is the interpreter that has the framework; without one, this one.
    """

    source: str
    target: str
    samples: str | None = None
    trusted_digest: str | None = None
    scanned_digest: str | None = None
    python: str | None = None
    time_limit_s: float = 180.0
    memory_limit_bytes: int = 4 << 30


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of the artifact: name, datatype of the protocol, whole shape (-1: rows)."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """The value that differs most, and how to see it again.

    `row` counts within the compared rows, `origin` says where that row comes from ("given", "a split's edge", ...),
    `inputs` is the row itself (None: missing), `batch` how many rows it was asked with. `relative_error` is None where
    no number says how wrong it is: another label, another shape, not a number. Nothing here is infinite or NaN, which
    JSON does not have.
    """

    output: str
    row: int
    origin: str
    batch: int
    column: int
    expected: float | str
    got: float | str
    relative_error: float | None
    inputs: dict[str, list[float | str | None]]


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """The framework's answers beside the artifact's.

    `has_labels` says whether labels were among what was compared. `splits` is how many of the trees' splits the rows
    stand at, of `splits_in_all`; both 0 without trees. `labels_wrong` and `numbers_wrong` count rows;
    `worst_relative_error` is over all numbers. `ties` counts rows with another label where the framework's own best
    probabilities differ by rounding only, so that either is its answer.
    """

    datatype: str
    rows: int
    batches: tuple[int, ...]
    origins: dict[str, int]
    splits: int
    splits_in_all: int
    tolerance: float
    labels_wrong: int
    numbers_wrong: int
    ties: int
    worst_relative_error: float | None
    has_labels: bool = True
    worst: Worst | None = None

    @property
    def holds(self) -> bool:
        """Whether every row got the framework's answer."""
        return not (self.labels_wrong or self.numbers_wrong)

    def in_words(self) -> str:
        """One sentence for a person."""
        if self.holds:
            labels = "labels equal, " if self.has_labels else ""
            error = _in_short(self.worst_relative_error)
            return f"{self.rows} rows with {self.datatype} inputs: {labels}worst relative error {error}"
        labels = f"{self.labels_wrong} labels and " if self.has_labels else ""
        said = f"with {self.datatype} inputs {labels}{self.numbers_wrong} numbers"
        said += f" of {self.rows} rows are not the framework's"
        if self.worst is not None:
            worst = self.worst
            said += (
                f"; row {worst.row} ({worst.origin}): {worst.output} is {worst.got!r}, not {worst.expected!r}"
                f" (relative error {_in_short(worst.relative_error)}, at most {self.tolerance:.0e})"
            )
        return said


def _in_short(error: float | None) -> str:
    return "beyond numbers" if error is None else f"{error:.2g}"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One export and what was wrong with it; `datatype` is that of its inputs, or for networks the exporter."""

    datatype: str
    problem: str
    parity: Parity | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A graph that answered every case, how large it is and what CPU time one run of the examples takes it."""

    exporter: str
    size_bytes: int
    cpu_ms: float


class Converted(msgspec.Struct, frozen=True, kw_only=True, tag="converted"):
    """An artifact at `target` that is as good as the framework on every row tried.

    `versions` names every library that had a part in it; `attempts` are those that failed. `candidates` are the graphs
    that were right, if there was a choice: `converter` made the fastest, or of those as fast the smallest.
    """

    target: str
    digest: str
    size_bytes: int
    framework: str
    converter: str
    versions: dict[str, str]
    opsets: dict[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parity: Parity
    mended: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    candidates: tuple[Candidate, ...] = ()


class NotConverted(msgspec.Struct, frozen=True, kw_only=True, tag="not-converted"):
    """No artifact; `message` says why in one sentence, `hint` the next step, `attempts` what was tried."""

    reason: Reason
    message: str
    hint: str = ""
    attempts: tuple[Attempt, ...] = ()


Outcome = Converted | NotConverted


class Refused(Exception):
    """Ends a conversion with a verdict, from wherever that is found out."""

    def __init__(self, reason: Reason, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.verdict = NotConverted(reason=reason, message=message, hint=hint)
