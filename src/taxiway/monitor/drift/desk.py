"""Every watched version of a server: takes sampled rows in, and says what is known. One thread uses it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from taxiway.config.monitoring_drift import DriftSettings, ModelDriftSettings
from taxiway.core.errors import NotFound
from taxiway.core.samples import SampledRows
from taxiway.monitor.drift.columns import Column, columns_of
from taxiway.monitor.drift.gathering import Gathering
from taxiway.monitor.drift.reference import Reference
from taxiway.monitor.drift.report import report_of, summary_of
from taxiway.monitor.drift.store import WatchStore
from taxiway.monitor.drift.watch import Watch, WatchPlan
from taxiway.stats.drift_sizes import drift_sizes
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.monitor")
_LN10: Final = math.log(10.0)
_TOLD: Final = 20
"""Features of a version that have series of their own, those with the most evidence; the rest is told as one."""

Key = tuple[str, int]


class DriftDesk:
    """Watches what it is shown. It is a `SampleSink`.

    Args:
        store: keeps watches over restarts.
    """

    def __init__(self, settings: DriftSettings, store: WatchStore) -> None:
        self._settings = settings
        self._store = store
        self._watches: dict[Key, Watch] = {}
        """Those that were shown rows the longest ago first."""
        self._gatherings: dict[Key, Gathering] = {}
        self._told: dict[Key, tuple[tuple[object, ...], tuple[Point, ...]]] = {}
        """Series by version, and what was known when they were worked out."""
        self._troubled: set[Key] = set()

    def wants(self, model: str) -> bool:
        """Whether rows of this model are to be shown to it."""
        return self._settings.enabled and self._of(model).enabled

    # --- rows -----------------------------------------------------------------------------------------------

    def take(self, rows: SampledRows) -> None:
        """Rows that were sampled; what goes wrong is logged once for each version."""
        if not self.wants(rows.model):
            return
        key = (rows.model, rows.version)
        with self._telling(key):
            watch = self._watch(key)
            watch.seen += rows.seen
            watch.dropped += rows.dropped
            if rows.rows:
                self._gather(key, watch, rows)

    def look(self, now_ns: int) -> None:
        """Look at what has been gathered long enough."""
        for key, gathering in self._gatherings.items():
            if gathering.is_due(now_ns, self._settings.look_rows, self._settings.look_s):
                with self._telling(key):
                    self._show(key, self._watch(key), gathering.take(now_ns))

    def _gather(self, key: Key, watch: Watch, rows: SampledRows) -> None:
        gathering = self._gatherings.setdefault(key, Gathering())
        if not gathering.fits(rows):
            self._show(key, watch, gathering.take(rows.ended_ns))
        gathering.add(rows)
        if gathering.is_due(rows.ended_ns, self._settings.look_rows, self._settings.look_s):
            self._show(key, watch, gathering.take(rows.ended_ns))

    def _look_at_all(self) -> None:
        """Whoever asks is told of everything that has come."""
        for key, gathering in self._gatherings.items():
            with self._telling(key):
                self._show(key, self._watch(key), gathering.take(gathering.since_ns))

    def _show(self, key: Key, watch: Watch, rows: SampledRows | None) -> None:
        if rows is None:
            return
        was_watching = watch.reference is not None
        alarms = watch.alarmed_ns, watch.block_alarmed_ns
        columns = self._columns(rows)
        watch.quality.answered(rows, columns)
        watch.add(columns, rows.rows, rows.times_ns[-1])
        if not was_watching and watch.reference is not None:
            _log.info("drift_watched", model=key[0], version=str(key[1]), reason=watch.reference.source)
        if alarms != (watch.alarmed_ns, watch.block_alarmed_ns):
            self._tell_alarm(key, watch, blocks=alarms[1] != watch.block_alarmed_ns)

    @contextmanager
    def _telling(self, key: Key) -> Iterator[None]:
        """What goes wrong with one version ends the watch of no other."""
        try:
            yield
            self._troubled.discard(key)
        except Exception as problem:  # noqa: BLE001 - the boundary
            if key not in self._troubled:
                self._troubled.add(key)
                _log.warning("drift_not_watched", model=key[0], version=str(key[1]), error=problem)

    def _columns(self, rows: SampledRows) -> list[Column]:
        own = self._of(rows.model)
        return [column for column in columns_of(rows, own.features) if column.name not in own.ignore]

    def _watch(self, key: Key) -> Watch:
        watch = self._watches.pop(key, None)
        if watch is None:
            watch = self._load(key) or Watch(self._plan(key[0]), self._store.reference(key))
            for oldest in list(self._watches)[: max(0, len(self._watches) + 1 - self._settings.max_versions)]:
                self._store.save(oldest, self._watches.pop(oldest))
                self._gatherings.pop(oldest, None)
        self._watches[key] = watch
        return watch

    def _load(self, key: Key) -> Watch | None:
        return self._store.load(key, self._plan(key[0]))

    def _plan(self, model: str) -> WatchPlan:
        settings = self._settings
        return WatchPlan(
            promise=settings.promise,
            reference_rows=settings.reference_rows,
            look_rows=settings.look_rows,
            block_s=settings.block_s,
            reference_blocks=settings.reference_blocks,
            tolerance_rows=settings.tolerance_rows or None,
            slices=self._of(model).slices,
        )

    def _of(self, model: str) -> ModelDriftSettings:
        return self._settings.models.get(model, _PLAIN)

    def labelled(self, model: str, labels: Mapping[str, object]) -> int:
        """Labels of requests have come, by the requests' ids; how many of the answers were waiting for them.

        Answers that have just come are remembered first: a label may be quicker than a look.
        """
        self._look_at_all()
        watches = [watch for key, watch in self._watches.items() if key[0] == model]
        return sum(
            any(watch.quality.labelled(request, value) for watch in watches) for request, value in labels.items()
        )

    # --- references -----------------------------------------------------------------------------------------

    def hold_against(self, model: str, version: int, reference: Reference) -> dict[str, Any]:
        """From now on hold a version's rows against this; what was known of it is forgotten."""
        key = (model, version)
        watch = self._watch(key)
        watch.begin(reference)
        self._store.keep_reference(key, reference)
        self._store.save(key, watch)
        return summary_of(model, version, watch)

    def hold_like(self, model: str, version: int, other: int, made_ns: int) -> dict[str, Any]:
        """From now on hold a version's rows against the last ones of another, as of a rollout's baseline, or its own.

        Raises:
            NotFound: the other is not watched.
            FailedPrecondition: too little is known of it.
        """
        self._look_at_all()
        source = f"the last rows of version {other}" if other != version else "its own last rows"
        return self.hold_against(model, version, self._found((model, other)).as_reference(source, made_ns))

    def learn_again(self, model: str, version: int) -> dict[str, Any]:
        """Forget a version's reference, and learn one from the next rows in service.

        Raises:
            NotFound: it is not watched.
        """
        key = (model, version)
        self._found(key)
        self._store.forget(key)
        self._gatherings.pop(key, None)
        self._watches[key] = Watch(self._plan(model))
        return summary_of(model, version, self._watches[key])

    # --- what is known --------------------------------------------------------------------------------------

    def summaries(self) -> list[dict[str, Any]]:
        """Every watched version, those with the most evidence first."""
        self._look_at_all()
        told = [summary_of(*key, watch) for key, watch in self._watches.items()]
        return sorted(told, key=lambda one: -max(one["evidence"], one["block_evidence"]))

    def report(self, model: str, version: int | None = None) -> dict[str, Any]:
        """All that is known of one version; None: the newest that is watched.

        Raises:
            NotFound: it is not watched.
        """
        self._look_at_all()
        versions = [key[1] for key in self._watches if key[0] == model]
        if version is None and versions:
            version = max(versions)
        return report_of(model, version or 0, self._found((model, version or 0)))

    def _found(self, key: Key) -> Watch:
        if key not in self._watches:
            model, version = key
            what = f"version {version} of model {model!r}" if version else f"model {model!r}"
            raise NotFound(
                f"{what} is not watched for drift",
                hint="it is once it was asked something; monitoring.drift says which models are",
                model=model,
            )
        return self._watches[key]

    def points(self) -> Iterator[Point]:
        """Every series; those of a version are worked out when something has changed about it."""
        self._told = {key: told for key, told in self._told.items() if key in self._watches}
        for key, watch in self._watches.items():
            known = (watch, watch.rows, watch.dropped, watch.quality.all.rows, watch.block_alarmed_ns)
            if key not in self._told or self._told[key][0] != known:
                self._told[key] = (known, tuple(_points((key[0], str(key[1])), watch)))
            yield from self._told[key][1]

    def save(self) -> None:
        """Write what is known to the disk."""
        self._look_at_all()
        for key, watch in self._watches.items():
            self._store.save(key, watch)

    def restore(self) -> None:
        """Go on with what was written."""
        for key in self._store.kept():
            watch = self._load(key)
            if watch is not None:
                self._watches[key] = watch

    # --- told -----------------------------------------------------------------------------------------------

    def _tell_alarm(self, key: Key, watch: Watch, *, blocks: bool) -> None:
        model, version = key
        reason = "this block is unlike those before" if blocks else "rows differ from the reference"
        _log.warning(
            "drift_alarm",
            model=model,
            version=str(version),
            reason=f"{reason}: evidence 10^{(watch.block_log_e if blocks else watch.log_e) / _LN10:.1f}",
            hint=f"`taxiway monitor drift {model}` tells which features, and since when",
        )


