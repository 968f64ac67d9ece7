"""The report as one page of HTML that needs nothing else: speed against quality, sensitivity, every fate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from taxiway.optimize.outcome import Report
from taxiway.optimize.report import conclusion, promise_in_words
from taxiway.optimize.trials import Fate, Trial

_WIDTH, _HEIGHT, _MARGIN = 640, 320, 52
_COLOURS: Final = {
    Fate.RECOMMENDED: "#0a7d32",
    Fate.KEPT: "#2a6fdb",
    Fate.UNPROVEN: "#b8860b",
    Fate.BROKEN: "#c0392b",
    Fate.DROPPED: "#999999",
}
_STYLE: Final = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #8884;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto}text{font:12px system-ui;fill:currentColor}
.verdict{font-size:1.15rem;border-left:4px solid #0a7d32;padding:.4rem 1rem}.bar{fill:#2a6fdb}
"""


def render_page(report: Report) -> str:
    """The whole page. Names come out of models and data, so all of them are escaped."""
    return "\n".join(
        [
            "<!doctype html><html lang='en'><meta charset='utf-8'>",
            f"<title>taxiway optimize {escape(report.model)}</title><style>{_STYLE}</style>",
            f"<h1>{escape(report.model)}</h1>",
            f"<p class='verdict'>{escape('; '.join(conclusion(report)))}</p>",
            (
                f"<p>The promise: {escape(report.metric_name)} of {escape(report.output)} falls by at most "
                f"{report.max_drop:.3g}. {_numbers(report)}</p>"
            ),
            "<h2>Speed against quality</h2>",
            _front(report),
            "<h2>Variants</h2>",
            _variants(report),
            *_sensitivities(report),
            "<h2>What was done to the graph first</h2>",
            _steps(report),
            "<h2>Made with</h2>",
            (
                f"<p>{escape(', '.join(f'{name} {value}' for name, value in report.versions.items()))}; "
                f"model {escape(report.model_digest)}; {report.spent_s:.0f} CPU seconds</p></html>"
            ),
        ]
    )


def _numbers(report: Report) -> str:
    told = report.samples
    return (
        f"{told['calibrating']} samples calibrated, {told['choosing']} chose between recipes, and {told['proving']} "
        f"that neither had seen proved the promise; {report.batch} rows a run."
    )


def _front(report: Report) -> str:
    """Points: to the right is faster, up is better; the area is the size."""
    shown = [one for one in (report.baseline, *report.trials) if one.speed is not None and _drop(one) is not None]
    fastest = max([one.speed or 0.0 for one in shown], default=1.0) * 1.1
    worst = max([_scaled(_drop(one) or 0.0, report.max_drop) for one in shown], default=1.0) * 1.05 or 1.0
    line = _y(_scaled(report.max_drop, report.max_drop), worst)
    marks = [_point(one, report, fastest, worst) for one in shown]
    ticks = [
        f"<text x='{_x(at, fastest):.0f}' y='{_HEIGHT - _MARGIN + 18}'>{at:g}x</text>"
        for at in range(1, math.floor(fastest) + 1)
    ]
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='speed against drop'>"
        f"<path d='M{_MARGIN} {line:.0f}H{_WIDTH - 10}' stroke='#c0392b' stroke-dasharray='4'/>"
        f"<text x='{_MARGIN}' y='{line - 4:.0f}'>the promise</text>"
        f"<text x='{_WIDTH - 120}' y='{_HEIGHT - 8}'>speed</text><text x='4' y='14'>smaller drop</text>"
        f"{''.join(ticks)}{''.join(marks)}</svg>"
    )


def _point(trial: Trial, report: Report, fastest: float, worst: float) -> str:
    x, y = _x(trial.speed or 0.0, fastest), _y(_scaled(_drop(trial) or 0.0, report.max_drop), worst)
    radius = 3.0 + 9.0 * math.sqrt(min(1.0, trial.size / max(report.baseline.size, 1)))
    colour = _COLOURS[trial.fate] if trial.recipe != report.baseline.recipe else "currentColor"
    name = escape(trial.name)
    return (
        f"<circle cx='{x:.0f}' cy='{y:.0f}' r='{radius:.1f}' fill='{colour}' fill-opacity='.65'>"
        f"<title>{name}: {trial.speed:.2f}x, {trial.size} bytes</title></circle>"
        f"<text x='{x + radius + 3:.0f}' y='{y + 4:.0f}'>{name}</text>"
    )


