"""A manifest is judged line by line, and frames come out of every kind of file at the moment that was asked for."""

import codecs
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from stages.base import InputError
from stages.media.pictures import cover
from stages.training.own_data.footage import check_length, probe, read_clip, span_of
from stages.training.own_data.manifest import Entry, Pair, load_manifest, load_pairs, load_prompts, write_manifest
from stages.types import UInt8
from tests.stages.training.footage_files import FPS, write_lines, write_video, write_webp


def grey(frames: int, side: int = 32) -> UInt8:
    """Frame n has the value 10 n."""
    return np.stack([np.full((side, side, 3), 10 * index, np.uint8) for index in range(frames)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "a.mp4", grey(20))
    write_webp(tmp_path / "b.webp", grey(20))
    PIL.Image.fromarray(grey(2)[1]).save(tmp_path / "c.png")
    PIL.Image.fromarray(grey(3)[2]).save(tmp_path / "d.png")
    return tmp_path


def test_a_manifest_is_read(folder: Path) -> None:
    lines = (
        {"file": "a.mp4", "caption": " a fox ", "start": 0.5, "end": 2},
        "",
        {"file": "c.png", "caption": "ein Käse"},
    )
    path = write_lines(folder / "m.jsonl", *lines)
    assert load_manifest(path) == (
        Entry(folder / "a.mp4", "a fox", 0.5, 2.0, f"{path} line 1"),
        Entry(folder / "c.png", "ein Käse", 0.0, None, f"{path} line 3"),
    )
    assert load_prompts(path) == ("a fox", "ein Käse")
    pair = {"better": "c.png", "worse": "d.png", "caption": "grey"}
    assert load_pairs(write_lines(folder / "p.jsonl", pair)) == (Pair(folder / "c.png", folder / "d.png", "grey"),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 1 is not JSON \(.*'\{'\); write one object a line"),
        ('["a.mp4"]', "line 1 is '.*'; write an object"),
        ({"caption": "x"}, "line 1 has no 'file', only caption; add it"),
        ({"file": "a.mp4"}, "line 1 has no 'caption', only file"),
        ({"file": "a.mp4", "caption": "x", "begin": 1}, "has 'begin'; the fields are caption, end, file, start"),
        ({"file": "no.mp4", "caption": "x"}, "names 'no.mp4', and there is no file"),
        ({"file": "a.pkl", "caption": "x"}, r"names 'a.pkl'; its name must end with one of: \.mp4"),
        ({"file": 3, "caption": "x"}, "has 3 as 'file'"),
        ({"file": "a.mp4", "caption": " "}, "has ' ' as 'caption'"),
        ({"file": "a.mp4", "caption": "x", "start": -1}, "has -1 as 'start'; it is a number of seconds"),
        ({"file": "a.mp4", "caption": "x", "start": "1"}, "has '1' as 'start'"),
        ({"file": "a.mp4", "caption": "x", "start": 2, "end": 1}, "ends at 1 s and starts at 2 s"),
        ({"file": "c.png", "caption": "x", "end": 1}, "gives c.png a start or an end; it is a picture"),
    ],
)
def test_a_wrong_line_is_one_sentence_that_names_it(folder: Path, line: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_manifest(write_lines(folder / "m.jsonl", line))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"better": "c.png", "caption": "x"}, "has no 'worse', only better, caption"),
        ({"better": "c.png", "worse": "c.png", "caption": "x"}, "names c.png as better and as worse"),
        ({"better": "c.png", "worse": "a.mp4", "caption": "x"}, "has a.mp4 as 'worse'; pairs are pictures"),
    ],
)
def test_a_wrong_pair_is_one_sentence(folder: Path, line: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_pairs(write_lines(folder / "m.jsonl", line))


def test_an_empty_or_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no line"):
        load_manifest(write_lines(tmp_path / "m.jsonl", ""))
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        load_manifest(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="holds no prompt"):
        load_prompts(write_lines(tmp_path / "p.txt", ""))


def test_a_folder_becomes_a_manifest_that_loads(folder: Path) -> None:
    (folder / "a.txt").write_text("a fox\n")
    (folder / "c.txt").write_text("ein  Käse")
    (folder / "lists").mkdir()
    out = folder / "lists" / "m.jsonl"
    assert write_manifest(folder, out) == (2, (folder / "b.webp", folder / "d.png"))
    entries = load_manifest(out)
    assert [(entry.file.resolve().name, entry.caption) for entry in entries] == [
        ("a.mp4", "a fox"),
        ("c.png", "ein Käse"),
    ]


def test_captions_and_manifests_are_read_however_they_were_saved(folder: Path) -> None:
    (folder / "a.txt").write_bytes(codecs.BOM_UTF8 + "a fox\u2028in the snow".encode())
    (folder / "c.txt").write_text("ein Käse", encoding="utf-16")
    for name in ("._a.mp4", "._a.txt", ".hidden.png"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    out = folder / "m.jsonl"
    assert write_manifest(folder, out) == (2, (folder / "b.webp", folder / "d.png"))
    captions = ("a fox in the snow", "ein Käse")
    assert load_prompts(out) == captions
    line = '{"file": "a.mp4", "caption": "one\u2028line"}'
    out.write_text(f"\ufeff{line}\r\n", encoding="utf-8")
    assert load_prompts(out) == ("one\u2028line",)
    out.write_text(line, encoding="utf-16")
    assert load_prompts(out) == ("one\u2028line",)
    (folder / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"a\.txt is not UTF-8 \(unexpected end of data at byte 3\)"):
        write_manifest(folder, out)


def test_a_folder_without_captions(folder: Path) -> None:
    with pytest.raises(InputError, match=r"holds 4 clips or pictures .*, 4 of them without a caption; put a .txt"):
        write_manifest(folder, folder / "m.jsonl")


@pytest.mark.parametrize("name", ["a.mp4", "b.webp"])
@pytest.mark.parametrize("start", [0.0, 0.3, 1.0])
def test_frames_are_those_shown_at_each_moment(folder: Path, name: str, start: float) -> None:
    entry = Entry(folder / name, "")
    facts = probe(entry)
    assert facts.size == (32, 32)
    assert facts.fps == pytest.approx(FPS)
    assert facts.duration_s == pytest.approx(2.0)
    clip = read_clip(entry, start, 4, 5.0, (32, 32))  # every second frame
    first = round(start * FPS)
    wanted = [10 * (first + 2 * index) for index in range(4)]
    assert [round(float(frame.mean())) for frame in clip] == pytest.approx(wanted, abs=3)


def test_the_last_frame_can_be_the_last(folder: Path) -> None:
    for name in ("a.mp4", "b.webp"):
        clip = read_clip(Entry(folder / name, ""), 0.0, 20, FPS, (32, 32))
        assert float(clip[-1].mean()) == pytest.approx(190, abs=3)


def test_what_is_too_short_too_slow_or_broken_is_named(folder: Path) -> None:
    entry = Entry(folder / "a.mp4", "", 1.0, 1.8, "m.jsonl line 7")
    assert span_of(entry, probe(entry)) == (1.0, 1.8)
    check_length(entry, probe(entry), 8, 10.0)
    with pytest.raises(InputError, match=r"line 7: a.mp4 holds 8 frames at 10 frames/s, training needs 9"):
        check_length(entry, probe(entry), 9, 10.0)
    with pytest.raises(InputError, match="has 10 frames/s, training needs at least 16"):
        check_length(entry, probe(entry), 4, 16.0)
    with pytest.raises(InputError, match=r"ends at 9 s, the file at 2\.00 s"):
        probe(Entry(folder / "a.mp4", "", 0.0, 9.0))
    with pytest.raises(InputError, match=r"a\.mp4 cannot be decoded from 5\.00 s"):
        read_clip(Entry(folder / "a.mp4", ""), 5.0, 8, 10.0, (32, 32))
    (folder / "e.mp4").write_bytes(b"not a video")
    with pytest.raises(InputError, match=r"e\.mp4 is no MP4 or WebM video"):
        probe(Entry(folder / "e.mp4", ""))


def test_pictures_are_covered_not_squeezed(folder: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert np.array_equal(cover(wide, (10, 10)), wide[:, 10:20])
    assert cover(wide, (24, 16)).shape == (16, 24, 3)
    assert read_clip(Entry(folder / "c.png", ""), 0.0, 1, 1.0, (8, 8)).mean() == 10
    assert not probe(Entry(folder / "c.png", "")).moves
