"""I2V and V2V hold their spatial layers once: unique bytes counted, and the outputs stay what they were."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.local.pipeline import LocalPipeline
from stages.model.network.network import inflate, is_temporal, largest_difference, share_spatial
from tests.stages import random_parts as parts


def unique_bytes(*networks: Any) -> int:
    """Of all weights, each storage counted once."""
    storages = {tensor.data_ptr(): tensor.nbytes for network in networks for tensor in network.state_dict().values()}
    return sum(storages.values())


def spatial_bytes(network: Any) -> int:
    return sum(tensor.nbytes for name, tensor in network.state_dict().items() if not is_temporal(name))


def test_sharing_changes_no_output_and_saves_the_backbone() -> None:
    torch.manual_seed(0)
    spatial = parts.make_unet()
    one, other = (inflate(spatial, parts.make_motion()).eval() for _ in range(2))
    inputs = (torch.randn(1, 4, 2, 5, 5), 10, torch.randn(2, 7, parts.TEXT))
    with torch.no_grad():
        before = other(*inputs).sample
        apart = unique_bytes(one, other)
        assert largest_difference(one, other) == 0
        saved = share_spatial(other, one)
        after = other(*inputs).sample
    assert torch.equal(before, after)
    assert saved == spatial_bytes(one)
    assert unique_bytes(one, other) == apart - saved
    assert not torch.equal(one(*inputs).sample, after)  # their motion modules are still two


def test_networks_that_differ_are_seen_to_differ() -> None:
    torch.manual_seed(0)
    one = inflate(parts.make_unet(), parts.make_motion())
    other = copy.deepcopy(one)
    with torch.no_grad():
        other.conv_in.weight[0, 0, 0, 0] += 0.5
    assert largest_difference(one, other) == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("share", [True, False])
def test_the_preset_decides(tmp_path: Path, share: bool) -> None:
    pipeline = LocalPipeline.load(replace(parts.paper_like(tmp_path), share_spatial=share))
    one, other = pipeline.i2v.network.unet, pipeline.v2v.network.unet
    once = unique_bytes(one) + unique_bytes(other) - unique_bytes(one, other)
    assert once == (spatial_bytes(one) if share else 0)
