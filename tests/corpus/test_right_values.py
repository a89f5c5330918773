"""Files that people have, each with what it is to look like: one reader for pictures, one for videos."""

import io
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from av.video.reformatter import Colorspace

from stages.media.pictures import animation_frames, examine_animation, examine_picture, read_picture
from stages.media.times import shown_at
from stages.media.types import Facts, Limits, MediaError
from stages.media.videos import examine_video, last_frame, look_at_video, video_frames
from stages.types import UInt8
from tests.corpus import made
from tests.corpus.made import SIZE, film, greys, marked, picture, still

Make = Callable[[], bytes]
NEAR = 4.0  # mean difference of 255: chroma of half the size, codecs


def apart(one: UInt8, other: UInt8) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def frames_of(data: bytes, *moments: float) -> list[UInt8]:
    return list(shown_at(video_frames(data), moments or (0.0, 0.1)))


def values_of(data: bytes, *moments: float) -> list[int]:
    """Mean greys."""
    return [round(float(frame.mean())) for frame in frames_of(data, *moments)]


def mpo() -> bytes:
    second = PIL.Image.new("RGB", (40, 40), "blue")
    return picture(PIL.Image.fromarray(marked()), "MPO", save_all=True, append_images=[second], quality=95)


def palette() -> bytes:
    return picture(PIL.Image.fromarray(marked()).convert("P", palette=PIL.Image.Palette.ADAPTIVE))


