"""`taxiway convert SOURCE`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from taxiway.cli.desk import output_option, tell
from taxiway.cli.import_ import read_digest
from taxiway.convert import Converted, NotConverted, Reason, Request
from taxiway.convert.outcome import Tensor
from taxiway.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    InvalidModel,
    TaxiwayError,
    Unsupported,
    UntrustedPickle,
)
from taxiway.intake.converting import to_onnx_scanned

_ERRORS: dict[Reason, type[TaxiwayError]] = {
    Reason.UNTRUSTED: UntrustedPickle,
    Reason.BAD_SAMPLES: InvalidArgument,
    Reason.UNREADABLE: InvalidModel,
    Reason.TIMED_OUT: DeadlineExceeded,
}
_VALUES_SHOWN = 8


@click.command("convert")
@click.argument("source")
@click.option(
    "-o",
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("model.onnx"),
    show_default=True,
    help="Where the ONNX goes.",
)
@click.option(
    "--samples",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Rows (.npy, .npz, .csv), or for networks an .npz with an array for each argument, to compare on.",
)
@click.option(
    "--python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The Python that has the model's framework; else the one that taxiway runs in.",
)
@click.option(
    "--trust", type=read_digest, metavar="sha256:DIGEST", help="Let this very file pass though it is a pickle."
)
@click.option("--time-limit", "time_limit_s", type=float, default=600.0, show_default=True, help="In seconds.")
@click.option("--memory-limit", "memory_gib", type=float, default=8.0, show_default=True, help="In GiB.")
@output_option
def command(
    source: str,
    target: Path,
    samples: Path | None,
    python: Path | None,
    trust: str | None,
    time_limit_s: float,
    memory_gib: float,
    output: str,
) -> None:
    """Make ONNX of SOURCE, if it is proven to answer as the framework does.

    SOURCE is a file of scikit-learn, XGBoost, LightGBM or CatBoost; of torch (.pt2, TorchScript) or Keras (.keras); a
    Hugging Face directory; or a function, module:function or file.py:function, which is run, and returns a torch
    module and example arguments.

    \b
      taxiway convert wine.skops -o wine.onnx --samples rows.csv
      taxiway convert minilm/ --python ~/torch/bin/python
      taxiway convert nets.py:classifier -o classifier.onnx
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    outcome = to_onnx_scanned(
        Request(
            source=source,
            target=str(target),
            samples=None if samples is None else str(samples),
            python=None if python is None else str(python.absolute()),
            trusted_digest=trust,
            time_limit_s=time_limit_s,
            memory_limit_bytes=int(memory_gib * 2**30),
        )
    )
    if isinstance(outcome, NotConverted):
        raise _error(outcome, source)
    tell(output, msgspec.to_builtins(outcome), lambda: _told(outcome))


def _error(outcome: NotConverted, source: str) -> TaxiwayError:
    """As an error: with the worst row, if that is what it is about."""
    lines = [f"{source} was not converted ({outcome.reason.value}): {outcome.message}"]
    for attempt in outcome.attempts:
        if attempt.parity is not None and attempt.parity.worst is not None:
            worst = attempt.parity.worst
            lines.append(f"the worst row with {attempt.datatype}, {worst.row} ({worst.origin}), was")
            lines += [f"  {name} = {_in_short(values)}" for name, values in worst.inputs.items()]
    hint = outcome.hint
    if outcome.reason is Reason.UNTRUSTED and "sha256:" in hint:
        digest = hint.partition("sha256:")[2][:64]
        hint = f"if you made this file yourself, say --trust sha256:{digest}"
    return _ERRORS.get(outcome.reason, Unsupported)("\n".join(lines), hint=hint)


def _in_short(values: list[float | str | None]) -> str:
    shown = ", ".join("missing" if value is None else str(value) for value in values[:_VALUES_SHOWN])
    return f"[{shown}{', ...' if len(values) > _VALUES_SHOWN else ''}]"


def _told(outcome: Converted) -> list[str]:
    tensors = [f"{side} {one.name} {one.datatype}{list(one.shape)}" for side, one in _sides(outcome)]
    candidates = [
        f"{'kept' if one.exporter == outcome.converter else 'left'}  {one.exporter}: {one.cpu_ms:.3g} ms of CPU, "
        f"{one.size_bytes:,} bytes"
        for one in outcome.candidates
    ]
    failed = [f"not   {one.datatype}: {one.problem}" for one in outcome.attempts]
    mended = [f"mended: {what}" for what in outcome.mended]
    first = f"{outcome.target}: {outcome.size_bytes:,} bytes, from {outcome.framework} by {outcome.converter}"
    return [first, *tensors, f"proven on {outcome.parity.in_words()}", *mended, *candidates, *failed]


def _sides(outcome: Converted) -> list[tuple[str, Tensor]]:
    return [*(("in   ", one) for one in outcome.inputs), *(("out  ", one) for one in outcome.outputs)]
