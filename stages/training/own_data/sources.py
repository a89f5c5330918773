"""A user's clips and pictures as batches: read, cut, scaled and encoded, once (`cache`) or at every draw.

Without a cache every draw starts at a random moment of its clip; with one, a clip is cut into pieces that follow each
other, and each piece is encoded once and kept on disk. Takes a manifest's entries and a VAE. Knows nothing of losses.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from stages.base import InputError
from stages.media.types import Facts
from stages.model.network import vae as codec
from stages.model.network.pictures import resize_frames
from stages.training.own_data.footage import check_length, probe, read_clip, span_of
from stages.training.own_data.manifest import Entry, Pair
from stages.training.video.batches import Batch
from stages.types import UInt8


@dataclass(frozen=True)
class Cut:
    """The shape of every sample of a source."""

    frames: int
    fps: float
    size: tuple[int, int]  # (width, height)
    keyframes: tuple[int, int] | None = None  # the size at which ControlNets see each keyframe; None: they do not


@dataclass(frozen=True)
class _Piece:
    entry: Entry
    start_s: float
    spare_s: float  # how much later it may start


class FolderSource:
    """Clips of `cut.frames` frames, or pictures where that is 1."""

    def __init__(
        self, files: Sequence[tuple[Entry, Facts]], vae: AutoencoderKL, cut: Cut, cache: Path | None = None
    ) -> None:
        self._vae, self._cut, self._cache = vae, cut, cache
        self._pieces = [piece for entry, facts in files for piece in _pieces(entry, facts, cut, cache is not None)]
        weight = next(vae.parameters()).detach().float()
        self._vae_facts = (float(vae.config.scaling_factor), float(weight.abs().sum()))
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._pieces)

    def draw(self, count: int, rng: random.Random) -> Batch:
        chosen = [rng.choice(self._pieces) for _ in range(count)]
        return self._batch(chosen, [piece.start_s + rng.random() * piece.spare_s for piece in chosen])

    def pick(self, indices: Sequence[int]) -> Batch:
        """Those samples, each from its first moment."""
        chosen = [self._pieces[index] for index in indices]
        return self._batch(chosen, [piece.start_s for piece in chosen])

    def _batch(self, chosen: Sequence[_Piece], starts: Sequence[float]) -> Batch:
        device = self._vae.device
        with torch.autocast(device.type, enabled=False):  # what is learnt from is encoded in full precision
            made = [self._load(piece, start) for piece, start in zip(chosen, starts, strict=True)]
        latents = torch.stack([latent.to(device, torch.float32) for latent, _, _ in made])
        references = torch.stack([_picture(first) for _, first, _ in made]).to(device)
        keyframes = None
        if self._cut.keyframes:
            keyframes = torch.stack([codec.to_tensor(frames, device) for _, _, frames in made])
        return Batch(latents, references, tuple(piece.entry.caption for piece in chosen), keyframes)

    def _load(self, piece: _Piece, start_s: float) -> tuple[Tensor, UInt8, UInt8]:
        """Latents (F, C, h, w) float16, the first frame (H, W, 3), the keyframes (F, H', W', 3) or none of them."""
        if self._cache is None:
            return self._encode(piece.entry, start_s)
        file = self._cache / f"{self._key(piece)}.npz"
        if not file.exists():
            latents, first, keyframes = self._encode(piece.entry, start_s)
            draft = file.with_suffix(f".{os.getpid()}.tmp.npz")
            np.savez(draft, latents=latents.cpu().numpy(), first=first, keyframes=keyframes)
            draft.replace(file)
        with np.load(file) as stored:
            return torch.from_numpy(stored["latents"]), stored["first"], stored["keyframes"]

    def _encode(self, entry: Entry, start_s: float) -> tuple[Tensor, UInt8, UInt8]:
        cut, vae = self._cut, self._vae
        frames = read_clip(entry, start_s, cut.frames, cut.fps, cut.size)
        latents = [codec.encode(vae, codec.to_tensor(frame[None], vae.device, vae.dtype)) for frame in frames]
        keyframes = resize_frames(frames, cut.keyframes) if cut.keyframes else frames[:0]
        return torch.cat(latents).to(torch.float16), frames[0], keyframes

    def _key(self, piece: _Piece) -> str:
        """Names a cached piece by everything that its content depends on."""
        file = piece.entry.file
        about = file.stat()
        facts = (
            file.resolve(), about.st_size, about.st_mtime_ns, round(piece.start_s, 6), self._cut, self._vae_facts
        )  # fmt: skip
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


class PairFolder:
    """Pairs of pictures, in which one is better."""

    def __init__(
        self, pairs: Sequence[Pair], vae: AutoencoderKL, size: tuple[int, int], cache: Path | None = None
    ) -> None:
        def source(files: Sequence[Path]) -> FolderSource:
            entries = [Entry(file, pair.caption) for file, pair in zip(files, pairs, strict=True)]
            still = [(entry, replace(probe(entry), fps=0.0, duration_s=0.0)) for entry in entries]
            return FolderSource(still, vae, Cut(1, 1.0, size), cache)

        self._better = source([pair.better for pair in pairs])
        self._worse = source([pair.worse for pair in pairs])

    def draw(self, count: int, rng: random.Random) -> tuple[Batch, Batch]:
        """The better ones and the worse ones: clips of one frame, the same captions."""
        chosen = [rng.randrange(len(self._better)) for _ in range(count)]
        return self._better.pick(chosen), self._worse.pick(chosen)


def open_files(entries: Sequence[Entry], *, least: tuple[int, int] | None = None) -> list[tuple[Entry, Facts]]:
    """Every entry with what its file holds; with `least`, only those at least that (width, height).

    Raises:
        InputError: a file cannot be read, or none is large enough.
    """
    found = [(entry, probe(entry)) for entry in entries]
    if least is None:
        return found
    large = [(entry, facts) for entry, facts in found if facts.size[0] >= least[0] and facts.size[1] >= least[1]]
    if not large:
        width, height = max((facts.size for _, facts in found), key=lambda size: size[0] * size[1])
        raise InputError(
            f"None of the {len(found)} files is at least {least[0]}x{least[1]}, the largest is {width}x{height}; "
            f"add larger ones, or lower --least-size."
        )
    return large


def clips_and_pictures(
    files: Sequence[tuple[Entry, Facts]], cut: Cut
) -> tuple[list[tuple[Entry, Facts]], list[tuple[Entry, Facts]]]:
    """What moves, checked to be long enough, and what does not; without a still one, frames of clips are pictures.

    Raises:
        InputError: a clip is too short or too slow.
    """
    clips = [(entry, facts) for entry, facts in files if facts.moves]
    for entry, facts in clips:
        check_length(entry, facts, cut.frames, cut.fps)
    return clips, [(entry, facts) for entry, facts in files if not facts.moves] or clips


def _pieces(entry: Entry, facts: Facts, cut: Cut, fixed: bool) -> list[_Piece]:
    if not facts.moves:
        return [_Piece(entry, 0.0, 0.0)]
    start, end = span_of(entry, facts)
    length = (cut.frames - 1) / cut.fps
    spare = max(0.0, end - start - length - 1 / facts.fps)
    if not fixed:
        return [_Piece(entry, start, spare)]
    step = cut.frames / cut.fps
    return [_Piece(entry, start + index * step, 0.0) for index in range(1 + int(spare / step))]


def _picture(frame: UInt8) -> Tensor:
    return codec.to_tensor(frame[None])[0]
