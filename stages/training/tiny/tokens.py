"""The tiny tokenizer: CLIP's byte-level BPE, learnt from the captions.

Every word of a caption becomes one token; any other text becomes bytes, so no prompt can crash it. Gives a folder in
the hub's layout. Knows nothing of models.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from stages.training.scenes.captions import all_scenes, write_caption
from stages.training.tiny.networks import TEXT_CONTEXT

_CAPTIONS = 30_000
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(out: Path, captions: Sequence[str] = (), size: int = 2000) -> Any:
    """Learn `size` tokens from `captions`, save under `out`, and load as every user loads it."""
    from transformers import CLIPTokenizer

    if not captions:
        rng = random.Random(0)
        captions = [write_caption(scene, rng) for scene in rng.choices(all_scenes(), k=_CAPTIONS)]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        captions,
        trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False),
    )
    learnt = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learnt["merges"]]
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in merges), BOS, EOS]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = CLIPTokenizer(
        vocab=vocabulary, merges=merges, bos_token=BOS, eos_token=EOS, unk_token=EOS, pad_token=EOS,
        model_max_length=TEXT_CONTEXT,
    )  # fmt: skip
    tokenizer.save_pretrained(out)
    return CLIPTokenizer.from_pretrained(out)