def with_profile(mode: str = "RGB") -> bytes:
    """Red and green change places, and the profile, with its columns for them exchanged, says so."""
    profile = bytearray(PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    swapped = PIL.Image.fromarray(np.ascontiguousarray(marked()[..., [1, 0, 2]]))
    return picture(swapped.convert(mode, palette=PIL.Image.Palette.ADAPTIVE), icc_profile=bytes(profile))


def animation(kind: str) -> bytes:
    shades = [PIL.Image.fromarray(frame) for frame in greys(4)]
    return picture(shades[0], kind, save_all=True, append_images=shades[1:], duration=[100, 100, 300, 100])


PICTURES: dict[str, tuple[Make, UInt8]] = {
    **{f"EXIF {n}, JPEG": (partial(made.turned, n), marked()) for n in range(1, 9)},
    **{f"EXIF 6, {kind}": (partial(made.turned, 6, kind), marked()) for kind in ("PNG", "WEBP")},
    "MPO": (mpo, marked()),
    "palette": (palette, marked()),
    "another RGB": (with_profile, marked()),
    "palette of another RGB": (lambda: with_profile("P"), marked()),
    "EXIF that is none": (lambda: picture(marked(), "JPEG", exif=b"Exif\0\0nothing", quality=95), marked()),
    "broken profile": (lambda: picture(marked(), icc_profile=b"no profile"), marked()),
    "CMYK JPEG": (lambda: picture(PIL.Image.fromarray(marked()).convert("CMYK"), "JPEG", quality=95), marked()),
    "progressive JPEG": (lambda: picture(marked(), "JPEG", progressive=True, quality=95, subsampling=0), marked()),
    "transparent PNG": (made.see_through, made.whitened()),
    "transparent WebP": (lambda: made.see_through("WEBP"), made.whitened()),
    "16-bit grey": (made.deep_grey, made.ramp()),
    "16-bit grey, EXIF 6": (partial(made.deep_grey, 6), made.ramp()),
    "16-bit grey, transparent": (partial(made.deep_grey, hidden=0), made.ramp(first=255)),
    "16-bit colour": (made.deep_colour, np.broadcast_to(np.array([0x12, 0x80, 0xF0], np.uint8), (*SIZE[::-1], 3))),
    "one bit": (lambda: picture(PIL.Image.new("1", SIZE, 1)), np.full((*SIZE[::-1], 3), 255, np.uint8)),
    "animated PNG": (lambda: animation("PNG"), greys(1)[0]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_shown_as_it_is_meant(name: str, tmp_path: Path) -> None:
    make, wanted = PICTURES[name]
    data = make()
    facts, shown = examine_picture(data), read_picture(data)
    assert facts.size == (shown.shape[1], shown.shape[0]) == SIZE
    assert apart(shown, wanted) < NEAR
    (tmp_path / "a.bin").write_bytes(data)  # a name says nothing
    assert np.array_equal(read_picture(tmp_path / "a.bin"), shown)
    [first, *_] = animation_frames(tmp_path / "a.bin")  # as training reads it
    assert np.array_equal(first.pixels(), shown)


STORED = {"wide": (48, 64), "flat": (96, 32)}  # of `marked` in pixels that are not square


def squeezed(width: int, height: int) -> UInt8:
    return np.asarray(PIL.Image.fromarray(marked()).resize((width, height), PIL.Image.Resampling.NEAREST))


def seen_through() -> UInt8:
    pixels = np.dstack([marked(), np.full(SIZE[::-1], 255, np.uint8)])
    pixels[:, SIZE[0] // 2 :] = (255, 0, 255, 0)
    return pixels


VIDEOS: dict[str, tuple[Make, UInt8]] = {
    **{f"matrix {name}": (partial(made.matrixed, name), marked()) for name in made.MATRICES},
    "pixels twice as wide": (lambda: film(still(squeezed(48, 64)), aspect=Fraction(2)), marked()),
    "pixels twice as high": (lambda: film(still(squeezed(96, 32)), aspect=Fraction(1, 2)), marked()),
    "BT.709": (lambda: film(still(marked()), colour=(1, 1, 1)), marked()),
    "BT.601": (lambda: film(still(marked()), colour=(6, 6, 6)), marked()),
    "full range": (lambda: film(still(marked()), pix_fmt="yuvj420p"), marked()),
    "4:4:4": (lambda: film(still(marked()), pix_fmt="yuv444p"), marked()),
    "10 bit HEVC": (lambda: film(still(marked()), codec="libx265", pix_fmt="yuv420p10le"), marked()),
    "VP9": (lambda: film(still(marked()), kind="webm", codec="libvpx-vp9"), marked()),
    "Matroska": (lambda: film(still(marked()), kind="matroska", codec="ffv1", pix_fmt="bgr0"), marked()),
    "cover picture first": (lambda: film(still(marked()), cover=True), marked()),
    "larger poster first": (lambda: film(still(marked()), poster=True), marked()),
    "small stream first": (lambda: film(still(marked()), small_first=True), marked()),
    "QuickTime, transparent": (
        lambda: film(still(seen_through()), kind="mov", codec="qtrle", pix_fmt="argb"),
        made.whitened(),
    ),
    "ProRes, transparent": (
        lambda: film(still(seen_through()), kind="mov", codec="prores_ks", pix_fmt="yuva444p10le"),
        made.whitened(),
    ),
    "VP9, transparent": (
        lambda: film(still(seen_through()), kind="webm", codec="libvpx-vp9", pix_fmt="yuva420p"),
        made.whitened(),
    ),
    "VP8, transparent": (
        lambda: film(still(seen_through()), kind="webm", codec="libvpx", pix_fmt="yuva420p"),
        made.whitened(),
    ),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_is_shown_as_it_is_meant(name: str, tmp_path: Path) -> None:
    make, wanted = VIDEOS[name]
    data = make()
    facts = examine_video(data)
    assert (facts.size, facts.frames, facts.fps) == (SIZE, 6, 24.0)
    for shown in (*frames_of(data, 0.0, 0.2), last_frame(data)):
        assert apart(shown, wanted) < NEAR
    (tmp_path / "a.mp4").write_bytes(data)
    looked = look_at_video(tmp_path / "a.mp4")
    assert (looked.size, looked.fps) == (facts.size, facts.fps)
    assert looked.duration_s == pytest.approx(facts.duration_s, abs=0.002)


@pytest.mark.slow
def test_colours_of_a_wide_gamut_are_mapped_and_hdr_is_tone_mapped() -> None:
    """A grey of 10, 203 and 1000 nits keeps its order and no colour; 203 nits, which are white paper, do not burn."""
    codes = [round(64 + 876 * value) for value in (0.302, 0.581, 0.752)]  # PQ
    ready = []
    for code in codes:
        frame = av.VideoFrame(32, 32, "yuv420p10le")
        for index, plane in enumerate(frame.planes):
            plane.update(np.full((plane.height, plane.line_size // 2), 512 if index else code, np.uint16).tobytes())
        ready.append(frame)
    data = film(ready, codec="libx265", pix_fmt="yuv420p10le", colour=(9, 16, 9))
    assert examine_video(data).notes == ("Its HDR colours (PQ) are tone-mapped to BT.709.",)
    shown = frames_of(data, 0.0, 1 / 24, 2 / 24)
    assert max(float(np.ptp(frame[8, 8])) for frame in shown) <= 2
    dark, paper, bright = (float(frame.mean()) for frame in shown)
    assert dark < 80 < 120 < paper < 230 < bright + 40
    assert bright - paper > 25


def test_a_large_video_that_does_not_say_its_colours_has_those_of_hd() -> None:
    """As players take it; a small one has BT.601's."""
    wanted = marked((1280, 720))
    frame = av.VideoFrame.from_ndarray(wanted, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
    assert apart(frames_of(film([frame] * 2, preset="ultrafast"), 0.0)[0], wanted) < 2


def test_both_fields_become_one_frame() -> None:
    """A bar that moves between the fields leaves no comb."""
    frames = []
    for index in range(6):
        even, odd = (np.full((64, 96, 3), 40, np.uint8) for _ in range(2))
        even[:, 8 * index : 8 * index + 20] = odd[:, 8 * index + 4 : 8 * index + 24] = 220
        woven = even.copy()
        woven[1::2] = odd[1::2]
        frames.append(woven)
    data = film(frames, interlaced=True, flags="+ildct+ilme")
    facts = examine_video(data)
    assert facts.notes == ("It is interlaced; both fields become one frame.",)
    assert (facts.frames, facts.fps) == (6, 24.0)

    def comb(frame: UInt8) -> float:
        rows = frame[:, :, 1].astype(int)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    assert comb(frames[3]) > 10
    assert max(comb(frame) for frame in frames_of(data, 2 / 24, 3 / 24)) < 2


@pytest.mark.parametrize(
    ("times_ms", "fps", "frames", "seen"),
    [
        ([*range(0, 1000, 40), 1000], 25.0, 26, {0.0: 0, 0.5: 12, 0.99: 24}),
        ([*(round(n * 1001 / 30) for n in range(20))], 30000 / 1001, 20, {0.0: 0, 0.32: 9}),
        ([n * 33 + n % 3 for n in range(20)], 30.3, 20, {0.0: 0, 0.34: 10}),
        ([*range(0, 330, 33), *range(330, 1130, 200)], 30.3, 29, {0.0: 0, 0.1: 3, 0.4: 10, 0.75: 12, 1.0: 13}),
    ],
    ids=["steady", "NTSC", "jitter", "30 then 5"],
)
@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_frames_are_seen_at_their_times(
    kind: str, times_ms: list[int], fps: float, frames: int, seen: dict[float, int]
) -> None:
    codec = "libx264" if kind == "mp4" else "libvpx"
    data = film(greys(len(times_ms), step=5), kind=kind, codec=codec, fps=30, times_ms=times_ms)
    facts = examine_video(data)
    assert facts.fps == pytest.approx(fps, rel=0.01)
    assert facts.frames == frames
    assert values_of(data, *seen) == pytest.approx([16 + 5 * index for index in seen.values()], abs=2)


def test_what_a_browser_recorded_has_a_length_and_a_rate(tmp_path: Path) -> None:
    data = made.recorded()
    assert b"\x44\x89\x88" not in data  # Matroska's Duration
    (tmp_path / "a.webm").write_bytes(data)
    for facts in (examine_video(data), look_at_video(tmp_path / "a.webm")):
        assert (facts.fps, facts.frames, round(facts.duration_s, 3)) == (25.0, 20, 0.8)


@pytest.mark.parametrize(
    ("kind", "codec", "muxer"),
    [("mp4", "libx264", {}), ("webm", "libvpx", {}), ("webm", "libvpx", {"live": "1"})],
    ids=["mp4", "webm", "recorded"],
)
def test_a_video_begins_with_its_first_frame_whenever_that_is(
    kind: str, codec: str, muxer: dict[str, str], tmp_path: Path
) -> None:
    """A piece of a longer recording keeps that one's times."""
    times = range(5000, 5800, 40)
    data = film(greys(20), kind=kind, codec=codec, fps=25, times_ms=times, muxer=muxer)
    (tmp_path / "a").write_bytes(data)
    for facts in (examine_video(data), look_at_video(tmp_path / "a")):
        assert facts.duration_s == pytest.approx(0.8, abs=0.05)
    assert values_of(data, 0.0, 0.41) == pytest.approx([16, 116], abs=2)


@pytest.mark.parametrize("name", ["12:30.mp4", "file:a.mp4", "-a %03d.mp4"])
def test_a_name_is_no_address_and_no_pattern(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(film(greys(6)))
    assert examine_video(Path(name)).frames == look_at_video(Path(name)).frames == 6


def test_of_a_moment_behind_the_end_is_said_so() -> None:
    data = film(greys(24))
    assert values_of(data, 0.5, 1.05) == pytest.approx([136, 246], abs=2)
    with pytest.raises(MediaError, match=r"ends at 1\.00 s, before 2\.00 s"):
        values_of(data, 2.0)


def test_an_animation_moves_and_a_picture_does_not(tmp_path: Path) -> None:
    for kind in ("GIF", "PNG", "WEBP"):
        (tmp_path / "a").write_bytes(animation(kind))
        facts = examine_animation(tmp_path / "a")
        assert (facts.frames, round(facts.duration_s, 3), facts.moves) == (4, 0.6, True)
        frames = list(shown_at(animation_frames(tmp_path / "a"), [0.0, 0.1, 0.25, 0.45, 0.55]))
        assert [int(frame.mean()) for frame in frames] == pytest.approx([16, 26, 36, 36, 46], abs=3)
    (tmp_path / "b").write_bytes(picture(marked()))
    assert not examine_animation(tmp_path / "b").moves


def noise() -> UInt8:
    return np.random.default_rng(0).integers(0, 255, (12, *SIZE[::-1], 3)).astype(np.uint8)


BROKEN: dict[str, tuple[Make, str, str]] = {
    "JPEG cut at 60 %": (lambda: cut(picture(noise()[0], "JPEG"), 0.6), "picture", "is broken or cut off"),
    "PNG cut": (lambda: cut(picture(noise()[0]), 0.6), "picture", "is broken or cut off"),
    "PNG with bit rot": (lambda: made.rotten(picture(noise()[0])), "picture", "is broken or cut off"),
    "WebP cut": (lambda: cut(picture(noise()[0], "WEBP"), 0.6), "picture", "is broken or cut off|is no PNG"),
    "GIF": (lambda: picture(marked(), "GIF"), "picture", "is no PNG, JPEG or WebP picture"),
    "TIFF": (lambda: picture(marked(), "TIFF"), "picture", "is no PNG, JPEG or WebP picture"),
    "empty picture": (lambda: b"", "picture", "is no PNG, JPEG or WebP picture"),
    "small picture": (lambda: picture(marked((40, 8))), "picture", "has 40x8 pixels; each side must be between 16"),
    "wide picture": (lambda: picture(marked((300, 40))), "picture", "has 300x40 pixels"),
    "many scans": (made.scanned, "picture", "has 501 scans, as no program writes a JPEG; the limit is 200"),
    "bomb": (made.bomb, "picture", "has more than .* million pixels|has 30000x30000 pixels"),
    "empty video": (lambda: b"", "video", "is no MP4 or WebM video"),
    "playlist": (lambda: b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n", "video", "is no MP4 or WebM video"),
    "list of files": (lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n", "video", "is no MP4 or WebM video"),
    "header alone": (lambda: b"\x1a\x45\xdf\xa3", "video", "is no MP4 or WebM video"),
    "MP4 with bit rot": (
        lambda: made.rotten(made.index_first(film(noise()))),
        "video",
        "broken or cut off",
    ),
    "MP4 cut in its index": (lambda: cut(film(noise()), 0.6), "video", "broken or cut off"),
    "MP4 cut behind its index": (
        lambda: cut(made.index_first(film(noise())), 0.6),
        "video",
        "broken or cut off",
    ),
    "WebM cut": (lambda: cut(film(noise(), kind="webm", codec="libvpx"), 0.5), "video", "where its header promises"),
    "sound alone": (lambda: film(greys(2), cover=True)[:200], "video", "is no MP4 or WebM video"),
    "one frame": (lambda: film(greys(1)), "video", "has 1 frames; a video needs at least 2"),
    "many frames": (lambda: film(greys(25)), "video", "has more than 24 frames, the limit"),
    "wide video": (lambda: film(greys(2, (256, 48))), "video", "has 256x48 pixels"),
    "grows": (made.growing, "video", "has 512x512 pixels"),
    "wide pixels": (lambda: film(greys(2), aspect=Fraction(3)), "video", "has 288x64 pixels"),
    "slow": (lambda: film(greys(3), times_ms=[0, 4000, 8000]), "video", "has 0.25 frames a second"),
}


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_said_at_once_and_in_our_words(name: str) -> None:
    make, kind, says = BROKEN[name]
    limits = Limits(side_px=128, frames=24)
    with pytest.raises(MediaError, match=says) as caught:
        examine_picture(make(), limits) if kind == "picture" else examine_video(make(), limits)
    assert not any(word in str(caught.value) for word in ("Error", "avcodec", "Errno", "PIL", "truncated"))


@pytest.mark.parametrize(("damaged_s", "heard"), [(1.0, True), (0.0, False)])
def test_sound_is_decoded_as_far_as_the_film_goes(damaged_s: float, heard: bool) -> None:
    """What follows is never heard, and silence of days fits into a small file."""
    data = bytearray(film(greys(6), sound="aac", sound_s=2))
    with av.open(io.BytesIO(bytes(data))) as container:
        for packet in container.demux(audio=0):
            if packet.pts is not None and packet.pts * packet.time_base >= damaged_s:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    facts = examine_video(bytes(data))
    assert (facts.sound, bool(facts.notes)) == (heard, not heard)


def test_frames_times_pixels_are_limited() -> None:
    data = film(greys(20))
    assert examine_video(data, Limits(pixels=20 * 96 * 64)).frames == 20
    with pytest.raises(MediaError, match=r"has 20 or more frames of 96x64 pixels, 0 million together"):
        examine_video(data, Limits(pixels=20 * 96 * 64 - 1))


def test_facts_of_pictures_have_no_rate() -> None:
    assert examine_picture(picture(marked())) == Facts("picture", "png", SIZE)
