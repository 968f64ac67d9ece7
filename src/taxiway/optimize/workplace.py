"""Where a run works: a folder that is named by model, data, metric, tools and processor."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from taxiway import __version__
from taxiway.core.tensors import TensorSpec
from taxiway.optimize.cache import Memory, digest_of, digest_of_file, workplace
from taxiway.optimize.data.racing import racing_samples
from taxiway.optimize.data.samples import Samples
from taxiway.optimize.data.splitting import Split
from taxiway.optimize.data.store import write_samples
from taxiway.optimize.graph.preparing import external_files, model_bytes
from taxiway.optimize.outcome import Wanted
from taxiway.optimize.workshop.client import Workshop

RACING: Final = 64
"""Samples that are run for time, at least."""


@contextmanager
def open_workplace(wanted: Wanted, parts: Split, inputs: Sequence[TensorSpec]) -> Iterator[tuple[Path, Memory]]:
    """The folder of this model with these data, samples laid out in it, and who remembers what was asked there."""
    key = digest_of(
        [
            digest_of_file(wanted.model),
            *(digest_of_file(wanted.model.parent / name) for name in external_files(wanted.model)),
            *(b"".join(part.digests()).hex() for part in (parts.calibrating, parts.choosing, parts.proving)),
            *(part.label_digest().hex() for part in (parts.choosing, parts.proving)),
            _metric_key(wanted.metric),
            str(wanted.batch),
            digest_of_file(wanted.workload) if wanted.workload is not None and wanted.workload.is_file() else "",
            *(f"{name}={value}" for name, value in tool_versions().items()),
            _processor(),
            _own_digest(),
        ]
    )
    with workplace(wanted.cache, key, model_bytes(wanted.model)) as folder, Workshop(folder) as workshop:
        for name in ("candidates", "scores"):
            (folder / name).mkdir(exist_ok=True)
        racing = _racing(wanted, parts, inputs)
        for name, part in (*parts_by_name(parts), ("racing", racing)):
            if not (folder / name).is_dir():
                _write_whole(part, folder / name)
        yield folder, Memory(workshop, folder)


def _racing(wanted: Wanted, parts: Split, inputs: Sequence[TensorSpec]) -> Samples:
    if wanted.workload is not None:
        return racing_samples(wanted.workload, inputs)
    return parts.choosing.first(max(RACING, 2 * wanted.batch))


def parts_by_name(parts: Split) -> tuple[tuple[str, Samples], ...]:
    """Their names are those of their folders."""
    return (
        ("calibrating", parts.calibrating),
        ("choosing", parts.choosing),
        ("screening", parts.screening),
        ("proving", parts.proving),
    )


def _write_whole(samples: Samples, folder: Path) -> None:
    """A folder that is there is whole."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    write_samples(samples, beside)
    beside.replace(folder)


def _metric_key(metric: str) -> str:
    """A function is what its file holds; what that imports is not looked at."""
    place = metric.rpartition(":")[0]
    file = Path(place) if place.endswith(".py") else _source_of(place)
    return f"{metric}:{digest_of_file(file)}" if file is not None and file.is_file() else metric


def _source_of(module: str) -> Path | None:
    """Where a module is read from; None: it is none, or no file."""
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def tool_versions() -> dict[str, str]:
    """Of everything that has a part in a result."""
    found = {"taxiway": __version__, "python": platform.python_version()}
    for name in ("onnx", "onnxruntime", "onnxruntime-gpu", "onnxslim", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _own_digest() -> str:
    """What made the results, to the letter: a release's number does not change while it is worked on."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return digest_of([digest_of_file(file) for file in files])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    return f"{platform.machine()} {next((line for line in lines if line.startswith('model name')), '')} {flags}"
