"""Values check themselves once, and say what they needed and what they got."""

import numpy as np
import pytest

from stages.types import Clip, Image, Keyframes, Latents, ValueShapeError, Window

FRAMES = np.zeros((3, 4, 6, 3), np.uint8)


def test_sizes_and_bytes() -> None:
    clip = Clip(FRAMES, 8)
    assert (clip.size, clip.nbytes) == ((6, 4), 216)
    keyframes = Keyframes(Latents(np.zeros((3, 4, 2, 2), np.float16)), clip)
    assert keyframes.nbytes == 216 + 96
    assert Image(FRAMES[0]).size == (6, 4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Image(FRAMES), r"Image needs \(H, W, channels\) uint8, got \(3, 4, 6, 3\) uint8"),
        (lambda: Image(np.zeros((4, 6, 4), np.uint8)), r"Image needs channels 3, got 4"),
        (lambda: Clip(FRAMES.astype(np.float32), 8), "uint8, got .* float32"),
        (lambda: Clip(FRAMES, 0), "fps > 0, got 0"),
        (lambda: Clip(FRAMES[:0], 8), "T >= 1, got 0"),
        (lambda: Latents(np.full((1, 4, 2, 2), np.inf, np.float16)), "finite"),
        (lambda: Keyframes(Latents(np.zeros((2, 4, 2, 2), np.float16)), Clip(FRAMES, 8)), "2 latents and 3 frames"),
        (lambda: Window(Clip(FRAMES, 8), 0, 0, 2, last=False), "got lead 2 and 3 frames"),
        (lambda: Window(Clip(FRAMES[:1], 8), 1, 4, 1, last=False), "got lead 1 and 1 frames"),
    ],
)
def test_a_wrong_array_is_refused(make: object, sentence: str) -> None:
    assert callable(make)
    with pytest.raises(ValueShapeError, match=sentence):
        make()
