"""Parameter `fixed_batch` from config.pbtxt to the batching plan: merges stop at the rows of one run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support import onnx_models
from tests.support.engines import NoModels, batcher_of, engine_of

from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.server.models.host import Host
from taxiway.server.models.loading import ModelLoader
from taxiway.server.models.repository import find_models


def test_merges_have_the_fixed_rows_and_nothing_else_is_preferred(tmp_path: Path) -> None:
    directory = tmp_path / "m"
    (directory / "1").mkdir(parents=True)
    onnx_models.doubler(directory / "1" / "model.onnx")
    (directory / "config.pbtxt").write_text(
        "max_batch_size: 32\n"
        "dynamic_batching { preferred_batch_size: [ 16 ] max_queue_delay_microseconds: 100 }\n"
        'parameters { key: "fixed_batch" value { string_value: "4" } }\n'
    )
    loop = asyncio.new_event_loop()
    (found,) = find_models([directory])
    loader = ModelLoader(Settings(), Host(loop, SystemClock(), 1, NoModels()))
    served = loader.load(loader.prepare(found), 1, {})
    plan = batcher_of(served)._plan
    assert (plan.max_rows, plan.merge_rows, plan.preferred_rows) == (32, 4, ())
    engine_of(served).executor.close()
    engine_of(served).model.close()
    loop.close()
