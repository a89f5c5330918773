"""Which of diffusers' video pipelines run behind I2V and V2V: `python -m benchmarks.adapters [--quick]`.

Every class of the installed diffusers that is given a picture or a video and makes frames is tried: built tiny and run
through its stage with every frame, size and step as asked, or refused by its name before a file is looked at.

    classes_all      how many there are
    classes_run      of them, built and run
    classes_failed   neither: it ran otherwise than asked, raised, or stands in no table

`--quick` tries those alone that take no build: the refused ones.
"""

import logging
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.tools.result import parser_of, result
from stages.model.hub.classes import REFUSED, video_classes
from tests.stages.modern.rig import Shelf
from tests.stages.modern.trials import try_class


def main() -> None:
    """The command."""
    args = parser_of("adapters", __doc__ or "", quick="the refused classes alone").parse_args()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    names = sorted(set(video_classes()) & set(REFUSED) if args.quick else video_classes())
    became: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "shelf")
        for number, name in enumerate(names):
            try:
                told = try_class(shelf, Path(folder) / str(number), name)
            except Exception as error:  # whatever a pipeline raises, it failed
                told = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            became[told.partition(":")[0]] += 1
            print(f"{name:<45} {told}", flush=True)
    result(
        "adapters",
        {"classes_all": len(names), "classes_run": became["runs"], "classes_failed": became["failed"]},
    )


if __name__ == "__main__":
    main()
