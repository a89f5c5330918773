"""What share of a GPU's peak a denoising model reaches, and how long a replica loads: of others' measurements.

Seconds of a step are StreamWise's (github.com/Azure/realtimevideogen, benchmark/data/flux.csv at commit 408f2491, MIT):
FLUX.1-dev in bfloat16 through diffusers, compiled, on one GPU, 50 steps; the median of the runs. Its operations are
counted here. The share grows a little with the size; that of 1280x720 is taken, which is nearest to what presets draw.
The same folder's hunyuanframepack.csv is not used for it: that model skips steps by a cache. Between GPUs it says the
same: an H100 makes a step 2.5 times as fast as an A100 (PCIe), FLUX 2.1 times (SXM).

Start-ups are the medians of Alibaba's GenTD26 (github.com/alibaba/clusterdata, cluster-trace-v2026-GenAI): 22.72 s for
a base model, 8.45 s for the pipeline around it; 95 of 100 are below 45.5 and 39.5 s.

What leaves VFI is encoded on one core: seconds of a megapixel are those that `python -m stages profile --stages vfi`
took for it where this was written.
"""

from collections.abc import Mapping

STEP_S: Mapping[str, Mapping[tuple[int, int], float]] = {
    "A100": {(1280, 720): 0.4482, (1920, 1072): 1.014},  # seven runs of each
    "H100": {(1280, 720): 0.2092, (1920, 1072): 0.4874},  # one
    "H200": {(1280, 720): 0.1984, (1920, 1072): 0.475},  # three
}
PEAKS: Mapping[str, float] = {"A100": 312.0, "H100": 989.4, "H200": 989.4}  # dense BF16 TFLOP/s of the makers' sheets
BASE_MODEL_S, PIPELINE_S = 22.72, 8.45
ENCODE_S = 0.1  # of a megapixel in H.264
_WIDTH, _BLOCKS, _TEXT = 3072, 57, 512  # of FLUX.1: channels, 19 double and 38 single blocks, tokens of a prompt
_TOKEN_PX = 16 * 16  # pixels of a picture


def flux_step_flops(width: int, height: int) -> float:
    """Operations of one step: twelve squares of the width for each token in each block, and attention between all."""
    tokens = _TEXT + width * height / _TOKEN_PX
    return _BLOCKS * (2 * 12 * _WIDTH**2 * tokens + 4 * _WIDTH * tokens**2)


def reached(accelerator: str) -> float:
    """Share of the peak. For a GPU that nobody has measured, the least of those that were."""
    size = (1280, 720)
    shares = {name: flux_step_flops(*size) / own[size] / (PEAKS[name] * 1e12) for name, own in STEP_S.items()}
    return shares.get(accelerator, min(shares.values()))
