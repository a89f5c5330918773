"""What is published of today's models, built on the meta device: as many parameters as their authors count."""

from collections.abc import Mapping
from functools import partial

import diffusers
import pytest
import torch
from torch import nn

from stages.model.hub.rehearsal import sketch_pipeline
from stages.model.hub.upscaling import small_size
from stages.model.hub.video import HubAnimator, HubRedrawer, _animator_class, _redrawer_class
from stages.model.sampling.windows import plan_windows
from stages.presets import KANDINSKY_6, LTX_2, MODERN, Preset

pytestmark = pytest.mark.slow  # together they take half a minute

# Of the published files; where no more than three digits are said of them, half of the last one may differ.
COUNTS: list[tuple[Preset, str, str, Mapping[str, float]]] = [
    (MODERN, "t2i", "ZImagePipeline", {"vae": 83.8e6, "text_encoder": 4022.5e6, "transformer": 6154.9e6}),
    (MODERN, "i2v_pipeline", "WanImageToVideoPipeline", {
        "vae": 126.9e6, "text_encoder": 5680.9e6, "transformer": 14288.9e6, "transformer_2": 14288.9e6,
    }),
    (MODERN, "v2v_pipeline", "WanVideoToVideoPipeline", {
        "vae": 126.9e6, "text_encoder": 5680.9e6, "transformer": 1419.0e6,
    }),
    (KANDINSKY_6, "i2v_pipeline", "Kandinsky6TI2VAPipeline", {
        "transformer": 3_177_988_112, "text_encoder": 8_292_166_656,
    }),
    (KANDINSKY_6, "v2v_pipeline", "Kandinsky6SRPipeline", {
        "transformer": 1_414_263_936, "vae": 1.74e9, "latent_upscaler": 3.65e9,
    }),
    (LTX_2, "i2v_pipeline", "LTX2ImageToVideoPipeline", {"text_encoder": 12_187_325_040}),
]  # fmt: skip


def counts(preset: Preset, part: str, kind: str) -> dict[str, int]:
    components = sketch_pipeline(preset, part, lambda _: getattr(diffusers, kind)).components
    modules = {name: module for name, module in components.items() if isinstance(module, nn.Module)}
    wide = {name for name, module in modules.items() if {t.dtype for t in module.parameters()} == {torch.float32}}
    assert wide == ({"vae"} if preset is MODERN and part != "t2i" else set())
    return {name: sum(tensor.numel() for tensor in module.parameters()) for name, module in modules.items()}


@pytest.mark.parametrize(("preset", "part", "kind", "published"), COUNTS, ids=[case[2] for case in COUNTS])
def test_a_network_has_as_many_parameters_as_published(
    preset: Preset, part: str, kind: str, published: Mapping[str, float]
) -> None:
    found = counts(preset, part, kind)
    assert {name: found[name] for name in published} == {
        name: pytest.approx(count, rel=1e-3, abs=5e6 if count % 1e7 == 0 else None) for name, count in published.items()
    }


@pytest.mark.parametrize("preset", [MODERN, KANDINSKY_6, LTX_2], ids=lambda preset: preset.name)
def test_the_published_models_make_what_the_preset_promises(preset: Preset) -> None:
    animator = HubAnimator(sketch_pipeline(preset, "i2v_pipeline", partial(_animator_class, preset)))
    redrawer = HubRedrawer(sketch_pipeline(preset, "v2v_pipeline", partial(_redrawer_class, preset)))
    for sizes in preset.sizes.values():
        assert animator.size_rule.allows(sizes.i2v)
        assert redrawer.size_rule.allows(sizes.v2v)
        if redrawer.upscales:
            assert small_size(redrawer.runner.pipeline, redrawer.who, sizes.v2v, sizes.i2v) == (2, sizes.i2v)
    for frames in preset.keyframes.values():
        assert animator.frame_rule.allows(frames)
        for span in plan_windows(frames, preset.v2v_windows):
            assert redrawer.widen(span, frames)


def test_ltx_2_is_as_large_as_its_one_file_of_half_precision() -> None:
    """It holds all but the language model, and a header: 43,333,932,124 bytes."""
    found = counts(LTX_2, "i2v_pipeline", "LTX2ImageToVideoPipeline")
    assert 2 * (sum(found.values()) - found["text_encoder"]) == pytest.approx(43_333_932_124, rel=2e-3)