def _drop(trial: Trial) -> float | None:
    if trial.verdict is not None:
        return trial.verdict.drop
    return 0.0 if trial.recipe.name == "baseline" else trial.drop


def _scaled(drop: float, allowed: float) -> float:
    """Small drops are told apart, and a collapse still fits on the page."""
    return math.asinh(drop / allowed)


def _x(speed: float, fastest: float) -> float:
    return _MARGIN + speed / fastest * (_WIDTH - 2 * _MARGIN)


def _y(drop: float, worst: float) -> float:
    return 24 + max(drop, -0.3) / worst * (_HEIGHT - _MARGIN - 40) + 12


def _variants(report: Report) -> str:
    heads = "".join(
        f"<th>{one}</th>" for one in ("variant", "speed", "bytes", "memory", "drop", "at most", "what became of it")
    )
    rows = "".join(_variant(one) for one in (report.baseline, *report.trials))
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _variant(trial: Trial) -> str:
    verdict = trial.verdict
    speed = "" if trial.speed is None else f"{trial.speed:.2f}"
    spread = f" ({trial.speed_low:.2f} to {trial.speed_high:.2f})" if trial.speed_low and trial.speed_high else ""
    fate = promise_in_words(verdict) if verdict is not None else trial.reason or trial.fate.value
    if trial.fate is Fate.RECOMMENDED:
        fate = f"<b>{escape(fate)}, recommended</b>"
    elif trial.recipe.name == "baseline":
        fate = "the model as it is"
    else:
        fate = escape(fate)
    mended = f"<br><small>mends {escape(trial.repaired_from)}{_kept(trial)}</small>" if trial.repaired_from else ""
    cells = (
        speed + spread,
        str(trial.size),
        "" if trial.memory is None else str(trial.memory),
        "" if (drop := _drop(trial)) is None else f"{drop:.5f}",
        "" if verdict is None else f"{verdict.upper:.5f}",
    )
    numbers = "".join(f"<td class='n'>{cell}</td>" for cell in cells)
    return f"<tr><td>{escape(trial.name)}{mended}</td>{numbers}<td>{fate}</td></tr>"


_SHOWN: Final = 40


def _kept(trial: Trial) -> str:
    """Which nodes stay in higher precision."""
    kept: Sequence[str] = getattr(trial.recipe, "keep", ())
    measured: Sequence[str] = getattr(trial.recipe, "measured", ())
    told = [
        f"; in floating point: {', '.join(kept[:_SHOWN])}" * bool(kept),
        f"; rounded at run time: {', '.join(measured[:_SHOWN])}" * bool(measured),
    ]
    return escape("".join(told))


def _sensitivities(report: Report) -> list[str]:
    return [part for name, damages in report.damages.items() for part in _sensitivity(name, damages)]


def _sensitivity(name: str, damages: Sequence[tuple[str, int, float]]) -> list[str]:
    """Bars of damage, on a scale of tens."""
    least = min((damage for _, _, damage in damages if damage > 0), default=1e-7)
    rows = []
    for at, (where, count, damage) in enumerate(damages):
        width = 260 * max(0.02, math.log10(max(damage, least) / least * 10) / math.log10(10 / least))
        y = 6 + 22 * at
        rows.append(
            f"<text x='0' y='{y + 13}'>{count} x {escape(where)}</text>"
            f"<rect class='bar' x='260' y='{y}' width='{width:.0f}' height='16'/>"
            f"<text x='{265 + width:.0f}' y='{y + 13}'>{damage:.1e}</text>"
        )
    return [
        (
            f"<h2>Sensitivity: {escape(name)}</h2><p>One minus the cosine to the baseline's answers when one class of "
            "nodes alone is quantized; those that do most damage for the work they save are kept out of it.</p>"
        ),
        f"<svg viewBox='0 0 {_WIDTH} {12 + 22 * len(damages)}' role='img'>{''.join(rows)}</svg>",
    ]


def _steps(report: Report) -> str:
    told = "".join(
        f"<li>{escape(one.name)}{escape(f': undone, {one.problem}' if one.problem else '')}</li>"
        for one in report.steps
    )
    return f"<ul>{told}</ul>"
