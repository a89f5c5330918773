"""Training: `python -m stages.training` makes the tiny weights from nothing; with a command, a user trains on own data.

    python -m stages.training [--effort 1.0] [--cache DIR] [--install]     the tiny weights; `make train`
    python -m stages.training manifest FOLDER --out clips.jsonl            list clips that have captions beside them
    python -m stages.training i2v --preset paper --data clips.jsonl --out DIR      also: v2v, control, appearance
    python -m stages.training refl --data prompts.txt --out DIR                    human feedback by a reward
    python -m stages.training dpo --data pairs.jsonl --out DIR                     human feedback by preference
    python -m stages.training vfi [--videos FOLDER]                                the interpolation GAN

On several GPUs: `accelerate launch --multi_gpu --num_processes 8 -m stages.training i2v ...`. Every run goes on where
it stopped.
"""

import sys
import warnings

from stages.commands import reports_errors
from stages.training.arguments import parse
from stages.training.judging import judge, write_list


def run(words: list[str]) -> int:
    """The command; returns the exit status."""
    args = parse(words)
    judge(args)
    if args.command == "manifest":
        write_list(args)
        return 0
    from stages.training import commands  # torch and diffusers take seconds: what is wrong is told before that

    warnings.filterwarnings("ignore", module="diffusers|transformers|huggingface_hub")
    commands.run(args)
    return 0


main = reports_errors(run, "Interrupted; started again, it goes on from the last checkpoint.")

if __name__ == "__main__":
    sys.exit(main())
