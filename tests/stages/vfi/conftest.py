"""The stage with its committed weights, loaded once."""

from dataclasses import replace

import pytest
import torch

from stages.presets import PRESETS
from stages.vfi import VFI
from stages.vfi.rife import Rife
from stages.vfi.weights import load_rife


@pytest.fixture(scope="session")
def stage() -> VFI:
    """With the GAN, which no preset switches on."""
    return VFI.load(replace(PRESETS["tiny"], gan=True), device="cpu")


@pytest.fixture(scope="session")
def net() -> Rife:
    return load_rife(PRESETS["tiny"].parts["flow"], torch.device("cpu"), torch.float32)
