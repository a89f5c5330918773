"""The rigs, built once: one for each form of the appearance encoder."""

import pytest

from tests.stages.parity.rig import Rig, make_rig


@pytest.fixture(scope="session")
def rig() -> Rig:
    """With the global form."""
    return make_rig()


@pytest.fixture(scope="session")
def patch_rig() -> Rig:
    """With the form over patches."""
    return make_rig(by_patches=True)
