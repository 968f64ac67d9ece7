"""One suite for the loading port: what the manager relies on, on a real disk in a thread and on the fake one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import numbered_models
from tests.support.engines import NoModels, batcher_of
from tests.unit.server.models.fakes import FakeFiles, FakeLoading

from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.core.errors import InvalidArgument, InvalidConfig, InvalidModel
from taxiway.server.models.host import Host
from taxiway.server.models.loading import ModelLoader
from taxiway.server.models.loading_thread import Loading, LoadingThread
from taxiway.testing import VirtualClock, VirtualTimeLoop


class RealDisk:
    """A directory, and what is written there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, version: int, content: str) -> None:
        path = numbered_models.version_file(self._root, name, version)
        if content == "broken":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"broken")
        else:
            numbered_models.adder(path, float(content))

    def configure(self, name: str, *, latest: int = 1, broken: bool = False) -> None:
        text = "nonsense" if broken else f"version_policy {{ latest {{ num_versions: {latest} }} }}"
        (self._root / name / "config.pbtxt").write_text(text)

    def file(self, content: str) -> bytes:
        return numbered_models.adder(self._root / ".uploaded", float(content)).read_bytes()

    def loading(self) -> Loading:
        loop = asyncio.get_running_loop()
        settings = Settings.model_validate({"batching": {"measure": False}})
        return LoadingThread(ModelLoader(settings, Host(loop, SystemClock(), 1, NoModels())), [self._root], loop)


class FakeDisk:
    """The same, made up."""

    def __init__(self) -> None:
        self._disk: dict[str, FakeFiles] = {}

    def write(self, name: str, version: int, content: str) -> None:
        self._disk.setdefault(name, FakeFiles()).versions[version] = content

    def configure(self, name: str, *, latest: int = 1, broken: bool = False) -> None:
        self._disk[name].latest = latest
        self._disk[name].config = "broken" if broken else ""

    def file(self, content: str) -> bytes:
        return content.encode()

    def loading(self) -> Loading:
        return FakeLoading(VirtualClock(), self._disk)


Disk = RealDisk | FakeDisk
Run = Callable[[Callable[[Loading], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["real", "fake"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path) if request.param == "real" else FakeDisk()


@pytest.fixture
def run(disk: Disk) -> Iterator[Run]:
    factory = VirtualTimeLoop if isinstance(disk, FakeDisk) else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:

        def run_one(test: Callable[[Loading], Coroutine[Any, Any, None]]) -> None:
            async def main() -> None:
                await test(disk.loading())

            runner.run(main())

        yield run_one


def test_a_look_sees_what_is_there(disk: Disk, run: Run) -> None:
    disk.write("m", 1, "1")
    disk.write("m", 3, "3")

    async def test(loading: Loading) -> None:
        look = await loading.look()
        assert sorted(look.models) == ["m"]
        assert sorted(look.models["m"].versions) == [1, 3]
        assert not look.problems
        stamps = await loading.stamp(list(look.models.values()))
        assert sorted(stamps["m"].versions) == [1, 3]
        assert await loading.stamp(list(look.models.values())) == stamps
        disk.write("m", 3, "4000")
        after = await loading.stamp(list(look.models.values()))
        assert after["m"] != stamps["m"]
        assert after["m"].versions[1] == stamps["m"].versions[1]

    run(test)


def test_the_configuration_chooses_the_versions(disk: Disk, run: Run) -> None:
    for version in (1, 2, 3):
        disk.write("m", version, str(version))

    async def test(loading: Loading) -> None:
        found = (await loading.look()).models["m"]
        assert list((await loading.prepare(found)).versions) == [3]
        disk.configure("m", latest=2)
        found = (await loading.look()).models["m"]
        prepared = await loading.prepare(found)
        assert list(prepared.versions) == [2, 3]
        assert prepared.nbytes == sum(print_.nbytes for print_ in prepared.versions.values()) > 0

    run(test)


def test_what_did_not_change_has_the_same_fingerprint(disk: Disk, run: Run) -> None:
    disk.write("m", 1, "1")
    disk.write("m", 2, "2")

    async def test(loading: Loading) -> None:
        disk.configure("m", latest=2)
        before = (await loading.prepare((await loading.look()).models["m"])).versions
        disk.write("m", 2, "5000")
        after = (await loading.prepare((await loading.look()).models["m"])).versions
        assert after[1] == before[1]
        assert after[2] != before[2]
        given = (await loading.look()).models["m"].with_config('{"max_batch_size": 3}')
        assert (await loading.prepare(given)).versions[2] != after[2]

    run(test)


def test_a_loaded_version_is_closed_once(disk: Disk, run: Run) -> None:
    disk.write("m", 7, "7")

    async def test(loading: Loading) -> None:
        prepared = await loading.prepare((await loading.look()).models["m"])
        served = await loading.load(prepared, 7, {})
        assert (served.name, served.version) == ("m", 7)
        assert served.front is batcher_of(served)
        await batcher_of(served).settle()
        await loading.close(served)

    run(test)


def test_what_is_broken_is_refused(disk: Disk, run: Run) -> None:
    disk.write("m", 1, "broken")

    async def test(loading: Loading) -> None:
        found = (await loading.look()).models["m"]
        prepared = await loading.prepare(found)
        with pytest.raises(InvalidModel):
            await loading.load(prepared, 1, {})
        disk.configure("m", broken=True)
        with pytest.raises(InvalidConfig):
            await loading.prepare((await loading.look()).models["m"])

    run(test)


def test_an_upload_is_a_model_until_it_is_discarded(disk: Disk, run: Run) -> None:
    async def test(loading: Loading) -> None:
        found = await loading.upload("m", "{}", {"4/model.onnx": disk.file("4")})
        served = await loading.load(await loading.prepare(found), 4, {})
        assert (served.name, served.version) == ("m", 4)
        await loading.close(served)
        assert found.upload is not None
        await loading.discard(found)
        assert not found.upload.exists()
        with pytest.raises(InvalidArgument):
            await loading.upload("m", "{}", {"../4/model.onnx": b""})

    run(test)


def test_discarding_what_was_not_uploaded_removes_nothing(disk: Disk, run: Run) -> None:
    disk.write("m", 1, "1")

    async def test(loading: Loading) -> None:
        found = (await loading.look()).models["m"]
        await loading.discard(found)
        await loading.load(await loading.prepare(found), 1, {})

    run(test)
