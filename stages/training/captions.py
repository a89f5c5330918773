"""What the tiny model can be asked for, and the sentences that ask for it.

A caption is written from subject, place and time of day by a small grammar with synonyms. Knows nothing of pixels.
"""

import hashlib
import random
from dataclasses import dataclass

# name -> code points of the animation in the emoji packages
SUBJECTS: dict[str, str] = {
    "fox": "1f98a",
    "rabbit": "1f407",
    "cat": "1f408",
    "lion": "1f981",
    "owl": "1f989",
    "whale": "1f40b",
    "rocket": "1f680",
    "sailboat": "26f5",
    "car": "1f697",
    "robot": "1f916",
    "snowman": "2603-fe0f",
    "panda": "1f43c",
    "penguin": "1f427",
    "tiger": "1f405",
    "elephant": "1f418",
    "butterfly": "1f98b",
    "turtle": "1f422",
    "duck": "1f986",
    "frog": "1f438",
    "octopus": "1f419",
    "ghost": "1f47b",
    "helicopter": "1f681",
    "parrot": "1f99c",
    "crab": "1f980",
}

SUBJECT_WORDS: dict[str, tuple[str, ...]] = {
    "rabbit": ("rabbit", "bunny", "hare"),
    "cat": ("cat", "kitten"),
    "rocket": ("rocket", "spaceship"),
    "sailboat": ("sailboat", "boat"),
    "car": ("car", "automobile"),
    "panda": ("panda", "panda bear"),
    "ghost": ("ghost", "spook"),
    "turtle": ("turtle", "tortoise"),
}

PLACES: dict[str, tuple[str, ...]] = {
    "snowy forest": ("in a snowy forest", "in a forest covered with snow", "in a winter forest", "among snowy trees"),
    "beach": ("on a beach", "on a sandy beach by the sea", "at the seaside", "on the shore of the ocean"),
    "meadow": ("in a meadow", "on a green meadow with flowers", "in a field of flowers", "on the grass"),
    "city": ("in a city", "in a city street", "in front of tall buildings", "downtown"),
    "desert": ("in a desert", "among sand dunes", "in a dry desert with cacti"),
    "mountains": ("in the mountains", "in front of high mountains", "below snowy peaks"),
}

TIMES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in the daytime", "on a sunny day", "at noon", ""),
    "dusk": ("at dusk", "at sunset", "in the evening", "in the evening light"),
    "night": ("at night", "in the moonlight", "under the stars", "at midnight"),
}

_OPENINGS = ("a {}", "the {}", "one {}", "a cute {}", "a little {}", "a video of a {}", "a happy {}", "{}")


@dataclass(frozen=True)
class Scene:
    """What one picture or clip shows."""

    subject: str
    place: str
    time: str

    @property
    def held_out(self) -> bool:
        """Whether this pair of subject and place is kept out of training, to see whether the model composes."""
        return hashlib.sha256(f"{self.subject}/{self.place}".encode()).digest()[0] < 26  # one in ten


def all_scenes() -> list[Scene]:
    return [Scene(subject, place, time) for subject in SUBJECTS for place in PLACES for time in TIMES]


def write_caption(scene: Scene, rng: random.Random) -> str:
    """One of the many sentences that describe `scene`."""
    subject = _OPENINGS[rng.randrange(len(_OPENINGS))].format(
        rng.choice(SUBJECT_WORDS.get(scene.subject, (scene.subject,)))
    )
    subject = subject.replace("a owl", "an owl").replace("a elephant", "an elephant").replace("a octopus", "an octopus")
    subject = subject.replace("a automobile", "an automobile")
    words = [subject, rng.choice(PLACES[scene.place]), rng.choice(TIMES[scene.time])]
    if rng.random() < 0.2:
        words = [words[1], words[2], words[0]]
    return " ".join(" ".join(words).split())


def plain_caption(scene: Scene) -> str:
    """The one sentence that a newcomer would write."""
    article = "an" if scene.subject[0] in "aeiou" else "a"
    return f"{article} {scene.subject} {PLACES[scene.place][0]} {TIMES[scene.time][0]}"
