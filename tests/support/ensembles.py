"""Configurations of ensembles, and model repositories that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Maps = Mapping[str, str]


def step(model: str, inputs: Maps, outputs: Maps, version: int = -1) -> str:
    """One step of ensemble_scheduling."""
    maps = "".join(
        f' {side}_map {{ key: "{name}" value: "{tensor}" }}'
        for side, mapped in (("input", inputs), ("output", outputs))
        for name, tensor in mapped.items()
    )
    return f'step {{ model_name: "{model}" model_version: {version}{maps} }}'


def tensor(side: str, name: str, dims: str = "2", kind: str = "FP32", more: str = "") -> str:
    """A declared input or output."""
    return f'{side} {{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] {more} }}\n'


def graph(*steps: str, declared: str = "", more: str = "") -> str:
    """The text of a config.pbtxt."""
    return f'platform: "ensemble"\n{declared}{more}\nensemble_scheduling {{ {" ".join(steps)} }}\n'


def write(repository: Path, name: str, text: str, version: int = 1) -> Path:
    """An ensemble in its place: its configuration, and an empty directory for its version."""
    directory = repository / name
    (directory / str(version)).mkdir(parents=True, exist_ok=True)
    (directory / "config.pbtxt").write_text(text)
    return directory
