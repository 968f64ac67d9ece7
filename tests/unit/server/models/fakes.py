"""A disk and a loading port in virtual time, for tests of the manager; `tests/contract` holds the port to its word."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.unit.server.batching.fakes import MS, FakeExecutor

from taxiway.config.ensemble_tensors import Peers
from taxiway.config.model_config import new_config
from taxiway.config.model_spec import ModelSpec, VersionPolicy
from taxiway.core.errors import InvalidArgument, InvalidConfig, InvalidModel
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.batching.loop import Batcher
from taxiway.server.batching.plan import BatchingPlan
from taxiway.server.models.engine import ModelEngine
from taxiway.server.models.fingerprint import Fingerprint, Stamps
from taxiway.server.models.loading import Prepared
from taxiway.server.models.repository import FoundModel, Look
from taxiway.server.models.served import ServedModel
from taxiway.server.statistics import ModelStatistics
from taxiway.server.tracing.gates import TraceGate
from taxiway.stats.latency import LatencyCurve
from taxiway.testing import VirtualClock

BROKEN = "broken"


@dataclass
class FakeFiles:
    """A model's directory: the content of each version's file, its size, and what its configuration says.

    A content that begins with "broken" cannot be loaded; so cannot a model whose configuration does.
    """

    versions: dict[int, str] = field(default_factory=dict)
    config: str = ""
    latest: int = 1
    nbytes: int = 100

    def stamps(self, number: int) -> tuple[tuple[str, int, int], ...]:
        content = self.versions[number]
        return ((content, self.nbytes, hash(content)),)


class FakeModel:
    """Answers nothing; knows whether it is open."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.open = True
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        return [np.zeros(1)]

    def close(self) -> None:
        assert self.open, "closed twice"
        self.open = False


class FakeLoading:
    """The loading port over `disk`; a load takes `load_s` of virtual time, everything else none."""

    def __init__(self, clock: VirtualClock, disk: dict[str, FakeFiles]) -> None:
        self.disk = disk
        self.load_s = 1.0
        self.run_ns = 10 * MS
        self.loads: list[str] = []
        self.closed: list[str] = []
        self.uploads: set[str] = set()
        self.missing: list[Path] = []
        self.models: list[FakeModel] = []
        self._clock = clock
        self._uploaded: dict[Path, FakeFiles] = {}
        self._turn = asyncio.Lock()

    async def look(self) -> Look:
        found = {name: _found(name, files) for name, files in sorted(self.disk.items())}
        return Look(found, [], [] if found else [Path("disk")], self.missing, [])

    async def stamp(self, models: Sequence[FoundModel]) -> dict[str, Stamps]:
        return {
            found.name: Stamps((files.config, 0, 0), (), {number: files.stamps(number) for number in files.versions})
            for found in models
            if (files := self.disk.get(found.name)) is not None
        }

    async def upload(self, name: str, config: str, files: Mapping[str, bytes]) -> FoundModel:
        if any(".." in path for path in files):
            raise InvalidArgument("leads elsewhere")
        root = Path(f"upload-{len(self._uploaded)}")
        versions = {int(path.split("/")[0]): content.decode() for path, content in files.items()}
        self._uploaded[root] = FakeFiles(versions, config)
        self.uploads.add(str(root))
        found = FoundModel(name, root / name, None, {number: root / str(number) for number in versions})
        return FoundModel(**{**_members(found.with_config(config)), "upload": root})

    async def discard(self, found: FoundModel) -> None:
        self.uploads.discard(str(found.upload))

    async def prepare(self, found: FoundModel) -> Prepared:
        files = self.disk[found.name] if found.upload is None else self._uploaded[found.upload]
        config = files.config if found.given is None else found.given
        if config.startswith(BROKEN):
            raise InvalidConfig(f"the configuration of {found.name} is broken")
        chosen = sorted(files.versions)[-files.latest :]
        if not chosen:
            raise InvalidModel(f"model {found.name!r} has no version")
        versions = {number: Fingerprint(files.stamps(number), (), config.encode()) for number in chosen}
        return Prepared(found, new_config(), versions)

    async def load(self, prepared: Prepared, version: int, peers: Peers) -> ServedModel:
        async with self._turn:  # one thread
            await asyncio.sleep(self.load_s)
        (content, *_), *_ = prepared.versions[version].files
        name = prepared.found.name
        self.loads.append(f"{name}:{version}")
        if content.startswith(BROKEN):
            raise InvalidModel(f"{name}:{version} is broken")
        return self._serve(name, version, content)

    async def close(self, served: ServedModel) -> None:
        served.engine.close()
        self.closed.append(f"{served.name}:{served.version}")

    def _serve(self, name: str, version: int, content: str) -> ServedModel:
        loop = asyncio.get_running_loop()
        executor = FakeExecutor(loop, self._clock)
        executor.run_ns = lambda _: self.run_ns
        model = FakeModel(content)
        self.models.append(model)
        statistics = ModelStatistics(name, str(version), self._clock)
        plan = BatchingPlan(max_rows=8, merge_rows=1)
        batcher = Batcher(plan, executor, self._clock, loop, LatencyCurve([]), statistics)
        spec = _spec(name)
        traces = TraceGate(spec, version)
        return ServedModel(
            spec, {}, version, ModelEngine(batcher, executor, model), statistics, batcher, traces, batcher.run_alone
        )


def _found(name: str, files: FakeFiles) -> FoundModel:
    folder = Path("disk", name)
    return FoundModel(
        name, folder, folder / "config.pbtxt", {number: folder / str(number) for number in files.versions}
    )


def _members(found: FoundModel) -> dict[str, Any]:
    return {name: getattr(found, name) for name in FoundModel.__dataclass_fields__}


def _spec(name: str) -> ModelSpec:
    row = TensorSpec("x", Datatype.FP32, (1,))
    return ModelSpec(
        name=name,
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        inputs=(row,),
        outputs=(row,),
        max_batch_size=8,
        dynamic_batching=None,
        instance_count=1,
        version_policy=VersionPolicy(latest=1),
        default_model_filename="",
        reshapes=MappingProxyType({}),
        parameters=MappingProxyType({}),
        warmup=(),
        decoupled=False,
        response_cache=False,
        ignored=(),
    )
