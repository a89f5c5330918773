"""Numbers of sets of videos: `python -m stages measure ours/ theirs/ [--json]`.

A set is a folder of mp4s; those of one name belong together, and NAME.png is the picture that NAME.mp4 was to begin
with. Printed are each set's means, VMAF of two sets' videos of one name, and Frechet distances on features of our
judges where these were trained. More by `--measure module:function`, which is given frames, rate and prompt.
"""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from client._shell.ending import Parser
from stages.base import InputError
from stages.commands import ENDS
from stages.measures.plugs import MeasureError, plugged


def run(words: list[str]) -> int:
    """The command; returns the exit status."""
    about = (__doc__ or "").partition("\n")[0]
    parser = Parser(prog="python -m stages measure", description=about, epilog=ENDS)
    parser.add_argument("sets", nargs="+", type=Path, metavar="FOLDER", help="mp4s of one system")
    parser.add_argument("--measure", action="append", default=[], metavar="MODULE:FUNCTION", help="one of your own")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="JSON: the prompt of each name, for those")
    parser.add_argument("--json", action="store_true", help="print every number as one JSON document")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin ends")
    args = parser.parse_args(words)
    if args.with_parent:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        more = [plugged(path) for path in args.measure]
        prompts = json.loads(args.prompts.read_text()) if args.prompts else {}
        from stages.measures.sets import Found, measure_sets
        from stages.training.scenes.fetch import cache_folder
        from stages.training.tiny.judges import judges_folder

        found: Found = measure_sets(args.sets, judges_folder(cache_folder()), more, prompts)
    except (MeasureError, OSError) as error:
        raise InputError(str(error)) from error
    if args.json:
        print(json.dumps(asdict(found)))
        return 0
    for name, videos in found.videos.items():
        print(f"{name}: {len(videos)} videos, {_said(_means(videos))}")
    for a, b in dict.fromkeys((one["a"], one["b"]) for one in found.pairs):
        own = [one["vmaf"] for one in found.pairs if (one["a"], one["b"]) == (a, b)]
        print(f"{a} against {b}: VMAF {fmean(own):.1f}, mean of {len(own)}")
    for one in found.sets:
        print(f"{one['a']} against {one['b']}: {_said({k: v for k, v in one.items() if k not in 'ab'})}")
    for note in found.notes:
        print(note)
    return 0


def _means(videos: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for numbers in videos.values() for name in numbers)
    return {name: fmean(numbers[name] for numbers in videos.values() if name in numbers) for name in names}


def _said(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def _end_with_stdin() -> None:
    while os.read(0, 4096):  # a buffered read would hold a lock that Python wants when it ends
        pass
    os._exit(1)
