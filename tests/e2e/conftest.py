"""One server for the session: the real application on a real Ray, its stages replayed, everything else as served."""

from collections.abc import Iterator

import pytest

from tests.e2e.rig import Rig


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig(tmp_path_factory.mktemp("data")) as running:
        yield running
