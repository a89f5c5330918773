"""The rigs, built once: one for each form of the appearance encoder."""

import pytest

from tests.stages.parity.rig import Rig, make_rig


@pytest.fixture(scope="session")
def rig() -> Rig:
    """With the global form."""
    return make_rig()


@pytest.fixture(scope="session", params=["global", "patches"])
def either_rig(request: pytest.FixtureRequest) -> Rig:
    """With each form."""
    return make_rig(by_patches=request.param == "patches")
