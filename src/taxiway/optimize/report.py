"""What a person reads: a table, and the one sentence that it comes to."""

from __future__ import annotations

from taxiway.optimize.outcome import Report
from taxiway.optimize.promise import Answer, Verdict
from taxiway.optimize.targets import TARGETS
from taxiway.optimize.trials import Fate, Trial, is_steady

_HEADS = ("variant", "speed", "row by row", "size", "memory", "drop", "at most", "promise")
_MIB = 1 << 20


def format_report(report: Report) -> list[str]:
    """Lines for a terminal."""
    proven = [one for one in report.trials if one.verdict is not None]
    dropped = [one for one in report.trials if one.verdict is None]
    lines = [
        (
            f"{report.metric_name} of {report.output} falls by at most {report.max_drop:.3g}; "
            f"{report.samples['calibrating']} samples calibrated, {report.samples['choosing']} chose, "
            f"{report.samples['proving']} others proved; {report.batch} rows a run"
        ),
        "",
        *_table([_HEADS, _baseline_row(report), *(_row(one) for one in proven)]),
    ]
    if dropped:
        lines += ["", "not proven:"]
        lines += [f"  {one.name}: {_speed(one)}{one.reason}" for one in dropped]
    for name, damages in report.damages.items():
        lines += ["", f"{name}, each class of nodes alone (1 - cosine to the baseline):"]
        lines += [f"  {damage:.2e}  {count:4} x {where}" for where, count, damage in damages]
    lines += ["", *conclusion(report)]
    return lines


def conclusion(report: Report) -> list[str]:
    """What it comes to."""
    best = recommended(report)
    if best is not None:
        told = [f"would serve {best.name}: {best.speed:.2f} times the baseline's speed, {_smaller(report, best)}"]
        return told if is_steady(best.recipe) else [*told, *_company(report, best)]
    unproven = [one for one in report.trials if one.fate is Fate.UNPROVEN]
    if report.outcome == "not enough data":
        more = [one.verdict.more for one in unproven if one.verdict is not None and one.verdict.more is not None]
        enough = (
            f"about {min(more)} more samples for the proof would settle it" if more else "more of these would not help"
        )
        return [f"would serve the baseline: no variant is proven to keep the promise; {enough}"]
    needs = missing(report)
    if needs:
        return [f"would serve the baseline here: what keeps the promise needs {' or '.join(needs)} for its speed"]
    return ["would serve the baseline: nothing faster keeps the promise"]


_COMPANY = (
    "its activations are rounded by each batch's own range, so a row's answer depends a little on the rows beside it, "
    "and a server runs requests one by one rather than merging them, unless it is configured to"
)


def _company(report: Report, best: Trial) -> list[str]:
    """What it means that a row's answer depends on the rows beside it, and who is better where that matters."""
    told = [_COMPANY]
    others = [one for one in report.trials if one.fate is Fate.KEPT and one.alone_speed is not None]
    better = max(others, key=lambda one: one.alone_speed or 0.0, default=None)
    if better is not None and (better.alone_speed or 0.0) > max(best.alone_speed or 0.0, 1.0):
        told.append(
            f"for requests of one row each, {better.name} is the better choice: {better.alone_speed:.2f} times the "
            f"baseline's speed, against {best.alone_speed or 0.0:.2f}"
        )
    elif best.alone_speed is not None and best.alone_speed < 1.0:
        told.append(
            f"for requests of one row each, the baseline is better: this has {best.alone_speed:.2f} of its speed"
        )
    return told


def missing(report: Report) -> list[str]:
    """What it takes to know the speed of variants that keep the promise and could not be timed here."""
    return sorted({TARGETS[one.target].needs for one in report.trials if one.fate is Fate.KEPT and one.speed is None})


def recommended(report: Report) -> Trial | None:
    """The trial to serve; None: the baseline."""
    return next((one for one in report.trials if one.name == report.recommended), None) if report.recommended else None


def _smaller(report: Report, trial: Trial) -> str:
    return f"{report.baseline.size / trial.size:.2f} times smaller"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _baseline_row(report: Report) -> tuple[str, ...]:
    one = report.baseline
    return ("baseline", "1.00", "1.00", _size(one.size), _memory(one), "", "", f"{report.baseline_value:.4f}")


def _row(trial: Trial) -> tuple[str, ...]:
    verdict = trial.verdict
    assert verdict is not None  # noqa: S101 - only the proven have rows
    speed = f"{trial.speed:.2f}" if trial.speed is not None else "needs a GPU" if trial.target != "openvino" else "?"
    return (
        trial.name,
        speed,
        f"{trial.alone_speed:.2f}" if trial.alone_speed is not None else "?",
        _size(trial.size),
        _memory(trial),
        f"{verdict.drop:.4f}",
        f"{verdict.upper:.4f}",
        promise_in_words(verdict) + (", recommended" if trial.fate is Fate.RECOMMENDED else ""),
    )


def promise_in_words(verdict: Verdict) -> str:
    """`kept`, `broken`, or what is missing."""
    said: str = verdict.answer.value
    missing = verdict.answer is Answer.NOT_ENOUGH_DATA and verdict.more is not None
    return f"{said}, {verdict.more} more" if missing else said


def _speed(trial: Trial) -> str:
    return f"x{trial.speed:.2f}, " if trial.speed is not None else ""


def _size(size: int) -> str:
    return f"{size / _MIB:.2f} MiB"


def _memory(trial: Trial) -> str:
    return f"{trial.memory / _MIB:.0f} MiB" if trial.memory is not None else "?"
