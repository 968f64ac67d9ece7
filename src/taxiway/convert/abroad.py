"""Started by its path, under an interpreter of the user's that has torch: lends it taxiway, and converts there.

Nothing else of this environment is to be found from there, or a model would run with libraries that are not its own.
"""

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
NEEDED = ("numpy", "msgspec", "onnx", "onnxruntime")
"""What the environment has to have, beside the framework."""
LACKS = "which has no"
_LEAST_PYTHON = (3, 11)


def _refuse_environment() -> None:
    """End with a line that says what the environment lacks, if it lacks anything."""
    if sys.version_info < _LEAST_PYTHON:
        sys.exit(f"{sys.executable} is Python {sys.version.split()[0]}; 3.11 or later is needed")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        install = f"{sys.executable} -m pip install {' '.join(missing)}"
        sys.exit(f"{sys.executable} was to convert, {LACKS} {' and no '.join(missing)}: {install}")


def _lend_taxiway() -> None:
    """Make the package importable without what is installed beside it."""
    spec = importlib.util.spec_from_file_location(
        "taxiway", _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"taxiway is not at {_PACKAGE}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["taxiway"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:  # not so with python -P
        sys.path.pop(0)  # this directory: its modules are not to be found by their bare names
    _refuse_environment()
    _lend_taxiway()
    from taxiway.convert.__main__ import main

    main()
