"""What is refused before anything is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import onnx_models

from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.core.errors import InvalidConfig
from taxiway.server.models.loading import Host, ModelLoader
from taxiway.server.models.manager import ModelManager


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _manager(loop: asyncio.AbstractEventLoop, **settings: Any) -> ModelManager:
    clock = SystemClock()
    return ModelManager(ModelLoader(Settings.model_validate(settings), Host(loop, clock, 2)), clock)


def test_overrides_of_a_model_that_is_not_served_are_refused(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    manager = _manager(loop, models={"overrides": {"frued": {"queue": {"max_rows": 64}}}})
    with pytest.raises(InvalidConfig, match=r"'frued'.*did you mean 'fraud'"):
        manager.load_all([onnx_models.doubler(tmp_path / "fraud.onnx")])
    assert not manager.served
