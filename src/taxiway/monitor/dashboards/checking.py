"""Which queries of a dashboard find nothing: those of metrics that nobody exposes.

Dashboards die silently: a metric is renamed, and the panel shows "no data" for months. Any dashboard of Grafana is
read, old ones too; what its queries name is held against what is exposed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taxiway.core.errors import FailedPrecondition, InvalidData

RENAMED: Final[Mapping[str, str]] = {
    "vllm:gpu_cache_usage_perc": "vllm:kv_cache_usage_perc",
    "vllm:time_per_output_token_seconds": "vllm:inter_token_latency_seconds",
    "vllm:num_requests_swapped": "",
    "vllm:avg_prompt_throughput_toks_per_s": "vllm:prompt_tokens_total, as a rate",
    "vllm:avg_generation_throughput_toks_per_s": "vllm:generation_tokens_total, as a rate",
    "nv_inference_load_ratio": "",
    "nv_inference_compute_duration_us": "nv_inference_compute_infer_duration_us",
}
"""What metrics are called now that dashboards in the field still ask for; empty: there is no such thing any more."""

_SUFFIXES: Final = ("_bucket", "_count", "_sum", "_total", "_created")
_RANGE: Final = re.compile(r"\$\{?__(?:rate_interval|interval|range)(?:_ms|_s)?\}?")
_SOME: Final = r"(?:\$\{[^}]+\}|\$\w+|\[\[[^\]]+\]\])"
_VARIABLE: Final = re.compile(_SOME)
_SPAN: Final = re.compile(rf"\[\s*{_SOME}\s*(?=[:\]])")
_COUNT: Final = re.compile(rf"(\b(?:topk|bottomk|quantile|histogram_quantile)\s*\(\s*){_SOME}(?=\s*,)")
_CHOSEN: Final = "chosen_by_the_reader"
_VALUES: Final = re.compile(r"^\s*label_values\(\s*(?:(?P<query>.+),)?\s*[\w$]+\s*\)\s*$", re.DOTALL)
_RESULT: Final = re.compile(r"^\s*(?:query_result|metrics)\((?P<query>.+)\)\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AskedMetric:
    """One query that names one metric.

    Attributes:
        where: the panel's title, or which variable.
        query: as it stands in the dashboard.
        metric: empty if the query is no PromQL.
        problem: why it is none.
    """

    where: str
    query: str
    metric: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DeadQuery:
    """One that finds nothing.

    Attributes:
        instead: what its metric is called now, if that is known.
    """

    where: str
    query: str
    metric: str
    instead: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A dashboard that was checked."""

    title: str
    queries: int
    dead: tuple[DeadQuery, ...]


def check_dashboard(document: Mapping[str, Any], exposed: Collection[str]) -> Checked:
    """Which of its queries are dead.

    Args:
        document: the dashboard's JSON, as exported or as the API gives it.
        exposed: names of all metrics that there are.

    Raises:
        InvalidData: it is no dashboard.
        FailedPrecondition: the parser of PromQL is not installed.
    """
    board = document.get("dashboard", document)
    if not isinstance(board, dict) or not isinstance(board.get("panels", board.get("rows")), list):
        raise InvalidData("this is no dashboard of Grafana: it has no panels", hint="export one as JSON")
    asked = list(_asked(board))
    dead = [DeadQuery(one.where, one.query, one.metric, _instead(one)) for one in asked if not _is_alive(one, exposed)]
    return Checked(str(board.get("title", "")), len({(one.where, one.query) for one in asked}), tuple(dead))


def _is_alive(asked: AskedMetric, exposed: Collection[str]) -> bool:
    return not asked.problem and (asked.metric in exposed or _stem(asked.metric) in exposed)


def _instead(asked: AskedMetric) -> str:
    if asked.problem:
        return f"no PromQL: {asked.problem}"
    stem = _stem(asked.metric)
    known = next((one for one in (asked.metric, stem) if one in RENAMED), None)
    if known is None:
        return ""
    return f"now {RENAMED[known]}" if RENAMED[known] else "there is no such metric any more"


def _stem(metric: str) -> str:
    """A histogram's or a counter's name without what its series end with."""
    suffix = next((one for one in _SUFFIXES if metric.endswith(one)), "")
    return metric.removesuffix(suffix)


# --- what a dashboard asks ---------------------------------------------------------------------------------------


def _asked(board: Mapping[str, Any]) -> Iterator[AskedMetric]:
    for where, query in (*_panel_queries(board), *_variable_queries(board), *_annotation_queries(board)):
        for metric, problem in _metrics_of(query):
            yield AskedMetric(where, query, metric, problem)


def _panel_queries(holder: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of panels, and of those in rows: inside them today, beside them in dashboards of before Grafana 5."""
    for panel in (*holder.get("panels", ()), *holder.get("rows", ())):
        if not isinstance(panel, dict):
            continue
        for target in panel.get("targets", ()):
            if isinstance(target, dict) and isinstance(query := target.get("expr"), str) and query.strip():
                yield str(panel.get("title", "?")), query
        yield from _panel_queries(panel)


def _variable_queries(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in board.get("templating", {}).get("list", ()):
        if variable.get("type") != "query":
            continue
        said = variable.get("query")
        text = said.get("query", "") if isinstance(said, dict) else said
        found = _VALUES.match(text or "") or _RESULT.match(text or "")
        if found and found["query"]:
            yield f"variable {variable.get('name')}", found["query"]


def _annotation_queries(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for annotation in board.get("annotations", {}).get("list", ()):
        if isinstance(query := annotation.get("expr"), str) and query.strip():
            yield f"annotation {annotation.get('name')}", query


def _metrics_of(query: str) -> Iterator[tuple[str, str]]:
    """The metrics that a query names, each with why it is none: one or the other is empty."""
    parse = _parser()
    try:
        tree = parse(_filled_in(query))
    except ValueError as problem:
        yield "", str(problem)
        return
    for name in sorted(set(_names_in(tree))):
        if _CHOSEN not in name:
            yield name, ""


def _filled_in(query: str) -> str:
    """With something that parses where variables stand: a time, a number, or a name."""
    timed = _SPAN.sub("[5m", _RANGE.sub("5m", query))
    return _VARIABLE.sub(_CHOSEN, _COUNT.sub(r"\g<1>1", timed))


def _names_in(node: Any) -> Iterator[str]:  # noqa: ANN401 - the parser's own nodes
    """Of all selectors in a tree of PromQL."""
    if hasattr(node, "matchers"):
        if node.name:
            yield node.name
        yield from (
            one.value for one in node.matchers.matchers if one.name == "__name__" and str(one.op) == "MatchOp.Equal"
        )
    for part in ("expr", "lhs", "rhs", "vs", "param", "vector_selector"):
        child = getattr(node, part, None)
        if child is not None and not isinstance(child, str | int | float):
            yield from _names_in(child)
    for child in getattr(node, "args", ()) or ():
        yield from _names_in(child)


def _parser() -> Any:  # noqa: ANN401 - a function of a package without annotations
    try:
        import promql_parser  # noqa: PLC0415 - only whoever checks dashboards needs it
    except ImportError:
        raise FailedPrecondition(
            "the parser of PromQL is not installed", hint="pip install 'taxiway[monitor]'"
        ) from None
    return promql_parser.parse
