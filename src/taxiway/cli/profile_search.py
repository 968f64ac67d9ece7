"""What `taxiway profile --search` and `--tune` do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import yaml

from taxiway.cli.profile_result import Result
from taxiway.cli.progress import Progress
from taxiway.core.errors import AlreadyExists, VerdictFailed
from taxiway.profile.config_search import Config
from taxiway.profile.plan import Plan
from taxiway.profile.search_report import search_data, search_lines, search_page, tuned_data, tuned_lines, tuned_page
from taxiway.profile.searching import Searched, search_slo
from taxiway.profile.slos import Slo
from taxiway.profile.targets.finding import find_target
from taxiway.profile.tuning import pbtxt_fragment, settings_fragment, tune
from taxiway.profile.wishes import Wishes
from taxiway.profile.workload import Workload

TUNE_HELP: Final = "Serve TARGET in many ways, and write the best as settings there (and as config.pbtxt beside it)."


@dataclass(frozen=True, slots=True)
class Want:
    """What the command line says of a search."""

    word: str
    plan: Plan
    wishes: Wishes
    slo: Slo | None
    workload: Workload | None


async def run_search(want: Want, progress: Progress) -> Result:
    """Search the highest rate."""
    slo = want.slo
    if slo is None:
        raise click.UsageError("--search needs an --slo, as p99<50ms")
    target = find_target(want.word, want.wishes)
    try:
        progress.tell(f"asking {target.name}")
        await target.open()
        searched = await search_slo(want.plan, slo, target, want.workload, progress.tell)
    finally:
        await target.close()
    return Result(
        search_data(slo, searched),
        search_lines(slo, searched),
        lambda: search_page(target.name, slo, searched),
        None if searched.found.rate_per_s is not None else _no_rate(searched),
    )


def _no_rate(searched: Searched) -> VerdictFailed:
    least = f"not even {searched.found.lost_per_s:.4g}/s" if searched.found.lost_per_s else "no rate"
    return VerdictFailed(f"{least} keeps the SLO", hint="a wider --slo, or a lower --rate")


async def run_tuning(want: Want, output: Path, progress: Progress) -> Result:
    """Search a configuration, and write it."""
    if "://" in want.word:
        raise click.UsageError("--tune starts servers of its own: name a model, not the URL of a server")
    if want.plan.concurrency is None:
        raise click.UsageError("--tune needs --concurrency: how many callers there are at once")
    fragment = _fragment_beside(output)
    tuned = await tune(want.word, want.plan, want.wishes, want.slo, want.workload, tell=progress.tell)
    failed = [f"did not start: {one}" for one in tuned.failed]
    lines = [*tuned_lines(tuned), *failed, _write(output, fragment, tuned.config)]
    data = {**tuned_data(tuned), "failed": list(tuned.failed)}
    return Result(data, lines, lambda: tuned_page(want.word, tuned))


def _fragment_beside(output: Path) -> Path:
    """Where the config.pbtxt goes.

    Raises:
        click.BadParameter: the settings are to go there.
        AlreadyExists: something is there, such as the configuration of the model itself.
    """
    fragment = output.with_suffix(".pbtxt")
    if fragment == output:
        raise click.BadParameter(
            f"{str(output)!r} gets settings in YAML, and a .pbtxt is written beside it: name a .yaml",
            param_hint="--tune",
        )
    if fragment.exists():
        raise AlreadyExists(
            f"{fragment} is there already, and a fragment of config.pbtxt would be written there",
            hint="name another FILE with --tune, or move it away",
            path=str(fragment),
        )
    return fragment


def _write(output: Path, fragment: Path, config: Config) -> str:
    """The best configuration in both forms; says where."""
    output.write_text(yaml.safe_dump(settings_fragment(config), sort_keys=False), encoding="utf-8")
    fragment.write_text(pbtxt_fragment(config), encoding="utf-8")
    return f"written: {output}, for `taxiway serve --config`; {fragment}, for a config.pbtxt"
