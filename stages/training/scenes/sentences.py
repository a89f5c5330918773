"""What the default model can be asked for, and the sentences that ask for it.

A scene is one to three subjects of `subjects.tsv` (424, each an animated emoji; names are CLDR's and our synonyms), in
one of 25 places at a time of day, perhaps in weather, in one of eight motions, drawn in one of five styles; one subject
that is no person may have a colour. A caption is written from it by a small grammar. Three in ten triples of subject,
place and motion are held out of training: they test whether the model composes. Knows nothing of pixels.
"""

import hashlib
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from stages.english import with_articles

Kind = Literal["person", "animal", "vehicle", "thing"]


@dataclass(frozen=True, slots=True)
class Subject:
    """One that can be asked for: the code points of its animation without skin tones, and its words."""

    code: str
    kind: Kind
    name: str
    words: tuple[str, ...]  # the name first


@cache
def subjects() -> dict[str, Subject]:
    """By name, in the order of the table."""
    found = dict[str, Subject]()
    for line in Path(__file__).with_name("subjects.tsv").read_text(encoding="utf-8").splitlines():
        code, kind, name, more = line.split("\t")
        words = (name, *(word for word in more.split("|") if word))
        found[name] = Subject(code, kind, name, words)  # type: ignore[arg-type]
    return found


# name -> where something is; then what something goes through
PLACES: dict[str, tuple[str, ...]] = {
    "snowy forest": (
        "in a snowy forest", "in a forest covered with snow", "in a winter forest", "among snowy trees", "in the snow",
    ),
    "beach": ("on a beach", "on a sandy beach by the sea", "at the seaside", "on the shore of the ocean"),
    "meadow": ("in a meadow", "on a green meadow with flowers", "in a field of flowers", "on the grass", "in a garden"),
    "city": ("in a city", "in a city street", "in front of tall buildings", "downtown"),
    "desert": ("in a desert", "among sand dunes", "in a dry desert with cacti"),
    "mountains": ("in the mountains", "in front of high mountains", "below snowy peaks"),
    "lake": ("at a lake", "on the shore of a lake", "by a calm lake with reeds"),
    "jungle": ("in a jungle", "in the rainforest", "among palms and lianas"),
    "castle": ("at a castle", "in front of an old castle", "below the towers of a castle"),
    "farm": ("on a farm", "in front of a red barn", "at a farm with a wooden fence"),
    "forest": ("in a forest", "in the woods", "among green trees", "on a forest path"),
    "autumn forest": ("in an autumn forest", "among autumn leaves", "in a forest in autumn", "in a park in fall"),
    "river": ("by a river", "at a waterfall", "on the bank of a river", "by a stream"),
    "underwater": ("underwater", "under the sea", "at the bottom of the sea", "in the deep ocean", "at a coral reef"),
    "space": ("in space", "in outer space", "among the stars and planets", "in the galaxy"),
    "moon": ("on the moon", "on the surface of the moon", "among craters on the moon"),
    "fantasy landscape": ("in a fantasy landscape", "in a magical land", "in a fairy tale world",
                          "in a dream landscape"),
    "market": ("at a market", "at a local market", "among market stalls", "at a fair"),
    "neon street": ("in a neon street", "in a cyberpunk city", "among neon lights", "in a futuristic city"),
    "arctic": ("in the arctic", "on the ice", "among icebergs", "at the north pole", "on a frozen sea"),
    "village": ("in a village", "in a small village", "among little houses", "in an old town"),
    "living room": ("in a living room", "at home on the carpet", "in a cosy room", "in a house"),
    "library": ("in a library", "among bookshelves", "in a room full of books"),
    "kitchen": ("in a kitchen", "in the kitchen at home", "in front of a stove"),
    "stage": ("on a stage", "on stage under spotlights", "in a theatre", "at a concert"),
}  # fmt: skip
THROUGH: dict[str, tuple[str, ...]] = {
    "snowy forest": ("through a snowy forest", "through a winter forest", "through the snow"),
    "beach": ("along a beach", "along the seaside"),
    "meadow": ("through a meadow", "across a field of flowers", "through a garden"),
    "city": ("through a city", "down a city street"),
    "desert": ("through a desert", "across sand dunes"),
    "mountains": ("through the mountains",),
    "lake": ("along a lake", "past a calm lake"),
    "jungle": ("through a jungle", "through the rainforest"),
    "castle": ("past a castle", "past an old castle"),
    "farm": ("across a farm", "past a red barn"),
    "forest": ("through a forest", "through the woods"),
    "autumn forest": ("through an autumn forest", "through autumn leaves"),
    "river": ("along a river", "past a waterfall"),
    "space": ("through space", "through the galaxy"),
    "moon": ("across the moon",),
    "fantasy landscape": ("through a fantasy landscape", "through a magical land"),
    "market": ("through a market", "past market stalls"),
    "neon street": ("through a neon street", "through a cyberpunk city"),
    "arctic": ("across the ice", "through the arctic"),
    "village": ("through a village", "through an old town"),
}
NO_WEATHER = frozenset({"underwater", "space", "moon", "living room", "library", "kitchen", "stage"})

