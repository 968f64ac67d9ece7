"""What a search or a tuning found: for a person, for a program, and as a page. Pure."""

from __future__ import annotations

import html
import math
from dataclasses import asdict
from typing import Any

from taxiway.profile.page import Point, chart, document
from taxiway.profile.searching import Searched
from taxiway.profile.slo_search import Answer
from taxiway.profile.slos import Slo
from taxiway.profile.tuning import Tuned, config_words


def search_lines(slo: Slo, searched: Searched) -> list[str]:
    """What a person reads."""
    found = searched.found
    lines = [f"{'rate/s':>10}  {'seconds':>7}  {'too slow':>9}  {'interval':>17}  verdict"]
    lines += [_line(answer) for answer in found.answers]
    if found.rate_per_s is None:
        told = f"not even {found.lost_per_s:.4g}/s keeps the SLO" if found.lost_per_s else "nothing was measured"
    elif found.lost_per_s is None:
        told = f"{found.rate_per_s:.4g}/s keeps the SLO, and more was not tried"
    else:
        told = (
            f"highest rate within the SLO: {found.rate_per_s:.4g}/s "
            f"(kept at {found.kept_per_s:.4g}/s, lost at {found.lost_per_s:.4g}/s)"
        )
    allowed = f"at most {100 - slo.percentile:g} % of requests may be too slow"
    lines += ["", f"{told}; {allowed}; {len(found.answers)} rates in {found.seconds:.1f} s"]
    if found.unproven:
        rates = " and ".join(f"{rate:.4g}/s" for rate in found.unproven)
        lines.append(f"not proven: {rates} too close to say, by so few requests; a longer --duration tells")
    if searched.doubts:
        lines.append(f"doubtful: {len(searched.doubts)} runs were invalid, the first at {searched.doubts[0]}")
    return lines


def _line(answer: Answer) -> str:
    verdict = {True: "kept", False: "lost", None: "too close to say"}[answer.kept] + (", early" if answer.cut else "")
    interval = f"{answer.low:.2%} to {answer.high:.2%}"
    return f"{answer.rate_per_s:>10.4g}  {answer.seconds:>7.1f}  {answer.share:>9.2%}  {interval:>17}  {verdict}"


def search_data(slo: Slo, searched: Searched) -> dict[str, Any]:
    """The same as plain data; an answer's `kept` is None, and an end `unproven`, where it was too close to say."""
    found = searched.found
    return {
        "slo": asdict(slo),
        "rate_per_s": found.rate_per_s,
        "kept_per_s": found.kept_per_s,
        "lost_per_s": found.lost_per_s,
        "unproven_per_s": list(found.unproven),
        "seconds": found.seconds,
        "rates": [asdict(answer) for answer in found.answers],
        "doubts": list(searched.doubts),
    }


def search_page(target: str, slo: Slo, searched: Searched) -> str:
    """The share of slow requests over the rate, and the same text."""
    return document(target, f"{_share_chart(slo, searched)}\n{_text(search_lines(slo, searched))}")


def _share_chart(slo: Slo, searched: Searched) -> str:
    """Per cent of requests that were too slow over the rate, on a scale of ratios, beside what is allowed."""
    answers = sorted(searched.found.answers, key=lambda answer: answer.rate_per_s)
    if not answers:
        return ""
    first, span = answers[0].rate_per_s, math.log(answers[-1].rate_per_s / answers[0].rate_per_s) or 1.0
    places = [math.log(answer.rate_per_s / first) / span for answer in answers]
    allowed = 100 - slo.percentile
    top = 4 * allowed  # beyond it only that it is lost is of interest
    shares: list[Point] = [(x, min(100 * answer.share, top)) for x, answer in zip(places, answers, strict=True)]
    lines = [("too slow", "#0969da", shares), ("allowed", "#b3261e", [(0.0, allowed), (1.0, allowed)])]
    ticks = [(share / 4, f"{first * math.exp(share / 4 * span):.4g}/s") for share in range(5)]
    return chart(lines, top, ticks, unit="%")


def tuned_lines(tuned: Tuned) -> list[str]:
    """What a person reads."""
    lines = [f"{'answers/s':>10}  {'p99/SLO':>7}  configuration"]
    for config, run in tuned.best.runs:
        mark = "*" if config == tuned.config else " "
        lines.append(f"{run.score:>10.1f}  {run.slowness:>7.2f} {mark}{config_words(config)}")
    gain = tuned.best.score / tuned.before.score
    return [*lines, "", f"best: {config_words(tuned.config)}: {tuned.best.score:.1f}/s, {gain:.2f} times the first"]


def tuned_data(tuned: Tuned) -> dict[str, Any]:
    """The same as plain data; `slowness` is the latency by the SLO's, 0 where there is none."""
    runs = [{"config": dict(config), "per_s": run.score, "slowness": run.slowness} for config, run in tuned.best.runs]
    return {"config": dict(tuned.config), "per_s": tuned.best.score, "first_per_s": tuned.before.score, "runs": runs}


def tuned_page(target: str, tuned: Tuned) -> str:
    """Every run as text."""
    return document(target, _text(tuned_lines(tuned)))


def _text(lines: list[str]) -> str:
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"
