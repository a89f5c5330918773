"""What `quality` asks for: scenes whose triple of subject, place and motion no training has seen.

Takes a number and a seed, gives scenes in which every name comes about as often as any other. Knows nothing of models.
"""

import itertools
import random

from stages.training.scenes.captions import MOTIONS, PLACES, SUBJECTS, TIMES, Scene

FIRST_SUBJECTS, FIRST_PLACES = 24, 6  # of the lists, what the first set of weights knew
MOST_REFUSED = 1000  # draws in a row


def asked(count: int, seed: str = "quality") -> list[Scene]:
    """`count` held-out scenes; every subject, place and motion comes about as often as any other."""
    return next(chosen for turn in itertools.count() if (chosen := _dealt(count, random.Random(f"{seed}/{turn}"))))


def _dealt(count: int, rng: random.Random) -> list[Scene]:
    """Names are dealt like cards until every hand is empty; nothing where the last cards make no held-out scene."""
    chosen: list[Scene] = []
    rows: dict[str, list[str]] = {"subject": [], "place": [], "motion": []}
    refused = 0
    while len(chosen) < count and refused < MOST_REFUSED:
        for axis, everything in (("subject", SUBJECTS), ("place", PLACES), ("motion", MOTIONS)):
            if not rows[axis]:
                rows[axis] = rng.sample(list(everything), len(everything))
        style = rng.choices(("3d", "oil", "pencil"), (2, 1, 1))[0]
        scene = Scene(rows["subject"][-1], rows["place"][-1], rng.choice(list(TIMES)), rows["motion"][-1], style)
        if not scene.held_out or seen_before(scene) or scene in chosen:
            for names in rows.values():
                names.insert(rng.randrange(len(names)), names.pop())
            refused += 1
            continue
        chosen.append(scene)
        for names in rows.values():
            names.pop()
        refused = 0
    return chosen if len(chosen) == count else []


def seen_before(scene: Scene) -> bool:
    """Whether the first set of weights, which these were trained on from, may have seen the scene's triple: it held out
    by another rule."""
    subjects, places = list(SUBJECTS)[:FIRST_SUBJECTS], list(PLACES)[:FIRST_PLACES]
    return scene.motion == "still" and scene.subject in subjects and scene.place in places
