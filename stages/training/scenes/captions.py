"""What the tiny model can be asked for, and the sentences that ask for it.

A scene is a subject in a place at a time of day, in one motion, drawn in one style; a caption is written from it by a
small grammar with synonyms, as in "A fat rabbit walking through a snowy forest at dusk, oil painting style." Three in
ten triples of subject, place and motion are held out of training: they test whether the model composes. Knows nothing
of pixels.
"""

import hashlib
import random
from dataclasses import dataclass

from stages.english import with_articles

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
    "dog": "1f415",
    "eagle": "1f985",
    "peacock": "1f99a",
    "flamingo": "1f9a9",
    "swan": "1f9a2",
    "rooster": "1f413",
    "dolphin": "1f42c",
    "shark": "1f988",
    "snail": "1f40c",
    "snake": "1f40d",
    "crocodile": "1f40a",
    "bear": "1f43b",
    "koala": "1f428",
    "cow": "1f404",
    "pig": "1f416",
    "horse": "1f40e",
    "zebra": "1f993",
    "giraffe": "1f992",
    "camel": "1f42a",
    "kangaroo": "1f998",
    "hedgehog": "1f994",
    "raccoon": "1f99d",
    "sloth": "1f9a5",
    "unicorn": "1f984",
    "dragon": "1f409",
    "dinosaur": "1f996",
    "bee": "1f41d",
    "ladybug": "1f41e",
    "monkey": "1f412",
    "bus": "1f68c",
    "tractor": "1f69c",
    "train": "1f682",
    "airplane": "2708-fe0f",
    "motorcycle": "1f3cd-fe0f",
    "flying saucer": "1f6f8",
    "alien": "1f47d",
    "pumpkin": "1f383",
    "christmas tree": "1f384",
    "teddy bear": "1f9f8",
    "astronaut": "1f9d1-200d-1f680",
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
    "dog": ("dog", "puppy"),
    "rooster": ("rooster", "cockerel"),
    "crocodile": ("crocodile", "alligator"),
    "pig": ("pig", "piglet"),
    "horse": ("horse", "pony"),
    "dinosaur": ("dinosaur", "t-rex"),
    "bee": ("bee", "honeybee"),
    "ladybug": ("ladybug", "ladybird"),
    "monkey": ("monkey", "ape"),
    "train": ("train", "locomotive"),
    "airplane": ("airplane", "plane"),
    "motorcycle": ("motorcycle", "motorbike"),
    "flying saucer": ("flying saucer", "ufo"),
    "pumpkin": ("pumpkin", "jack-o-lantern"),
    "astronaut": ("astronaut", "spaceman"),
}

# name -> where something is, and what something walks through
PLACES: dict[str, tuple[str, ...]] = {
    "snowy forest": ("in a snowy forest", "in a forest covered with snow", "in a winter forest", "among snowy trees"),
    "beach": ("on a beach", "on a sandy beach by the sea", "at the seaside", "on the shore of the ocean"),
    "meadow": ("in a meadow", "on a green meadow with flowers", "in a field of flowers", "on the grass"),
    "city": ("in a city", "in a city street", "in front of tall buildings", "downtown"),
    "desert": ("in a desert", "among sand dunes", "in a dry desert with cacti"),
    "mountains": ("in the mountains", "in front of high mountains", "below snowy peaks"),
    "lake": ("at a lake", "on the shore of a lake", "by a calm lake with reeds"),
    "jungle": ("in a jungle", "in the rainforest", "among palms and lianas"),
    "castle": ("at a castle", "in front of an old castle", "below the towers of a castle"),
    "farm": ("on a farm", "in front of a red barn", "at a farm with a wooden fence"),
}
THROUGH: dict[str, tuple[str, ...]] = {
    "snowy forest": ("through a snowy forest", "through a winter forest"),
    "beach": ("along a beach", "along the seaside"),
    "meadow": ("through a meadow", "across a field of flowers"),
    "city": ("through a city", "down a city street"),
    "desert": ("through a desert", "across sand dunes"),
    "mountains": ("through the mountains",),
    "lake": ("along a lake", "past a calm lake"),
    "jungle": ("through a jungle", "through the rainforest"),
    "castle": ("past a castle", "past an old castle"),
    "farm": ("across a farm", "past a red barn"),
}

