"""What is known of a watched version, as one page of HTML that needs nothing else and opens offline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

_WIDTH, _HEIGHT, _MARGIN = 760, 220, 48
_SHOWN: Final = 30
"""Features whose cells are drawn, those with the most evidence."""
_CELLS: Final = 40
"""Cells that are drawn of a feature, the largest."""
_NAME: Final = 48
"""Characters of a name; what is longer is cut."""
_BAR: Final = 8
_LINE: Final = 14
"""Height of a line of text."""
_BARS: Final = 460
"""Width of the widest bar."""
_STYLE: Final = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #8884;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto}text{font:12px system-ui;fill:currentColor}
.verdict{font-size:1.15rem;border-left:4px solid #0a7d32;padding:.4rem 1rem}.verdict.bad{border-color:#c0392b}
.was{fill:#8888}.now{fill:#2a6fdb}
"""


def report_page(report: Mapping[str, Any]) -> str:
    """The whole page, of what `GET /v1/monitor/drift/MODEL` answers.

    Names and values come out of requests, so all of them are escaped.
    """
    title = f"{report['model']}, version {report['version']}"
    bad = " bad" * bool(report["alarm"] or report["block_alarm"])
    return "\n".join(
        [
            "<!doctype html><html lang='en'><meta charset='utf-8'>",
            "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>taxiway monitor {_escaped(title)}</title><style>{_STYLE}</style>",
            f"<h1>{_escaped(title)}</h1>",
            f"<p class='verdict{bad}'>{_escaped(conclusion(report))}</p>",
            f"<p>{_escaped(_counts(report))}</p>",
            *_evidence(report),
            *_blocks(report["blocks"]),
            *_quality(report["quality"]),
            *_features(report),
            "</html>",
        ]
    )


def conclusion(report: Mapping[str, Any]) -> str:
    """What to think of it, in a sentence or two."""
    if "reference" not in report:
        learned = report["learned"]
        return f"It is learning what is usual: {learned['rows']} of {learned['of']} rows."
    told = []
    if report["alarm"]:
        told.append(f"Rows are unlike the reference: found on {_time(report['alarmed_ns'])}.")
    if report["block_alarm"]:
        told.append(f"A block was unlike those before it, on {_time(report['block_alarmed_ns'])}.")
    return " ".join(told) or "No drift was found."


def _counts(report: Mapping[str, Any]) -> str:
    looked, requests, dropped = report["rows"], report["requests"], report["dropped"]
    told = f"{looked} rows were looked at, of {requests} requests; {dropped} found no room."
    if "reference" not in report:
        return told
    reference = report["reference"]
    return (
        f"{told} The reference: {reference['kind']}, {reference['rows']} rows, {_time(reference['made_ns'])}. A "
        f"version that never drifts raises an alarm with a chance of {report['promise']:.3g} over its whole life."
    )


# --- evidence over time -----------------------------------------------------------------------------------------


def _evidence(report: Mapping[str, Any]) -> Iterator[str]:
    looks = report["looks"]
    if not looks:
        return
    threshold: float = report["threshold"]
    top = max([threshold, *(_number(look["evidence"]) for look in looks)]) * 1.1
    low = min([0.0, *(_number(look["evidence"]) for look in looks)])
    begin: int = looks[0]["at_ns"]
    end: int = looks[-1]["at_ns"]

    def x(at_ns: int) -> float:
        return _MARGIN + (at_ns - begin) / max(end - begin, 1) * (_WIDTH - 2 * _MARGIN)

    def y(value: float) -> float:
        return 16 + (top - value) / (top - low) * (_HEIGHT - _MARGIN)

    zero = f"<text x='4' y='{y(0) + 4:.1f}'>0</text>" if y(0) - y(threshold) > _LINE else ""
    line = " ".join(f"{x(look['at_ns']):.1f},{y(_number(look['evidence'])):.1f}" for look in looks)
    yield "<h2>Evidence of drift</h2><p>As a power of ten; it is an alarm at the dashed line, whenever one looks.</p>"
    yield (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='evidence over time'>"
        f"<path d='M{_MARGIN} {y(threshold):.1f}H{_WIDTH - _MARGIN}' stroke='#c0392b' stroke-dasharray='4'/>"
        f"<path d='M{_MARGIN} {y(0):.1f}H{_WIDTH - _MARGIN}' stroke='#8888'/>"
        f"<text x='4' y='{y(threshold) + 4:.1f}'>{threshold:.1f}</text>{zero}"
        f"<polyline points='{line}' fill='none' stroke='#2a6fdb' stroke-width='2'/>"
        f"<text x='{_MARGIN}' y='{_HEIGHT - 6}'>{_time(begin)}</text>"
        f"<text x='{_WIDTH - _MARGIN}' y='{_HEIGHT - 6}' text-anchor='end'>{_time(end)}</text></svg>"
    )


