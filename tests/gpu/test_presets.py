"""Every preset at its full size on a CUDA device, with random weights: what it takes, and that nothing overflows.

make test-gpu          # these tests with the table of what each stage took, under ten minutes on an H100 or H200
"""

from pathlib import Path

import pytest
import torch

from stages.presets import PRESETS, Preset
from tests.gpu.whole import Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("preset", [own for own in PRESETS.values() if own.name != "tiny"], ids=lambda own: own.name)
def test_one_video_of_the_default_size(preset: Preset, tmp_path: Path) -> None:
    free, _ = torch.cuda.mem_get_info()
    trial = Trial(preset, "cuda", tmp_path, free)
    try:
        trial.run()
    finally:
        for stage, own in trial.taken.items():
            print(
                f"{preset.name} {stage}: {own.seconds:.1f} s, {own.said.flops / 1e12 / own.seconds:.0f} TFLOP/s; "
                f"{own.peak_gib:.1f} GiB, said {own.said_gib:.1f} (offload {own.offload!r})"
            )
    for stage, own in trial.taken.items():
        assert own.peak_gib <= own.said_gib + 1, stage  # the GiB that a plan allows beside
