"""A user's files as batches: a seed draws the same again, a cache holds what would be encoded, sizes are kept apart."""

import random
from pathlib import Path

import pytest
import torch

from stages.base import InputError
from stages.model.network import vae as codec
from stages.training.own_data.footage import read_clip
from stages.training.own_data.manifest import Entry, load_manifest, load_pairs
from stages.training.own_data.sources import Cut, FolderSource, PairFolder, clips_and_pictures, open_files
from tests.stages import random_parts as parts
from tests.stages.training.footage_files import folder_of_clips, folder_of_pairs, write_lines

CUT = Cut(4, 8.0, (40, 40))


@pytest.fixture
def vae() -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = parts.make_vae().eval().requires_grad_(False)
    return made


def clips_of(folder: Path, cut: Cut, cache: Path | None, vae: torch.nn.Module) -> FolderSource:
    clips, _ = clips_and_pictures(open_files(load_manifest(folder_of_clips(folder))), cut)
    return FolderSource(clips, vae, cut, cache)


def test_a_batch_holds_what_was_filmed(tmp_path: Path, vae: torch.nn.Module) -> None:
    source = clips_of(tmp_path, Cut(4, 8.0, (40, 40), keyframes=(24, 24)), None, vae)
    batch = source.pick([0, 2])
    assert batch.captions == ("a red square", "a blue square")
    assert batch.keyframes is not None
    assert (batch.latents.shape, batch.latents.dtype) == ((2, 4, 4, 5, 5), torch.float32)
    assert (batch.references.shape, batch.keyframes.shape) == ((2, 3, 40, 40), (2, 4, 3, 24, 24))
    entry = load_manifest(tmp_path / "clips.jsonl")[0]
    frames = read_clip(entry, 0.0, 4, 8.0, (40, 40))
    assert torch.equal(batch.references[0], codec.to_tensor(frames[:1])[0])
    assert torch.allclose(batch.latents[0], codec.encode(vae, codec.to_tensor(frames)), atol=1e-2)


def test_draws_follow_the_seed_and_start_anywhere(tmp_path: Path, vae: torch.nn.Module) -> None:
    source = clips_of(tmp_path, CUT, None, vae)
    one, again, other = (source.draw(3, random.Random(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.latents, again.latents)
    assert one.captions == again.captions
    assert not torch.equal(one.latents, other.latents)
    starts = {tuple(source.draw(1, random.Random(seed)).references.flatten()[::97].tolist()) for seed in range(6)}
    assert len(starts) > 3  # three clips, many moments


def test_a_cache_is_filled_once_and_gives_the_same(tmp_path: Path, vae: torch.nn.Module) -> None:
    cache = tmp_path / "latents"
    source = clips_of(tmp_path, CUT, cache, vae)
    assert len(source) == 9  # 13 keyframes a clip: three pieces of four
    encoded = [source.pick([index]) for index in range(9)]
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(files) == 9
    again = clips_of_same(tmp_path, cache, vae)
    assert all(torch.equal(again.pick([i]).latents, encoded[i].latents) for i in range(9))
    assert all(torch.equal(again.pick([i]).references, encoded[i].references) for i in range(9))
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == files


def clips_of_same(folder: Path, cache: Path, vae: torch.nn.Module) -> FolderSource:
    clips, _ = clips_and_pictures(open_files(load_manifest(folder / "clips.jsonl")), CUT)
    return FolderSource(clips, vae, CUT, cache)


def test_another_vae_or_size_does_not_read_the_cache(tmp_path: Path, vae: torch.nn.Module) -> None:
    cache = tmp_path / "latents"
    first = clips_of(tmp_path, CUT, cache, vae).pick([0])
    torch.manual_seed(1)
    other = clips_of_same(tmp_path, cache, parts.make_vae().eval()).pick([0])
    assert not torch.equal(first.latents, other.latents)
    assert len(list(cache.iterdir())) == 2


def test_pictures_come_from_pictures_else_from_clips(tmp_path: Path, vae: torch.nn.Module) -> None:
    files = open_files(load_manifest(folder_of_clips(tmp_path)))
    clips, pictures = clips_and_pictures(files, CUT)
    assert [entry.file.suffix for entry, _ in clips] == [".mp4"] * 3
    assert [entry.file.suffix for entry, _ in pictures] == [".png"] * 3
    assert clips_and_pictures(clips, CUT)[1] == clips
    batch = FolderSource(clips, vae, Cut(1, 8.0, (40, 40))).draw(2, random.Random(0))
    assert batch.latents.shape == (2, 1, 4, 5, 5)


def test_only_the_high_resolution_subset(tmp_path: Path) -> None:
    entries = load_manifest(folder_of_clips(tmp_path, side=80))
    (tmp_path / "large").mkdir()
    large = load_manifest(folder_of_clips(tmp_path / "large", side=96))
    chosen = open_files([*entries, *large], least=(96, 96))
    assert {entry.file.parent.name for entry, _ in chosen} == {"large"}
    with pytest.raises(InputError, match="None of the 6 files is at least 96x96, the largest is 80x80"):
        open_files(entries, least=(96, 96))


def test_pairs_stay_pairs(tmp_path: Path, vae: torch.nn.Module) -> None:
    pairs = load_pairs(folder_of_pairs(tmp_path))
    better, worse = PairFolder(pairs, vae, (40, 40)).draw(6, random.Random(0))
    assert better.captions == worse.captions
    assert set(better.captions) == {pair.caption for pair in pairs}
    for index, caption in enumerate(better.captions):
        pair = next(pair for pair in pairs if pair.caption == caption)
        for batch, file in ((better, pair.better), (worse, pair.worse)):
            shown = read_clip(Entry(file, ""), 0.0, 1, 1.0, (40, 40))
            assert torch.equal(batch.references[index], codec.to_tensor(shown)[0])


def test_a_clip_that_is_too_short_is_named(tmp_path: Path) -> None:
    folder_of_clips(tmp_path)
    path = write_lines(tmp_path / "short.jsonl", {"file": "red.mp4", "caption": "x", "end": 0.3})
    with pytest.raises(
        InputError, match=r"short\.jsonl line 1: red\.mp4 holds 2 frames at 8 frames/s, training needs 4"
    ):
        clips_and_pictures(open_files(load_manifest(path)), CUT)
