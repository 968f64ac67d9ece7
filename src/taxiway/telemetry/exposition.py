"""The forms in which a scrape can be told, and which of them a scraper asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from taxiway.telemetry import openmetrics, protobuf, render
from taxiway.telemetry.render import Point


@dataclass(frozen=True, slots=True)
class Exposition:
    """One form.

    Attributes:
        content_type: of the answer.
        write: makes its body.
    """

    content_type: str
    write: Callable[[Iterable[Point]], bytes]


TEXT: Final = Exposition(render.CONTENT_TYPE, render.render_metrics)
OPENMETRICS: Final = Exposition(openmetrics.CONTENT_TYPE, openmetrics.render_openmetrics)
PROTOBUF: Final = Exposition(protobuf.CONTENT_TYPE, protobuf.render_protobuf)
_OFFERED: Final = {
    "application/vnd.google.protobuf": PROTOBUF,
    "application/openmetrics-text": OPENMETRICS,
    "text/plain": TEXT,
    "text/*": TEXT,
    "*/*": TEXT,
}


def exposition_for(accept: str) -> Exposition:
    """The form that this Accept header likes best; the text format where it names none that there is.

    Of forms it likes equally, the one it names first, as Prometheus orders them by what it wants.
    """
    best, liked = TEXT, 0.0
    for word in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in word.split(";"))
        offered, quality = _OFFERED.get(kind), _quality(parameters)
        if offered is not None and quality > liked and _is_spoken(offered, parameters):
            best, liked = offered, quality
    return best


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _is_spoken(offered: Exposition, parameters: Iterable[str]) -> bool:
    """Of OpenMetrics the versions below 2, of protobuf delimited families of metrics."""
    told = dict(one.partition("=")[::2] for one in parameters)
    if offered is PROTOBUF:
        return told.get("proto") == "io.prometheus.client.metricfamily" and told.get("encoding") == "delimited"
    return offered is not OPENMETRICS or told.get("version", "1.").startswith(("0.", "1."))
