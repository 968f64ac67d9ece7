"""Started by the data plane, by its path: the environment of a model need not have taxiway installed.

It needs numpy and msgspec. Nothing else of the data plane's environment is to be found from here, or a model would
run with libraries that are not its own.
"""

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]


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
    sys.path.pop(0)  # this directory: its modules are not to be found by their bare names
    _lend_taxiway()
    from taxiway.runtimes.hosted.host import main

    main(sys.argv[1:])
