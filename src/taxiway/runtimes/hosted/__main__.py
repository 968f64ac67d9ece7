"""Started by the data plane, by its path: the environment of a model need not have taxiway installed.

It needs numpy and msgspec. Nothing else of the data plane's environment is to be found from here, or a model would
run with libraries that are not its own.
"""

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
_NEEDED = ("numpy", "msgspec")
_LEAST_PYTHON = (3, 11)


def _refuse_environment() -> None:
    """End with a line that says what the environment of the model lacks, if it lacks anything."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if sys.version_info < _LEAST_PYTHON:
        sys.exit(f"{sys.executable} is Python {sys.version.split()[0]}; a model's must be 3.11 or later")
    if missing:
        install = f"{sys.executable} -m pip install {' '.join(missing)}"
        sys.exit(f"{sys.executable} has no {' and no '.join(missing)}, which a model needs there: {install}")


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
    from taxiway.runtimes.hosted.host import main

    main(sys.argv[1:])