TIMES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in the daytime", "on a sunny day", "at noon", "", "", "in the morning"),
    "dusk": ("at dusk", "at sunset", "in the evening", "in the evening light", "on a warm evening", "at sunrise"),
    "night": ("at night", "in the moonlight", "under the stars", "at midnight", "in the dark"),
}
WEATHER: dict[str, tuple[str, ...]] = {
    "none": ("",),
    "rain": ("in the rain", "on a rainy day", "while it rains"),
    "snow": ("in falling snow", "while it snows", "in a snowstorm"),
    "fog": ("in the fog", "in the mist", "in thick fog"),
}
MOTIONS: dict[str, tuple[str, ...]] = {
    "still": ("", "", "standing", "resting", "sitting", "waiting"),
    "walking": ("walking", "moving", "wandering", "strolling", "travelling"),
    "running": ("running", "rushing", "racing", "sprinting"),
    "jumping": ("jumping", "hopping", "bouncing", "leaping"),
    "floating": ("floating", "hovering", "flying", "drifting in the air", "levitating"),
    "dancing": ("dancing", "swaying", "performing", "rocking to and fro"),
    "spinning": ("spinning", "turning around", "rolling", "whirling"),
    "zoom": ("", "", "standing"),
}
CAMERA = ("the camera zooms in", "camera zoom", "slow zoom", "the camera comes closer", "close-up")
STYLES: dict[str, tuple[str, ...]] = {
    "3d": ("", "", "", "3d render", "3d style", "3d animation"),
    "oil": ("oil painting style", "oil painting", "painted in oil"),
    "pencil": ("pencil sketch style", "pencil sketch", "drawn in pencil", "pencil drawing"),
    "watercolour": ("watercolour style", "watercolour painting", "watercolor", "painted in watercolour"),
    "book": ("children's book style", "children's story book", "picture book illustration", "storybook style"),
}
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (206, 44, 40), "orange": (236, 132, 32), "yellow": (240, 206, 50), "green": (64, 160, 70),
    "blue": (52, 110, 214),
    "purple": (140, 74, 190), "pink": (238, 124, 172), "brown": (134, 86, 50), "black": (46, 46, 54),
    "white": (236, 238, 242), "golden": (222, 174, 60),
}  # fmt: skip
ADJECTIVES = ("", "", "", "", "", "cute", "little", "happy", "fat", "funny", "lovely", "young", "big")
_OPENINGS = ("a {}", "a {}", "a {}", "the {}", "one {}", "a video of a {}", "{}")
_NUMBERS = {2: ("two", "two", "a pair of"), 3: ("three", "three", "a group of three")}
_PLURALS = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "fish": "fish",
    "sheep": "sheep", "deer": "deer", "ox": "oxen", "wolf": "wolves", "fox": "foxes", "bus": "buses", "elf": "elves",
    "witch": "witches", "octopus": "octopuses", "walrus": "walruses", "bison": "bison", "shrimp": "shrimps",
    "butterfly": "butterflies", "bunny": "bunnies", "pony": "ponies", "puppy": "puppies", "kitty": "kitties",
    "fairy": "fairies", "fly": "flies", "baby": "babies", "compass": "compasses", "watch": "watches",
    "ostrich": "ostriches", "canary": "canaries", "ferry": "ferries", "lorry": "lorries",
    "rhinoceros": "rhinoceroses", "grizzly": "grizzlies", "ladybug": "ladybugs", "policeman": "policemen",
    "businessman": "businessmen", "spaceman": "spacemen", "princess": "princesses",
}  # fmt: skip
HELD_OUT_SHARE = 0.3


@dataclass(frozen=True)
class Scene:
    """What one picture or clip shows."""

    subjects: tuple[str, ...]  # names; the same twice or three times is a count
    place: str
    time: str = "day"
    motion: str = "still"
    style: str = "3d"
    weather: str = "none"
    colour: str = ""  # of the only subject

    @property
    def held_out(self) -> bool:
        """Whether the triple of subject, place and motion is kept out of training; always that of one subject."""
        name = f"{self.subjects[0]}/{self.place}/{self.motion}"
        held = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) < HELD_OUT_SHARE * 2**32
        return held and len(set(self.subjects)) == 1


