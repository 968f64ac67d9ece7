"""What is done with variants that keep the promise: registered beside their version, or written beside their file."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from taxiway.core.errors import AlreadyExists, InvalidArgument
from taxiway.core.refs import ModelRef
from taxiway.optimize.cache import digest_of_file, no_room
from taxiway.optimize.graph.preparing import external_files
from taxiway.optimize.outcome import Report
from taxiway.optimize.targets import TARGETS
from taxiway.optimize.trials import Fate, Trial
from taxiway.registry import Registry, Variant, Version
from taxiway.registry.nouns import FileEntry, Manifest

MODEL_PLACE = "@/model.onnx"


@dataclass(frozen=True, slots=True)
class Delivered:
    """One variant and where it went: a reference, or a path."""

    name: str
    place: str
    is_new: bool


def worth_keeping(report: Report) -> list[Trial]:
    """Those that keep the promise."""
    return [one for one in report.trials if one.fate in (Fate.KEPT, Fate.RECOMMENDED)]


def model_of(version: Version, directory: Path) -> Path:
    """The ONNX file of a version that was laid out in a directory.

    Raises:
        InvalidArgument: it is not served from one ONNX file.
    """
    path = directory / version.name / str(version.number) / "model.onnx"
    if MODEL_PLACE not in {file.path for file in version.manifest.files} or not path.is_file():
        raise InvalidArgument(
            f"{version.ref} has no {MODEL_PLACE}: only ONNX models can be optimized",
            hint="taxiway import converts tree ensembles and scikit-learn's models; export others to ONNX",
            value=version.ref,
        )
    return path


def register(report: Report, version: Version, registry: Registry, actor: str) -> list[Delivered]:
    """Each kept variant as a sibling of its version, with its recipe and its verdict; what is there already stays."""
    there = {one.variant: one for one in registry.variants(version.name, version.number)}
    told = []
    for trial in worth_keeping(report):
        manifest = _manifest(trial, Path(report.model), version, registry)
        word = _free_word(trial.name, manifest, there)
        ref = ModelRef(version.name, version.number, word)
        is_new = word not in there
        if is_new:
            there[word] = registry.add_variant(ref, manifest, recipe=_recipe(trial, report), actor=actor)
        with suppress(AlreadyExists):  # a run that was killed may have come to the variant, and not to its verdict
            registry.add_lineage(ref, "verdict", report.model_digest, actor=actor, facts=_facts(trial, report))
        told.append(Delivered(trial.name, str(ref), is_new))
    return told


def _free_word(name: str, manifest: Manifest, there: dict[str, Variant]) -> str:
    """The recipe's name; with a number where another file has it, as data or tools were others."""
    word, count = name, 1
    while word in there and there[word].manifest.digest != manifest.digest:
        count += 1
        word = f"{name}.{count}"
    return word


def _manifest(trial: Trial, model: Path, version: Version, registry: Registry) -> Manifest:
    """The version's files with the model exchanged; its external data are inside the new one."""
    inside = {MODEL_PLACE, *(f"@/{name}" for name in external_files(model))}
    kept = [file for file in version.manifest.files if file.path not in inside]
    entry: FileEntry = registry.put_file(Path(trial.path)).at(MODEL_PLACE)
    return Manifest.of([*kept, entry])


def _recipe(trial: Trial, report: Report) -> dict[str, Any]:
    return {
        "recipe": msgspec.to_builtins(trial.recipe),
        "target": trial.target,
        "provider": TARGETS[trial.target].provider,
        "provider_options": report.provider_options.get(trial.target, {}),
        "versions": report.versions,
        "samples": report.samples,
    }


def _facts(trial: Trial, report: Report) -> dict[str, Any]:
    return {
        "metric": report.metric,
        "output": report.output,
        "max_drop": report.max_drop,
        "verdict": msgspec.to_builtins(trial.verdict),
        "speed": trial.speed,
        "batch": report.batch,
        "size": trial.size,
    }


def write_beside(report: Report, folder: Path) -> list[Delivered]:
    """Each kept variant as a file of its own; nothing is written over.

    Raises:
        NoRoom: the disk is full.
        InvalidArgument: the folder cannot be written to.
    """
    told = []
    for trial in worth_keeping(report):
        place, is_new = _free_place(folder / f"{Path(report.model).stem}.{trial.name}.onnx", Path(trial.path))
        if is_new:
            _copy(Path(trial.path), place)
        told.append(Delivered(trial.name, str(place), is_new))
    return told


def _free_place(place: Path, made: Path) -> tuple[Path, bool]:
    """Where a file goes, and whether it is not there yet; with a number where another file has its name."""
    count, tried = 1, place
    while tried.exists():
        if digest_of_file(tried) == digest_of_file(made):
            return tried, False
        count += 1
        tried = place.with_name(f"{place.stem}.{count}.onnx")
    return tried, True


def _copy(made: Path, place: Path) -> None:
    """Whole, or not at all."""
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, beside)
        beside.rename(place)
    except OSError as problem:
        beside.unlink(missing_ok=True)
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(place.parent) from problem
        raise InvalidArgument(
            f"out: {place} cannot be written: {problem.strerror}", hint="name a folder of yours with --out"
        ) from problem
