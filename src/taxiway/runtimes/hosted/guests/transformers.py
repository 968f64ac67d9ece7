"""Hugging Face directories: `config.json`, weights in safetensors, the tokenizer's files. Nothing is fetched.

One input `text`, BYTES; the outputs are the task's (pipelines.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

from taxiway.runtimes.hosted.pipelines import Directory, Task, open_task
from taxiway.runtimes.hosted.torch_tensors import device_of, set_threads


class TextModel:
    """A task that is asked with arrays."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.inputs: Sequence[Declared] | None = (Declared("text", "BYTES", (-1, 1)),)
        self.outputs: Sequence[Declared] | None = task.outputs
        self.batches = True

    def predict(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:  # noqa: ARG002 - a task gives all or none
        """What the task makes of these texts."""
        return self._task.answer([text.decode() for text in inputs["text"].reshape(-1).tolist()])


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the model for its task."""
    set_threads(source.options)
    directory = Directory(source.file.parent, source.trusted)
    return ArrayGuest(TextModel(open_task(directory, source.options, device_of(source))), lines)
