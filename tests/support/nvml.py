"""GPUs that are not there: a library of NVML, compiled from C, that says what a test says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "nvml_stub" / "nvml.c"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to build the stub with")

H100: Mapping[str, object] = {
    "uuid": "GPU-aaaa",
    "name": "NVIDIA H100 80GB HBM3",
    "bus_id": "00000000:07:00.0",
    "utilization": 100,
    "memory_utilization": 12,
    "memory_total": 80 << 30,
    "memory_used": 20 << 30,
    "memory_reserved": 1 << 30,
    "power": 350_500,
    "power_limit": 700_000,
    "energy": 5_000_000_000,
    "temperature": 56,
    "memory_temperature": 61,
    "sm_clock": 1980,
    "memory_clock": 2619,
    "encoder": 0,
    "decoder": 0,
    "replays": 3,
    "rows_corrected": 1,
    "throttle": 0,
    "xids": 0,
    "gpm": 1,
    "gpm1": 99.0,
    "gpm2": 72.5,
    "gpm3": 33.0,
    "gpm5": 41.0,
    "gpm10": 55.0,
    "gpm20": 100.0,
    "gpm21": 200.0,
}
"""What one that is busy says: in NVML's own units."""


@dataclass
class Stub:
    """The library, and what it says."""

    folder: Path
    gpus: list[dict[str, object]] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """For a process that is to find it."""
        return {"LD_LIBRARY_PATH": str(self.folder), "NVML_STUB": str(self.folder / "said")}

    def say(self, **more: object) -> None:
        """From now on it says what `gpus` holds, and this: `lost=1`, `hang=1`, `gpus=3`."""
        lines = {"gpus": len(self.gpus), **more}
        lines |= {f"{at}.{key}": value for at, gpu in enumerate(self.gpus) for key, value in gpu.items()}
        draft = self.folder / "draft"
        draft.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        draft.replace(self.folder / "said")


def build(folder: Path, *gpus: Mapping[str, object]) -> Stub:
    """The library in this directory, saying that there are these GPUs."""
    library = folder / "libnvidia-ml.so.1"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    stub = Stub(folder, [dict(gpu) for gpu in gpus])
    stub.say()
    return stub
