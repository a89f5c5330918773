"""Shares of peaks and start-ups are those of the measurements that they name."""

import pytest

from benchmarks.papers.gentd26 import FACTS
from cluster.planner import efficiency
from cluster.planner.efficiency import STEP_S, flux_step_flops, reached
from cluster.planner.profile_command import GPUS


def test_flux_takes_the_operations_of_its_twelve_billion_weights() -> None:
    assert flux_step_flops(1280, 720) == pytest.approx(64.9e12, rel=0.001)
    small = flux_step_flops(16, 16) - flux_step_flops(0, 0)  # one token more, almost without attention
    assert small == pytest.approx(2 * 57 * 12 * 3072**2, rel=0.06)


def test_a_share_is_that_of_the_gpu_or_the_least_known() -> None:
    shares = {name: reached(name) for name in GPUS}
    assert {name: round(share, 2) for name, share in shares.items()} == {
        "H100": 0.31, "A100": 0.46, "H200": 0.33, "L40S": 0.31, "A10G": 0.31
    }  # fmt: skip
    for name, peak in efficiency.PEAKS.items():
        assert GPUS[name].tflops == peak
        sizes = [flux_step_flops(*size) / seconds for size, seconds in STEP_S[name].items()]
        assert sizes == sorted(sizes)  # a larger picture fills a GPU better


def test_start_ups_are_the_traces_medians() -> None:
    found = [FACTS[name]["p50"] for name in ("base_model_update_s", "pipeline_update_s")]
    assert found == [efficiency.BASE_MODEL_S, efficiency.PIPELINE_S]