def _blocks(blocks: Mapping[str, Any]) -> Iterator[str]:
    """A square for each: the less likely it is as one of those before, the redder."""
    calendar: Sequence[Mapping[str, Any]] = blocks["calendar"]
    if not calendar:
        return
    columns = 28
    squares = []
    for at, one in enumerate(calendar):
        p_value = one["p_value"]
        strength = 0.1 if p_value is None else min(1.0, 0.1 - math.log10(max(p_value, 1e-4)) / 4)
        colour = "#c0392b" if p_value is not None and p_value < 0.05 else "#0a7d32"
        words = "learned" if p_value is None else f"p {p_value:.3g}"
        squares.append(
            f"<rect x='{at % columns * 26}' y='{at // columns * 26}' width='22' height='22' fill='{colour}' "
            f"fill-opacity='{strength:.2f}'><title>{_time(one['began_ns'])}: {one['rows']} rows, {words}</title></rect>"
        )
    height = (len(calendar) - 1) // columns * 26 + 26
    yield (
        f"<h2>Blocks</h2><p>Of {blocks['block_s'] / 3600:.3g} hours each; the first {blocks['learned']} are learned. "
        f"Evidence: {_number(blocks['evidence']):.2f}.</p>"
    )
    yield f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='blocks'>{''.join(squares)}</svg>"


# --- quality ----------------------------------------------------------------------------------------------------


def _quality(quality: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    if "labelled" in quality:
        rows.append(_share("by labels that came back", quality["labelled"]))
    if "estimate" in quality:
        name = "estimated from confidence" + ", unreliable" * bool(quality["estimate"]["unreliable"])
        rows.append(_share(name, quality["estimate"]))
    rows += [_share(f"{one['slice']} = {one['value']}", one) for one in quality["slices"]]
    if rows:
        yield "<h2>Accuracy</h2>"
        yield f"<table><tr><th></th><th>rows</th><th>accuracy</th><th>between</th></tr>{''.join(rows)}</table>"


def _share(name: str, told: Mapping[str, Any]) -> str:
    cells = (str(told["rows"]), f"{told['accuracy']:.4f}", f"{told['low']:.4f} and {told['high']:.4f}")
    numbers = "".join(f"<td class='n'>{cell}</td>" for cell in cells)
    return f"<tr><td>{_escaped(_cut(name))}</td>{numbers}</tr>"


# --- features ---------------------------------------------------------------------------------------------------


def _features(report: Mapping[str, Any]) -> Iterator[str]:
    features: Sequence[Mapping[str, Any]] = report.get("features", ())
    if not features:
        return
    heads = "".join(
        f"<th>{one}</th>" for one in ("feature", "side", "evidence", "PSI", "Jensen-Shannon", "KS", "Wasserstein")
    )
    yield "<h2>Features</h2><p>Evidence says whether one has changed; sizes say how much, and not whether.</p>"
    yield f"<table><tr>{heads}</tr>{''.join(map(_feature, features))}</table>"
    if report.get("left_out"):
        yield f"<p>Not watched: {_escaped(', '.join(map(_cut, report['left_out'])))}.</p>"
    yield "<h2>Where rows went</h2><p>Shares of the reference in grey, of the last rows in blue.</p>"
    for feature in features[:_SHOWN]:
        yield from _cells(feature)


def _feature(feature: Mapping[str, Any]) -> str:
    numbers = (feature.get(name) for name in ("evidence", "psi", "js", "ks", "wasserstein"))
    cells = "".join(f"<td class='n'>{'' if one is None else f'{_number(one):.3f}'}</td>" for one in numbers)
    return f"<tr><td>{_escaped(_cut(feature['name']))}</td><td>{_escaped(feature['side'])}</td>{cells}</tr>"


def _cells(feature: Mapping[str, Any]) -> Iterator[str]:
    cells = sorted(feature["cells"], key=lambda one: -max(one["reference"], one["now"]))[:_CELLS]
    shown = [one for one in feature["cells"] if one in cells]
    before, now = (max(1, sum(one[side] for one in feature["cells"])) for side in ("reference", "now"))
    most = max([1e-9, *(max(one["reference"] / before, one["now"] / now) for one in shown)])
    bars = [_bar(at, one, one["reference"] / before, one["now"] / now, most) for at, one in enumerate(shown)]
    left = len(feature["cells"]) - len(shown)
    yield f"<h3>{_escaped(_cut(feature['name']))}</h3>"
    label = _escaped(_cut(feature["name"]), quote=True)
    height = 22 * len(shown) + 6
    yield f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='{label}'>{''.join(bars)}</svg>"
    if left:
        yield f"<p><small>{left} smaller cells are left out.</small></p>"


def _bar(at: int, cell: Mapping[str, Any], was: float, now: float, most: float) -> str:
    y = 22 * at + 2
    return (
        f"<text x='0' y='{y + 13}'>{_escaped(_cut(str(cell['name'])))}</text>"
        f"<rect class='was' x='240' y='{y}' width='{was / most * _BARS:.1f}' height='{_BAR}'/>"
        f"<rect class='now' x='240' y='{y + _BAR}' width='{now / most * _BARS:.1f}' height='{_BAR}'>"
        f"<title>{was:.2%} then, {now:.2%} now</title></rect>"
        f"<text x='{246 + max(was, now) / most * _BARS:.0f}' y='{y + 13}'>{now:.1%}</text>"
    )


# --- words ------------------------------------------------------------------------------------------------------


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _escaped(text: str, *, quote: bool = False) -> str:
    """Text as HTML has it; what does not print is told as such."""
    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text), quote=quote)


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _number(value: float | None) -> float:
    """What is not finite has no place on a page."""
    return value if value is not None and math.isfinite(value) else 0.0
