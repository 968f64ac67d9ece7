"""KServe's Python SDK in an environment of its own: its pins are not ours, and its messages have tritonclient's names.

    python -m tools.kserve_environment     # make it, then print its Python

Made under `.cache` from requirements/kserve.txt, which pins every package with hashes.
"""

from __future__ import annotations

from pathlib import Path

from tools.environments import DEFAULT_CACHE, ensure_environment


def ensure_kserve(cache: Path = DEFAULT_CACHE) -> Path:
    """The Python that has KServe's SDK, provisioned under `cache` if it is not there yet.

    Raises:
        EnvironmentUnavailable: pip could not install it.
    """
    return ensure_environment("kserve", "--require-hashes", cache=cache)


def main() -> None:
    """Provision and tell where."""
    print(ensure_kserve())


if __name__ == "__main__":
    main()