def draw_scene(rng: random.Random) -> Scene:
    """Any scene that training may see."""
    table = subjects()
    names = list(table)
    while True:
        first, chance, place = rng.choice(names), rng.random(), rng.choice(list(PLACES))
        shown: tuple[str, ...] = (first,)
        colour = ""
        if chance < 0.04:
            shown = (first,) * 3
        elif chance < 0.1:
            shown = (first,) * 2
        elif chance < 0.18:
            shown = (first, rng.choice(names))
        elif chance < 0.36 and table[first].kind in ("animal", "vehicle"):
            colour = rng.choice(list(COLOURS))
        scene = Scene(
            shown,
            place,
            rng.choice(list(TIMES)),
            rng.choice(list(MOTIONS)),
            rng.choice((*STYLES, "3d", "3d")),
            "none" if place in NO_WEATHER or rng.random() < 0.75 else rng.choice(("rain", "snow", "fog")),
            colour,
        )
        if not scene.held_out:
            return scene


def write_caption(scene: Scene, rng: random.Random) -> str:
    """One of the many sentences that describe `scene`."""
    table = subjects()

    def said(name: str, count: int = 1) -> str:
        words = table[name].words
        noun = words[0] if rng.random() < 0.5 else rng.choice(words)
        adjective = rng.choice(ADJECTIVES) if rng.random() < 0.5 else ""
        return f"{adjective} {scene.colour} {noun if count == 1 else plural(noun)}"

    first, *others = scene.subjects
    if not others:
        opening = rng.choice(_OPENINGS).format(said(first))
    elif others[0] == first:
        count = len(scene.subjects)
        opening = f"{rng.choice(_NUMBERS[count])} {said(first, count)}"
    else:
        opening = f"a {said(first)} {rng.choice(('and', 'and', 'with', 'next to'))} a {said(others[0])}"
    verb = rng.choice(MOTIONS[scene.motion])
    through = scene.motion in ("walking", "running") and scene.place in THROUGH and rng.random() < 0.6
    place = rng.choice((THROUGH if through else PLACES)[scene.place])
    time, weather = rng.choice(TIMES[scene.time]), rng.choice(WEATHER[scene.weather])
    words = [opening, verb, place, time, weather]
    if not through and not verb and rng.random() < 0.2:
        words = [place, time, opening, weather]
    tails = [rng.choice(CAMERA)] if scene.motion == "zoom" and rng.random() < 0.8 else []
    tails.append(rng.choice(STYLES[scene.style]))
    rng.shuffle(tails)
    sentence = ", ".join(part for part in (" ".join(" ".join(words).split()), *tails) if part)
    return with_articles(sentence) + rng.choice(("", "", "."))


def plain_caption(scene: Scene) -> str:
    """The one that says each thing by its first words."""
    table = subjects()
    first, *others = scene.subjects
    if others and others[0] == first:
        who = f"{_NUMBERS[len(scene.subjects)][0]} {plural(first)}"
    else:
        nouns = [" ".join(f"{scene.colour} {table[name].name}".split()) for name in scene.subjects]
        who = " and ".join(f"a {noun}" for noun in nouns)
    verb = next((verb for verb in MOTIONS[scene.motion] if verb), "") if scene.motion not in ("still", "zoom") else ""
    through = scene.motion in ("walking", "running") and scene.place in THROUGH
    place = (THROUGH if through else PLACES)[scene.place][0]
    words = (who, verb, place, TIMES[scene.time][0], WEATHER[scene.weather][0])
    tails = (CAMERA[0] if scene.motion == "zoom" else "", next(filter(None, STYLES[scene.style])))
    return with_articles(", ".join(part for part in (" ".join(filter(None, words)), *tails) if part))


def plural(noun: str) -> str:
    """Of the head of `noun`: "woman with red hair" gives "women with red hair"."""
    words = noun.split(" ")
    at = next(
        (i - 1 for i, word in enumerate(words) if i and word in ("with", "of", "in", "that", "from")), len(words) - 1
    )
    if at == len(words) - 1 and words[0] in ("man", "woman", "person") and len(words) > 1 and words[-1].endswith("ing"):
        at = 0
    words[at] = _PLURALS.get(words[at], words[at] if words[at].endswith("s") else f"{words[at]}s")
    return " ".join(words)
