"""Every tiny pipeline is built once for the session."""

import pytest

from tests.stages.modern.rig import Shelf


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("pipelines"))
