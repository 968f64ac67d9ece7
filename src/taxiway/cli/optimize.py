"""`taxiway optimize MODEL`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import msgspec

from taxiway.cli.desk import Desk, at_desk, output_option, tell
from taxiway.cli.options import read_output
from taxiway.cli.progress import Progress
from taxiway.config.places import optimize_place
from taxiway.core.errors import ExtraMissing, VerdictFailed, VerdictInconclusive

_PERCENT = 100.0


def _read_drop(value: str) -> float:
    """`0.5%` or `0.005`."""
    text = value.strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no share; write 0.5% or 0.005") from None
    return number / _PERCENT if text.endswith("%") else number


@click.command("optimize")
@click.argument("model")
@click.option("--data", required=True, help="Inputs and, if known, labels: .npz, a directory of them, module:function.")
@click.option("--eval-data", default="", help="Data for the proof alone. [default: a part of --data is set aside]")
@click.option(
    "--metric",
    default="",
    help="accuracy, agreement, cosine, f1, rmse, perplexity, or FILE.py:FUNCTION. [default: by labels and outputs]",
)
@click.option("--max-drop", type=_read_drop, default="0.5%", help="What the metric may lose. [default: 0.5%]")
@click.option("--output-tensor", "tensor", default="", help="The output that the metric looks at. [default: the first]")
@click.option("--batch", type=click.IntRange(1, 4096), default=16, show_default=True, help="Rows that run together.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=click.Choice(("cpu", "openvino", "cuda", "tensorrt")),
    help="Where it will run. Repeatable. [default: cpu]",
)
@click.option(
    "--workload",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Recorded requests to take the time of, with their inputs. [default: rows of --data]",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Of a file's variants. [default: beside it]"
)
@click.option("--report", "page", type=read_output, metavar="FILE", help="An HTML page to write.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="What was found out before lies here.")
@output_option
@at_desk
def command(desk: Desk, output: str, *, model: str, page: Path | None, out: Path | None, **said: Any) -> None:  # noqa: ANN401
    """Make MODEL faster and smaller without making it worse: an ONNX file, or a registered version.

    Variants are made by several recipes, compared on data that nothing else has seen, and timed here. Those that keep
    the promise are registered (or written beside the file), never over the model; if none does, the model as it is
    stays the answer, with exit code 6.

    \b
      taxiway optimize fraud:3 --data calib.npz --metric accuracy --max-drop 0.5% --report fraud.html
      taxiway optimize model.onnx --data calib.npz --metric cosine --max-drop 1%
      taxiway optimize model.onnx --data rows.npz --metric score.py:f --target tensorrt
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    _require_extra()
    from taxiway.optimize.delivering import Delivered, model_of, register, write_beside  # noqa: PLC0415 - as late as can be
    from taxiway.optimize.outcome import Report, Wanted  # noqa: PLC0415
    from taxiway.optimize.page import render_page  # noqa: PLC0415
    from taxiway.optimize.report import format_report, missing  # noqa: PLC0415
    from taxiway.optimize.walk import optimize  # noqa: PLC0415

    with ExitStack() as stack:
        path, version, registry = Path(model), None, None
        if not path.is_file():
            registry = stack.enter_context(desk.open())
            version = registry.resolve(model)
            path = model_of(version, registry.cached([version.ref], desk.places.cache))
        cache = said.pop("cache") or optimize_place(os.environ)
        said |= {"output": said.pop("tensor"), "targets": said["targets"] or ("cpu",)}
        wanted = Wanted(model=path, cache=cache, **said)
        with Progress(sys.stderr) as progress:
            report: Report = optimize(wanted, progress.tell)
        if page is not None:
            page.write_text(render_page(report), encoding="utf-8")
        delivered: Sequence[Delivered] = (
            register(report, version, registry, desk.actor)
            if version is not None and registry is not None
            else write_beside(report, out or path.parent)
        )
    next_steps = _next_steps(report.recommended, delivered, registered=version is not None)
    next_steps += [f"  for its speed, on a machine with {one}: {_said_again()}" for one in missing(report)]
    tell(
        output,
        {**msgspec.to_builtins(report), "delivered": delivered},
        lambda: [*format_report(report), *next_steps],
    )
    _judge(report.outcome)


def _next_steps(best: str, delivered: Sequence[Any], *, registered: bool) -> list[str]:
    lines = [f"  {'registered' if registered else 'wrote'} {one.place}" for one in delivered if one.is_new]
    place = next((one.place for one in delivered if one.name == best), "")
    if not place:
        return lines
    lines.append(f"  taxiway serve {place}")
    if registered:
        name, _, variant = place.partition(":")
        lines.append(f"  taxiway rollout start {name} --to {variant} --strategy ab")
    return lines


def _said_again() -> str:
    return shlex.join(["taxiway", *sys.argv[1:]])


def _judge(outcome: str) -> None:
    if outcome == "baseline":
        raise VerdictFailed(
            "no faster variant keeps the promise: the model as it is stays the best answer",
            hint="allow a larger --max-drop, or another --metric, if that is what you can live with",
        )
    if outcome == "speed unknown":
        raise VerdictInconclusive(
            "what keeps the promise could not be timed here: it is for hardware that this machine does not have",
            hint="say the same on a machine that has it; the variants were kept",
        )
    if outcome == "not enough data":
        raise VerdictInconclusive(
            "no faster variant is proven to keep the promise: the data are too few for a yes or a no",
            hint="give more samples; the table says about how many",
        )


def _require_extra() -> None:
    try:
        import onnx  # noqa: F401, PLC0415 - asked for, not used
    except ImportError as problem:
        raise ExtraMissing(
            "optimizing needs the onnx library", hint="pip install 'taxiway[optimize]'", extra="optimize"
        ) from problem
