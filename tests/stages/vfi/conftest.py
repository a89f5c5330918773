"""The stage with its committed weights, loaded once."""

import pytest
import torch

from stages.presets import PRESETS
from stages.vfi import VFI
from stages.vfi.rife import Rife
from stages.vfi.weights import load_rife


@pytest.fixture(scope="session")
def stage() -> VFI:
    return VFI.load(PRESETS["tiny"], device="cpu")


@pytest.fixture(scope="session")
def net() -> Rife:
    return load_rife(PRESETS["tiny"].parts["flow"], torch.device("cpu"), torch.float32)
