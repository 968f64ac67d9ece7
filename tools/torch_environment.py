"""torch and Hugging Face's libraries in an environment of their own: half a gigabyte that nothing else here needs.

    python -m tools.torch_environment     # make it, then print its Python

Made under `.cache` from requirements/torch.txt, whose versions are pinned.
"""

from __future__ import annotations

from pathlib import Path

from tools.environments import DEFAULT_CACHE, ensure_environment


def ensure_torch(cache: Path = DEFAULT_CACHE) -> Path:
    """The Python that has them, provisioned under `cache` if it is not there yet.

    Raises:
        EnvironmentUnavailable: pip could not install them.
    """
    return ensure_environment("torch", cache=cache)


def main() -> None:
    """Provision and tell where."""
    print(ensure_torch())


if __name__ == "__main__":
    main()
