"""What is promised of a latency, and MLPerf's promises by name.

The figures are those of loadgen/mlperf.conf in mlcommons/inference: bounds of the Server scenario, at the 99th
percentile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from taxiway.core.errors import InvalidArgument
from taxiway.profile.outcome import Profile

_TERM: Final = re.compile(r"(?P<name>p\d+(\.\d+)?|ttft|tpot|errors)<=?(?P<value>\d+(\.\d+)?)(?P<unit>ms|s|%)")

_FIELDS: Final = {"ttft": "first_ms", "tpot": "per_output_ms", "errors": "errors"}


@dataclass(frozen=True, slots=True)
class Slo:
    """Bounds in milliseconds, at the 99th percentile unless `percentile` says otherwise; 0 is no bound.

    Attributes:
        latency_ms: from the intended start to the whole answer.
        first_ms: to the first token (TTFT).
        per_output_ms: per token after it (TPOT).
        errors: the largest share of requests without a successful answer.
    """

    latency_ms: float = 0.0
    first_ms: float = 0.0
    per_output_ms: float = 0.0
    percentile: float = 99.0
    errors: float = 0.01


def _tokens(first_ms: float, per_output_ms: float) -> Slo:
    return Slo(first_ms=first_ms, per_output_ms=per_output_ms)


PRESETS: Final[dict[str, Slo]] = {
    "resnet50": Slo(15),
    "retinanet": Slo(100),
    "bert": Slo(130),
    "dlrm": Slo(60),
    "rnnt": Slo(1000),
    "gptj": Slo(20_000),
    "stable-diffusion-xl": Slo(20_000),
    "llama2-70b": _tokens(2000, 200),
    "llama2-70b-interactive": _tokens(450, 40),
    "llama3.1-405b": _tokens(6000, 175),
    "llama3.1-405b-interactive": _tokens(4500, 80),
    "llama3.1-8b": _tokens(2000, 100),
    "llama3.1-8b-interactive": _tokens(500, 30),
    "mixtral-8x7b": _tokens(2000, 200),
    "deepseek-r1": _tokens(2000, 80),
    "deepseek-r1-interactive": _tokens(1500, 15),
    "gpt-oss-120b": _tokens(3000, 80),
    "gpt-oss-120b-interactive": _tokens(2000, 15),
}


def parse_slo(text: str) -> Slo:
    """A preset's name, or terms as `p99<50ms`, `ttft<450ms,tpot<40ms`, `errors<1%`.

    Raises:
        InvalidArgument: it is neither, bounds something twice or two percentiles, or a value breaks a rule.
    """
    if text in PRESETS:
        return PRESETS[text]
    given: dict[str, str] = {}
    bounds: dict[str, float] = {}
    for term in text.replace(" ", "").split(","):
        match = _TERM.fullmatch(term)
        if match is None or (match["name"] == "errors") != (match["unit"] == "%"):
            raise InvalidArgument(
                f"SLO {text!r} is neither the name of a preset nor of terms as p99<50ms, ttft<450ms, errors<1%",
                hint=f"presets are {', '.join(PRESETS)}",
            )
        field = _FIELDS.get(match["name"], "latency_ms")
        if field in given:
            raise InvalidArgument(
                f"SLO {text!r} has both {given[field]} and {term}, and takes only one of them",
                hint="leave one out; what is promised of two percentiles takes a run for each",
            )
        given[field] = term
        bounds |= _bounds(text, field, match)
    return Slo(**bounds)


def _bounds(text: str, field: str, match: re.Match[str]) -> dict[str, float]:
    """What one term says, by the fields of `Slo`."""
    value = float(match["value"]) * (1000 if match["unit"] == "s" else 0.01 if match["unit"] == "%" else 1)
    if field != "errors" and not value:
        raise InvalidArgument(
            f"SLO {text!r} bounds {match['name']} by 0, which no answer keeps", hint="a bound above 0, or none at all"
        )
    if field != "latency_ms":
        return {field: value}
    percentile = float(match["name"][1:])
    if not 0 < percentile < 100:
        raise InvalidArgument(
            f"SLO {text!r} is about percentile {percentile:g}, which must be above 0 and below 100",
            hint="write p99.9<50ms for 999 of 1000",
        )
    return {field: value, "percentile": percentile}


def broken_terms(slo: Slo, profile: Profile) -> list[str]:
    """What of the promise this run broke; empty if it was kept."""
    broken = []
    found = profile.latency.percentile(slo.percentile) / 1e6
    if slo.latency_ms and found > slo.latency_ms:
        broken.append(f"p{slo.percentile:g} is {found:.2f} ms, more than {slo.latency_ms:g} ms")
    tokens = profile.tokens
    for name, bound, seen in (
        ("time to first token", slo.first_ms, tokens.first if tokens else None),
        ("time per output token", slo.per_output_ms, tokens.per_output if tokens else None),
    ):
        if bound and seen is None:
            broken.append(f"{name} cannot be told: the answers came in no tokens")
        elif bound and seen is not None and seen.p99_ms > bound:
            broken.append(f"p99 of the {name} is {seen.p99_ms:.2f} ms, more than {bound:g} ms")
    if profile.error_share > slo.errors:
        broken.append(f"{profile.error_share:.2%} of the requests failed, more than {slo.errors:.2%}")
    return broken
