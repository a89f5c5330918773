"""The subjects' names in other languages, from the Unicode CLDR's emoji names (npm package `emojibase-data`, MIT).

An emoji's name is the subject's; of its keywords those that stand within the name, and for a few subjects those that
two emoji of the same animal share. Gives language -> name -> subject, and the small words that tell a language.
"""

import json
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from stages.training.scenes.captions import SUBJECTS
from stages.training.scenes.fetch import fetch_archive

EMOJI = ("emojibase-data@17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
_LANGUAGES = "bn da de es es-mx et fi fr hi hu it ja ko lt ms nb nl pl pt ru sv th uk vi zh zh-hant"
_FACE = re.compile(
    "^(rosto de|cara de|tête de|faccina di|głowa|морда|голова|mặt) |"
    " (얼굴|का चेहरा|जैसा चेहरा|चेहरा|nägu|snukis|snukutis|veidas)$"
    "|の顔$|(?<=...)(ansikte|hoved|fej)$"
)
_NO_NAME = re.compile(
    "hallow|ハロウィン|할로윈|ฮาโลวีน|灯|latern|žibint|tanglung|ліхтар$|lykta|lồng|lantaarn|जैक|कंदील|জ্যাক|লণ্ঠন"
)
_LABEL_ALONE = ("christmas tree", "flying saucer", "teddy bear", "alien", "sloth", "unicorn", "ladybug", "bee")
_LONGEST = ("snowman", "train")  # of their keywords the longest alone is a name
# another emoji of the same animal, whose keywords in common are names
_TWINS = {"rabbit": "1F430", "cat": "1F431", "dog": "1F436", "dinosaur": "1F995"}
_NO_TWIN = ["nagetier", "домашнее", "miau", "miaou", "kihalt", "felino", "wau", "wuff", "汪星人"]
_MANY = 4  # emoji besides: a keyword of more is too general

# articles, prepositions, pronouns; behind "|" what denies
SMALL = {
    "da": "en et den det i på og med til under over af | ikke uden ingen intet",
    "de": "ein eine einen einem einer der die das den dem im in auf und mit zu durch am vom über unter ist bei | "
    "nicht ohne kein keine keinen",
    "es": "un una el la los las en de del con por y sobre bajo al que está | no sin ningún ninguna",
    "et": "ja on üks see kes metsas rannas öösel | ei pole ilma",
    "fi": "ja on yksi joka se metsässä rannalla yöllä | ei ilman",
    "fr": "un une le la les des dans de du avec sur et au aux qui sous par est d'un | sans pas aucun aucune",
    "hu": "egy az és a ban ben van erdőben éjjel | nem nincs nélkül",
    "it": "un una uno il lo la gli le nel nella di del con su per e al che sulla sotto è | non senza nessun",
    "lt": "ir yra su ant miške po per | ne be nėra",
    "ms": "sebuah seekor di dan yang dengan ke dalam atas | tidak tanpa bukan",
    "nb": "en et ei den det i på og med til under over av | ikke uten ingen",
    "nl": "een de het in op en met door van bij onder over is | niet zonder geen",
    "pl": "w na i z ze przez pod nad jest do po | nie bez",
    "pt": "um uma o a os as no na em de do da com por e sobre que | não sem nenhum nenhuma",
    "ru": "в на и с со под над по у из через | не без нет",
    "sv": "en ett den det i på och med till under över av som | inte utan ingen inga",
    "uk": "в у на і й з із під над по через та | не без немає",
    "vi": "một con trong trên và với dưới qua đang | không chẳng",
    "hi": "एक में पर और के की का से | नहीं बिना",
    "bn": "একটি একটা এবং উপর মধ্যে | না নেই ছাড়া",
    "ja": "| ない なし いません",
    "zh": "| 没有 不 无",
    "zh-hant": "| 沒有 不 無",
    "ko": "| 없는 없이 않",
    "th": "| ไม่",
}  # fmt: skip


def names_of_subjects(
    cache_folder: Path, codes: Mapping[str, str] = SUBJECTS, alone: Collection[str] = _LABEL_ALONE
) -> dict[str, dict[str, str]]:
    """language -> name in lower case -> subject, of `codes`: subject -> code points; fetches the names on first use.

    Keywords within its label are no names of a subject of `alone`.
    """
    with tarfile.open(fetch_archive(*EMOJI, cache_folder / "data")) as archive:
        found: dict[str, dict[str, str]] = {}
        for language in _LANGUAGES.split():
            file = archive.extractfile(f"package/{language}/compact.json")
            assert file is not None
            emoji = {entry["hexcode"].replace("-FE0F", ""): entry for entry in json.load(file)}
            own = dict(_names(emoji, codes, alone))
            found[language] = {name: own[name] for name in sorted(own, key=lambda name: (-len(name), name))}
    return found


def _names(
    emoji: Mapping[str, dict[str, object]], subjects: Mapping[str, str], alone: Collection[str]
) -> Iterator[tuple[str, str]]:
    labels = {code: str(entry["label"]).lower() for code, entry in emoji.items()}
    tags = {code: {str(tag).lower() for tag in _tags(entry)} for code, entry in emoji.items()}
    codes = {subject: _code(code) for subject, code in subjects.items()}
    codes = {subject: code for subject, code in codes.items() if code in emoji}
    for subject, code in codes.items():
        label = re.sub(r"\(.*\)|,.*", "", labels[code]).strip()
        twin = _TWINS.get(subject, "")
        inside = []
        for tag in sorted(tags[code]):
            family = {code, twin}
            others = sum(tag in its for at, its in tags.items() if at not in family)
            foreign = any(tag in labels[at] for name, at in codes.items() if name != subject)
            stem = tag if re.search("[\u0e00-\u0e7f\u3040-\ud7af]", tag) else tag[: max(3, len(tag) - 2)]
            general = any(tag in tags[at] for name, at in codes.items() if name != subject)
            if stem in label and " " not in tag and not foreign and others <= _MANY and not _NO_NAME.search(tag):
                inside.append(tag)
            elif twin in tags and tag in tags[twin] and not foreign and tag not in _NO_TWIN and not general:
                yield tag, subject
        if subject in _LONGEST:
            inside = sorted(inside, key=len)[-1:]
        for name in {_FACE.sub("", label), *(inside if subject not in alone else ())}:
            if len(name) > 1 or not name.isascii():
                yield name, subject


def _tags(entry: Mapping[str, object]) -> list[str]:
    found = entry.get("tags", [])
    assert isinstance(found, list)
    return found


def _code(code: str) -> str:
    return code.upper().replace("-FE0F", "")
