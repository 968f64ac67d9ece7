"""docs/configuration.md is what the settings say."""

from __future__ import annotations

import re

import yaml
from tools.config_docs import PAGE, render

from taxiway.config.loader import load_settings
from taxiway.config.sources import leaves


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m tools.config_docs`"


def test_every_setting_is_on_the_page() -> None:
    assert re.findall(r"^\| `([\w.]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == sorted(
        (leaf.path for leaf in leaves()), key=lambda path: "." in path
    )


def test_the_example_loads() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    flags = {f"{section}.{key}": v for section, keys in yaml.safe_load(example).items() for key, v in keys.items()}
    assert load_settings(None, {}, flags).for_model("resnet").batching.max_batch_size == 32
