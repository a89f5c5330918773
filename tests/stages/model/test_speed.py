"""What makes denoising faster: exact savings lose nothing, reuse loses little, and no request sees another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import accelerate
import numpy as np
import pytest
import torch
from torch import Tensor

from stages.base import Cancelled, InputError, Report, ignore_progress
from stages.model.network.appearance import Appearance, split_adapter
from stages.model.network.control import PlainControl, SparseControl, SparseHint, prepare_hints
from stages.model.network.fast import can_run
from stages.model.network.layers import Frames
from stages.model.network.memory import Memory, can_remember
from stages.model.network.network import VideoNetwork, inflate
from stages.model.network.reuse import is_full
from stages.model.network.text import TextEncoder
from stages.model.sampling.denoise import Conditions, condition, denoise, predict
from stages.model.sampling.sampler import build_scheduler
from stages.model.sampling.windows import Span
from stages.presets import PAPER, Control
from tests.stages import random_parts as parts

ROUNDING = 2e-5
SIZE = (48, 40)
PLAIN, SPARSE = Control("plain"), Control("sparse", kind="sparse")


@pytest.fixture(scope="module")
def network() -> VideoNetwork:
    torch.manual_seed(0)
    spatial, vae = parts.make_unet().eval(), parts.make_vae().eval()
    unet = inflate(spatial, parts.make_motion())
    appearance = Appearance(parts.make_image_encoder().eval(), split_adapter(parts.global_adapter()))
    appearance.install(unet)
    return VideoNetwork(
        unet=unet.eval().requires_grad_(False),
        vae=vae,
        text=TextEncoder(parts.make_tokenizer(), parts.make_text().eval()),
        appearance=appearance,
        controls={
            "plain": PlainControl(parts.make_control(spatial).eval().requires_grad_(False)),
            "sparse": SparseControl(parts.make_sparse().eval().requires_grad_(False), vae),
        },
        max_frames=32,
    )


def guide(
    network: VideoNetwork, *controls: Control, frames: int = 4, prompt: str = "a fox", guidance: float = 5.0
) -> Conditions:
    picture = np.random.default_rng(1).integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    given = condition(network, ("blur", prompt), picture, SIZE, guidance=guidance, image_scale=0.7)
    return replace(given, hints=prepare_hints(network.controls, controls, {"reference": picture[None]}, SIZE, frames))


def noise(frames: int = 4, seed: int = 7) -> Tensor:
    return torch.randn((1, 4, frames, 5, 6), generator=torch.Generator().manual_seed(seed))


def run(
    network: VideoNetwork,
    given: Conditions,
    start: Tensor,
    *,
    steps: int = 5,
    reuse_every: int = 1,
    spans: tuple[Span, ...] = (),
    report: Report = ignore_progress,
) -> Tensor:
    scheduler = build_scheduler(PAPER.i2v)
    scheduler.set_timesteps(steps)
    return denoise(network, start, scheduler, scheduler.timesteps, given, report, spans=spans, reuse_every=reuse_every)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def ask(network: VideoNetwork, given: Conditions, latents: Tensor) -> tuple[Tensor, Tensor]:
    """One step by the fast path, and by the modules' own `forward`; the copies of guidance are merged."""
    assert can_remember(network.unet, given.hints, 1)
    memory = Memory(
        network.unet, given.speaking(), [given.hints], [given.planes],
        copies=given.copies, motion=given.motion, steps=1, reuse_every=1,
    )  # fmt: skip
    with torch.no_grad():
        said = memory.run(0, 0, latents, torch.tensor(500))
        if given.copies == 2:
            without, with_text = said.chunk(2)
            said = without + given.guidance * (with_text - without)
        return said, predict(network, latents, torch.tensor(500), given)


@pytest.mark.parametrize("controls", [(), (PLAIN,), (SPARSE,), (PLAIN, SPARSE)], ids=len)
@pytest.mark.parametrize("change", [{}, {"guidance": 1.0}, {"motion": False}], ids=str)
@pytest.mark.parametrize("frames", [1, 4])
def test_a_step_says_what_the_modules_say(
    network: VideoNetwork, controls: tuple[Control, ...], change: dict[str, float], frames: int
) -> None:
    given = replace(guide(network, *controls, frames=frames), **change)  # type: ignore[arg-type]
    assert apart(*ask(network, given, noise(frames))) < ROUNDING


