"""A preset around tiny pipelines of today, and what the tests of them share."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from stages.presets import PAPER, Denoising, Guide, Part, Preset, Prior, Sizes, Windows
from stages.types import Clip, Image, Keyframes, UInt8
from tests.stages.modern import tiny, tiny_more

OWN = Denoising("own", steps=3, guidance=4.0)
NO_GUIDE = Guide(image_scale=0.0, controls=())


def modern_preset(
    parts: dict[str, str], *, size: tuple[int, int] = (32, 32), frames: int = 9, windows: Windows | None = None
) -> Preset:
    """Every stage works at `size`; V2V's strength 0.5 of 4 steps leaves two."""
    return replace(
        PAPER,
        name="test",
        dtype="float32",
        parts=MappingProxyType(
            {**{name: Part(source, "test") for name, source in parts.items()}, "flow": PAPER.parts["flow"]}
        ),
        sizes=MappingProxyType({f"{size[0]}x{size[1]}": Sizes(size, size, size)}),
        keyframes=MappingProxyType({"1": frames}),
        t2i=OWN,
        i2v=OWN,
        v2v=replace(OWN, steps=4),
        prior=Prior(0.0, 0.0, 0.0),
        i2v_guide=NO_GUIDE,
        v2v_guide=NO_GUIDE,
        strength=0.5,
        i2v_windows=Windows(81, 0),
        v2v_windows=windows or Windows(81, 8),
        loras=(),
    )


class Shelf:
    """Saved pipelines, each built once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        folder = self._folder / name
        if folder.is_dir():
            return str(folder)
        return tiny.build(getattr(tiny if hasattr(tiny, name) else tiny_more, name), folder)

    def deep(self, name: str, **changes: Any) -> str:
        """The same with several blocks, and other settings, in the networks that denoise."""
        folder = self._folder / f"deep_{name}"
        if folder.is_dir():
            return str(folder)
        make = getattr(tiny if hasattr(tiny, name) else tiny_more, name)
        return tiny.build(lambda: deepened(make(), changes), folder)


def deepened(pipeline: Any, changes: dict[str, Any], blocks: int = 4) -> Any:
    for name in ("transformer", "transformer_2"):
        network = getattr(pipeline, name, None)
        if network is not None:
            more = {key: blocks for key in ("num_layers", "num_single_layers") if key in network.config}
            pipeline.register_modules(**{name: type(network).from_config({**network.config, **more, **changes})})
    return pipeline


def picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def keyframes(frames: int, seed: int = 0, size: tuple[int, int] = (32, 32)) -> Keyframes:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, size[1], size[0], 3), np.uint8)
    return Keyframes(None, Clip(pixels, 8.0))


def alike(one: UInt8, other: UInt8) -> bool:
    """Equal but for a rounding here and there: two copies of the same weights may lie differently in memory."""
    apart = np.abs(one.astype(int) - other.astype(int))
    return bool(apart.max() <= 1 and (apart > 0).mean() < 1e-3)


class Log:
    """A report that remembers, and raises `stop` where it is told to."""

    def __init__(self, stop_at: int | None = None, stop: Callable[[], Exception] = Exception) -> None:
        self.seen: list[tuple[int, int]] = []
        self._stop_at, self._stop = stop_at, stop

    def __call__(self, step: int, total: int) -> None:
        self.seen.append((step, total))
        if step == self._stop_at:
            raise self._stop()

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Without repetitions."""
        return list(dict.fromkeys(self.seen))


def spans(pieces: Iterable[Any]) -> list[tuple[int, int, int]]:
    """(start, frames, new) of every piece."""
    return [(piece.start, len(piece.clip.frames), piece.new) for piece in pieces]
