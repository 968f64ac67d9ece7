"""TorchServe archives with handlers that need nothing but Python."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

ECHO = """
import json


class Echo:
    def initialize(self, context):
        self.directory = context.system_properties["model_dir"]
        self.name = context.model_name

    def handle(self, data, context):
        answers = []
        for index, row in enumerate(data):
            told = {key: type(value).__name__ for key, value in row.items()}
            values = {k: v if isinstance(v, (str, dict, list)) else bytes(v).decode("latin-1") for k, v in row.items()}
            answers.append({
                "rows": len(data),
                "types": told,
                "values": values,
                "header": context.get_request_header(index, "X-Word"),
                "secret": context.get_request_header(index, "Authorization"),
                "id": context.get_request_id(index),
            })
        return answers
"""
"""Answers what it was given, as JSON."""

CHOOSY = """
from ts.utils.util import PredictionException


def handle(data, context):
    if data is None:
        context.ready = True
        return None
    answers = []
    for index, row in enumerate(data):
        word = bytes(row.get("body") or row.get("data")).decode()
        if word == "refuse":
            raise PredictionException("not that word", 422)
        if word == "raise":
            raise ValueError("a bad word")
        if word == "short":
            return []
        if word == "object":
            answers.append(object())
        elif word == "bytes":
            answers.append(b"\\x00\\xff")
        elif word == "teapot":
            context.set_response_status(418, "I'm a teapot", index)
            context.set_response_content_type(index, "text/tea")
            context.set_response_header(index, "X-Leaves", "green\\r\\nX-Evil: 1")
            context.metrics.add_counter("pots", 1)
            answers.append("short and stout")
        else:
            answers.append(f"{word} of {len(data)}")
    return answers
"""
"""Does what the body says; the `_service` form of a handler: a function, asked once with nothing."""


def write_archive(path: Path, code: str, files: Mapping[str, str | bytes] | None = None, **model: str) -> Path:
    """A `.mar` with a handler in handler.py; `model` is what its manifest says of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {"modelName": "echo", "handler": "handler.py", "modelVersion": "1.0", **model}
    manifest = {"createdOn": "26/11/2026 00:00:00", "runtime": "python", "model": named, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("handler.py", code)
        for name, content in (files or {}).items():
            archive.writestr(name, content)
    return path
