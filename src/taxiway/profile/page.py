"""A profile as one HTML page that needs nothing else: percentiles drawn, windows over time, and the same text."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

from taxiway.profile.outcome import Profile
from taxiway.profile.report import format_profile, format_ramp
from taxiway.stats.hdr_histogram import HdrHistogram

_WIDTH: Final = 860
_HEIGHT: Final = 320
_LEFT: Final = 70
_BOTTOM: Final = 40
_NINES: Final = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999)
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #1b1f24; }
pre { background: #f5f6f8; padding: 1em; overflow-x: auto; font-size: 13px; }
.bad { color: #b3261e; } .good { color: #1a7f37; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #57606a; }
"""

Point = tuple[float, float]


def format_page(profiles: Sequence[Profile], title: str = "") -> str:
    """The page of one run, or of several."""
    parts = []
    if len(profiles) > 1:
        parts.append(f"<pre>{html.escape(chr(10).join(format_ramp(profiles)))}</pre>")
    parts += [_section(profile) for profile in profiles]
    return document(title or profiles[0].target, "\n".join(parts))


def document(title: str, body: str) -> str:
    """A page with this heading around `body`, which is HTML."""
    name = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{name}</h1>\n{body}\n</body></html>\n"
    )


def _section(profile: Profile) -> str:
    word, mark = ("valid", "good") if profile.valid else ("INVALID", "bad")
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in profile.reasons)
    text = html.escape("\n".join(format_profile(profile)))
    return (
        f'<h2>{profile.offered_per_s:.1f}/s <span class="{mark}">{word}</span></h2><ul>{reasons}</ul>\n'
        f"<h3>Latency by percentile</h3>\n{percentile_chart(profile)}\n"
        f"<h3>Latency over time</h3>\n{time_chart(profile)}\n<pre>{text}</pre>"
    )


def percentile_chart(profile: Profile) -> str:
    """Milliseconds over percentiles, each nine as wide as the one before."""
    count = max(profile.latency.count, 1)
    shown = [one for one in _NINES if one <= 100 * (1 - 1 / count)] or [0.0]
    last = _nines(100 * (1 - 1 / (count + 1)))
    lines = [("response", "#0969da", _curve(profile.latency)), ("service", "#8c959f", _curve(profile.service))]
    top = max((y for _, _, points in lines for _, y in points), default=1.0)
    ticks = [(_nines(one) / last, f"{one:g}%") for one in shown]
    return chart([(label, colour, [(x / last, y) for x, y in points]) for label, colour, points in lines], top, ticks)


def time_chart(profile: Profile) -> str:
    """Median and p99 of each window over the time of the run."""
    windows = profile.windows
    if not windows:
        return ""
    start, span = windows[0].at_s, max(windows[-1].at_s - windows[0].at_s, 1e-9)
    lines = [
        ("p99", "#b3261e", [((one.at_s - start) / span, one.p99_ms) for one in windows]),
        ("p50", "#0969da", [((one.at_s - start) / span, one.p50_ms) for one in windows]),
    ]
    ticks = [(share / 4, f"{start + share / 4 * span:.1f} s") for share in range(5)]
    return chart(lines, max(one.p99_ms for one in windows), ticks)


def _nines(percent: float) -> float:
    """0 at 0 %, 1 at 90 %, 2 at 99 %."""
    return -math.log10(1 - min(percent, 99.99999) / 100)


def _curve(histogram: HdrHistogram) -> list[Point]:
    """Nines and milliseconds."""
    count = max(histogram.count, 1)
    steps = [100 * (1 - 10 ** (-step / 20)) for step in range(int(20 * math.log10(count + 1)) + 1)]
    return [(_nines(percent), histogram.percentile(percent) / 1e6) for percent in steps]


def chart(
    lines: Iterable[tuple[str, str, Sequence[Point]]],
    top: float,
    ticks: Sequence[tuple[float, str]],
    unit: str = "ms",
) -> str:
    """Lines (label, colour, points) whose x runs from 0 to 1 and whose y runs from 0 to `top`; ticks lie along x."""
    top = top or 1.0

    def place(x: float, y: float) -> Point:
        return _LEFT + x * (_WIDTH - _LEFT - 20), (_HEIGHT - _BOTTOM) - y / top * (_HEIGHT - _BOTTOM - 20)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for share in range(5):
        x, y = place(0, top * share / 4)
        parts.append(f'<line x1="{x}" x2="{_WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share / 4:.3g} {unit}</text>')
    for at, label in ticks:
        x, y = place(at, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{html.escape(label)}</text>')
    for number, (label, colour, points) in enumerate(lines):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 10 + 80 * number}" y="14" style="fill:{colour}">{html.escape(label)}</text>')
    return "".join([*parts, "</svg>"])