def test_chunks_change_nothing(network: VideoNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    given = guide(network, PLAIN)
    whole, _ = ask(network, given, noise())
    monkeypatch.setattr("stages.model.network.layers.CHUNK_VALUES", 500)
    monkeypatch.setattr("stages.model.network.layers.FEED_VALUES", 300)
    monkeypatch.setattr("stages.model.network.layers.FEED_ROWS", 10)
    cut, theirs = ask(network, given, noise())
    assert apart(cut, whole) < ROUNDING
    assert apart(cut, theirs) < ROUNDING


@contextmanager
def by_modules(network: VideoNetwork) -> Iterator[None]:
    """With a hook as offloading sets them, which makes the loop use the modules' own `forward`."""
    layer = network.unet.mid_block.resnets[0].conv1
    accelerate.hooks.add_hook_to_module(layer, accelerate.hooks.ModelHook())
    try:
        yield
    finally:
        accelerate.hooks.remove_hook_from_module(layer)


def count(module: torch.nn.Module, counted: list[int]) -> Callable[[], None]:
    """Notes how many rows `module` is given at every call, until the returned function is called."""
    handle = module.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    return handle.remove


def test_the_work_is_done_once(network: VideoNetwork) -> None:
    """Keys of the text once a request for two texts, the start once for both halves, blank frames once."""
    given, keys, starts, blanks = guide(network, SPARSE), list[int](), list[int](), list[int]()
    attention = network.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    sparse = network.controls["sparse"].model
    undo = [count(attention.to_k, keys), count(network.unet.conv_in, starts), count(sparse.conv_in, blanks)]
    run(network, given, noise(), steps=3)
    for each in undo:
        each()
    assert keys == [2]
    assert starts == [4, 4, 4]
    assert blanks == [2, 2, 2]


def test_windows_with_equal_conditions_share_sparse_residuals(network: VideoNetwork) -> None:
    given, calls = guide(network, SPARSE, frames=12), list[int]()
    spans = tuple(Span(start, start + 4) for start in (0, 3, 6, 8))
    undo = count(network.controls["sparse"].model.conv_in, calls)
    shared = run(network, given, noise(12), steps=1, spans=spans)
    undo()
    assert len(calls) == 2  # the window with the picture, and one for all others
    with by_modules(network):
        alone = run(network, given, noise(12), steps=1, spans=spans)
    assert apart(shared, alone) < ROUNDING


def test_sparse_hints_are_equal_only_where_their_conditions_are(network: VideoNetwork) -> None:
    (hint,) = guide(network, SPARSE, frames=12).hints
    assert isinstance(hint, SparseHint)
    first, second, third, longer = (hint.cut(*ends) for ends in ((0, 4), (4, 8), (8, 12), (4, 12)))
    assert second.equals(third)
    assert not second.equals(first)
    assert not second.equals(longer)
    assert not second.equals(replace(third, scale=0.5))  # type: ignore[type-var]


def test_frames_that_stand_once_become_all_frames() -> None:
    states = torch.arange(4.0).view(4, 1, 1, 1)  # two requests of two different frames
    frames = Frames(states, 1, (0, 1, 1))
    assert frames.every().states.flatten().tolist() == [0, 1, 1, 2, 3, 3]
    assert frames.apart(2).every().states.flatten().tolist() == [0, 1, 1, 2, 3, 3] * 2
    assert (frames + frames.every()).states.flatten().tolist() == [0, 2, 2, 4, 6, 6]


@pytest.mark.parametrize(("every", "full"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3, 4]), (9, [0, 4])])
def test_the_first_and_the_last_step_are_full(every: int, full: list[int]) -> None:
    assert [step for step in range(5) if is_full(step, 5, every)] == full


@pytest.mark.parametrize("controls", [(), (PLAIN,), (SPARSE,)], ids=len)
def test_reuse_changes_a_little(network: VideoNetwork, controls: tuple[Control, ...]) -> None:
    given = guide(network, *controls, guidance=1.5)
    exact, reused = (run(network, given, noise(), steps=8, reuse_every=every) for every in (1, 2))
    assert not torch.equal(exact, reused)
    assert float((exact - reused).norm() / exact.norm()) < 0.2


def test_reuse_skips_the_deep_layers_and_the_controls(network: VideoNetwork) -> None:
    given, deep, control = guide(network, PLAIN), list[int](), list[int]()
    undo = [
        count(network.unet.mid_block.resnets[0], deep),
        count(network.controls["plain"].model.conv_in, control),
    ]
    run(network, given, noise(), steps=6, reuse_every=3)
    for each in undo:
        each()
    assert len(deep) == len(control) == 3  # steps 0, 3 and 5


def test_no_request_or_window_reuses_another_s_features(network: VideoNetwork) -> None:
    one, other = guide(network, PLAIN), guide(network, PLAIN, prompt="a house by the sea")
    alone = [run(network, given, noise(seed=seed), reuse_every=2) for given, seed in ((one, 1), (other, 2))]
    again = run(network, one, noise(seed=1), reuse_every=2)
    assert torch.equal(alone[0], again)
    assert not torch.equal(alone[0], alone[1])
    given, spans = guide(network, PLAIN, frames=8), (Span(0, 4), Span(4, 8))
    joined = run(network, given, noise(8), reuse_every=2, spans=spans)
    for span in spans:  # without overlap each window is what it is alone
        cut = run(network, given.cut(span), noise(8)[:, :, span.start : span.stop], reuse_every=2)
        assert torch.equal(joined[:, :, span.start : span.stop], cut)


def test_reuse_works_without_motion(network: VideoNetwork) -> None:
    given = replace(guide(network, PLAIN), motion=False)
    together = run(network, given, noise(), reuse_every=2)
    alone = run(network, given.cut(Span(1, 3)), noise()[:, :, 1:3], reuse_every=2)
    assert apart(together[:, :, 1:3], alone) < 1e-4  # frames know nothing of each other


@pytest.mark.parametrize("reuse_every", [1, 2])
def test_every_step_reports_and_may_stop(network: VideoNetwork, reuse_every: int) -> None:
    seen: list[tuple[int, int]] = []

    def report(step: int, total: int) -> None:
        seen.append((step, total))
        if step == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(network, guide(network, PLAIN), noise(), reuse_every=reuse_every, report=report)
    assert seen == [(0, 5), (1, 5), (2, 5), (3, 5)]


def test_a_network_with_hooks_runs_by_its_own_forward_and_refuses_reuse(network: VideoNetwork) -> None:
    given = guide(network)
    plain = run(network, given, noise(), steps=2)
    with by_modules(network):
        assert not can_run(network.unet)
        assert apart(run(network, given, noise(), steps=2), plain) < ROUNDING
        with pytest.raises(InputError, match="reuse_every is 2"):
            run(network, given, noise(), reuse_every=2)
    assert can_run(network.unet)


def test_a_count_below_one_is_refused(network: VideoNetwork) -> None:
    with pytest.raises(InputError, match="reuse_every is 0"):
        run(network, guide(network), noise(), reuse_every=0)