_PLAIN: Final = ModelDriftSettings()


def _points(own: tuple[str, str], watch: Watch) -> Iterator[Point]:
    yield Point(names.DRIFT_ROWS, own, watch.rows)
    yield Point(names.DRIFT_DROPPED, own, watch.dropped)
    yield from _quality_points(own, watch)
    if watch.reference is None:
        return
    yield Point(names.DRIFT_THRESHOLD, own, watch.plan.log_threshold / _LN10)
    yield Point(names.DRIFT_ALARM, (*own, "rows"), int(bool(watch.alarmed_ns)))
    yield Point(names.DRIFT_ALARM, (*own, "blocks"), int(bool(watch.block_alarmed_ns)))
    yield Point(names.DRIFT_EVIDENCE, (*own, "", "all"), watch.log_e / _LN10)
    yield Point(names.DRIFT_EVIDENCE, (*own, "", "block"), watch.block_log_e / _LN10)
    log_e, now = watch.evidence.log_e, watch.now()
    for place, at in enumerate(sorted(range(len(log_e)), key=lambda one: -log_e[one])):
        feature = watch.reference.features[at]
        if place >= _TOLD:
            yield Point(names.DRIFT_EVIDENCE, (*own, "others", "max"), float(log_e[at]) / _LN10)
            return
        told = (*own, feature.name, feature.side)
        yield Point(names.DRIFT_EVIDENCE, told, float(log_e[at]) / _LN10)
        if now[at].sum():
            sizes = drift_sizes(feature.reference, now[at], feature.order)
            yield Point(names.DRIFT_PSI, told, sizes.psi)
            yield Point(names.DRIFT_JS, told, sizes.js)


def _quality_points(own: tuple[str, str], watch: Watch) -> Iterator[Point]:
    if watch.quality.all.rows:
        told = watch.quality.all.told()
        for bound in ("low", "accuracy", "high"):
            yield Point(names.ACCURACY, (*own, "labels", bound), told[bound])
    estimate = watch.quality.estimate
    if estimate is not None:
        for bound in ("low", "accuracy", "high"):
            yield Point(names.ACCURACY, (*own, "confidence", bound), getattr(estimate, bound))
        yield Point(names.ACCURACY_UNRELIABLE, own, int(watch.is_unlike or estimate.on_thin_ground))
