"""`taxiway monitor check-dashboard FILE...`."""

from __future__ import annotations

import http.client
import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from taxiway.cli.desk import output_option, tell
from taxiway.core.errors import InvalidData, Unavailable, VerdictFailed
from taxiway.monitor.dashboards.checking import Checked, check_dashboard
from taxiway.telemetry.catalogue import CATALOGUE

_TIMEOUT_S: Final = 30.0
_MOST_BYTES: Final = 64 << 20
_FROM_PROMETHEUS: Final = ("up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS", "ALERTS_FOR_STATE")
"""What every Prometheus has by itself."""
_SERIES: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)", re.MULTILINE)
_TYPE: Final = re.compile(r"^# TYPE (\S+)", re.MULTILINE)


@click.command("check-dashboard")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--prometheus", metavar="URL", default="", help="Hold them against what this Prometheus has.")
@click.option("--metrics", metavar="URL", default="", help="Hold them against what is scraped here.")
@output_option
def command(files: tuple[Path, ...], prometheus: str, metrics: str, output: str) -> None:
    """List the dead queries of any dashboard of Grafana: those of metrics that nobody exposes.

    \b
      taxiway monitor check-dashboard board.json
      taxiway monitor check-dashboard *.json --prometheus http://localhost:9090

    Without an address they are held against every metric that taxiway knows. Exits with 6 if there are dead ones.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    exposed = _exposed(prometheus, metrics)
    checked = [(path, check_dashboard(_read(path), exposed)) for path in files]
    told = [{"file": str(path), **asdict(one)} for path, one in checked]
    tell(output, told, lambda: [line for path, one in checked for line in _lines(path, one)])
    if dead := sum(len(one.dead) for _, one in checked):
        raise VerdictFailed(f"{dead} queries find nothing", hint="the list says what is known of their metrics")


def _lines(path: Path, checked: Checked) -> Iterator[str]:
    yield f"{path}: {checked.title}: {len(checked.dead)} dead of {checked.queries} queries"
    for one in checked.dead:
        yield f"  {one.where}: {one.metric or one.query}{f' ({one.instead})' if one.instead else ''}"


def _read(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InvalidData(f"{path} cannot be read as JSON: {problem}", hint="export the dashboard as JSON") from None


def _exposed(prometheus: str, metrics: str) -> set[str]:
    if prometheus:
        told = json.loads(_fetch(f"{prometheus.rstrip('/')}/api/v1/label/__name__/values"))
        return set(told["data"])
    if metrics:
        text = _fetch(metrics).decode("utf-8", "replace")
        return {*_SERIES.findall(text), *_TYPE.findall(text), *_FROM_PROMETHEUS}
    return {*(family.name for family in CATALOGUE), *_FROM_PROMETHEUS}


def _fetch(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is no URL of http or https")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s), see above
            content: bytes = answer.read(_MOST_BYTES)
            return content
    except (OSError, ValueError, http.client.HTTPException) as problem:
        raise Unavailable(f"{url} cannot be read: {problem}", hint="is it there?") from None