TIMES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in the daytime", "on a sunny day", "at noon", ""),
    "dusk": ("at dusk", "at sunset", "in the evening", "in the evening light"),
    "night": ("at night", "in the moonlight", "under the stars", "at midnight"),
}

# name -> the verb, and what may be said of the camera at the end
MOTIONS: dict[str, tuple[str, ...]] = {
    "still": ("", "standing", "resting", "waiting"),
    "walking": ("walking", "moving", "wandering", "strolling"),
    "jumping": ("jumping", "hopping", "bouncing", "leaping"),
    "floating": ("floating", "hovering", "drifting in the air", "levitating"),
    "zoom": ("", "", "standing"),
}
CAMERA = ("the camera zooms in", "camera zoom", "slow zoom", "the camera comes closer")

STYLES: dict[str, tuple[str, ...]] = {
    "3d": ("", "", "3d render", "3d style"),
    "oil": ("oil painting style", "oil painting", "painted in oil"),
    "pencil": ("pencil sketch style", "pencil sketch", "drawn in pencil"),
}

ADJECTIVES = ("", "", "", "", "cute", "little", "happy", "fat", "funny", "lovely")
_OPENINGS = ("a {}", "a {}", "a {}", "the {}", "one {}", "a video of a {}", "{}")
HELD_OUT_SHARE = 0.3


@dataclass(frozen=True)
class Scene:
    """What one picture or clip shows."""

    subject: str
    place: str
    time: str
    motion: str = "still"
    style: str = "3d"

    @property
    def held_out(self) -> bool:
        """Whether this triple of subject, place and motion is kept out of training."""
        name = f"{self.subject}/{self.place}/{self.motion}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) < HELD_OUT_SHARE * 2**32


def all_scenes() -> list[Scene]:
    """Every scene that can be asked for, in an order that never changes."""
    return [
        Scene(subject, place, time, motion, style)
        for subject in SUBJECTS
        for place in PLACES
        for time in TIMES
        for motion in MOTIONS
        for style in STYLES
    ]


def write_caption(scene: Scene, rng: random.Random) -> str:
    """One of the many sentences that describe `scene`."""
    subject = f"{rng.choice(ADJECTIVES)} {rng.choice(SUBJECT_WORDS.get(scene.subject, (scene.subject,)))}".strip()
    verb = rng.choice(MOTIONS[scene.motion])
    through = scene.motion == "walking" and rng.random() < 0.6
    place = rng.choice((THROUGH if through else PLACES)[scene.place])
    time = rng.choice(TIMES[scene.time])
    opening = rng.choice(_OPENINGS).format(subject)
    words = [opening, verb, place, time]
    if not through and not verb and rng.random() < 0.2:
        words = [place, time, opening]
    tails = [rng.choice(CAMERA)] if scene.motion == "zoom" else []
    tails.append(rng.choice(STYLES[scene.style]))
    rng.shuffle(tails)
    sentence = ", ".join(part for part in (" ".join(" ".join(words).split()), *tails) if part)
    return with_articles(sentence) + rng.choice(("", "", "."))


def plain_caption(scene: Scene) -> str:
    """The one sentence that a newcomer would write."""
    verb = {"still": "", "zoom": ""}.get(scene.motion, scene.motion)
    place = (THROUGH if scene.motion == "walking" else PLACES)[scene.place][0]
    sentence = " ".join(f"a {scene.subject} {verb} {place} {TIMES[scene.time][0]}".split())
    camera = f", {CAMERA[0]}" if scene.motion == "zoom" else ""
    style = {"3d": "", "oil": ", oil painting style", "pencil": ", pencil sketch style"}[scene.style]
    return with_articles(sentence) + camera + style
