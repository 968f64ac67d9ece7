"""Loading a model's own Python file, under a name of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from taxiway.core.errors import InvalidModel


def load_code(path: Path, name: str) -> ModuleType:
    """The module in the file; what lies beside it can be imported by it.

    Raises:
        InvalidModel: there is no such file.
    """
    if not path.is_file():
        raise InvalidModel(
            f"{path} is not a file", hint="put the model's Python file there, or set default_model_filename"
        )
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidModel(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
