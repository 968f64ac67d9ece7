"""What tests of several kinds share for a whole run."""

from collections.abc import Iterator

import pytest
from tests.support.postgres import MISSING, Cluster, binaries, cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A real PostgreSQL, stopped at the end."""
    if binaries() is None:
        pytest.skip(MISSING)
    with cluster() as running:
        yield running
