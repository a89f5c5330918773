"""Prompts into what cross-attention reads: a CLIP text encoder and its tokenizer.

Takes strings, gives (N, L, C) states. Unknown words become bytes, never an error; what is longer than the encoder's
context is cut, with a warning. Knows nothing of guidance.
"""

import logging
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from transformers import CLIPTextModel

from stages.model.weights.loading import load_module, load_tokenizer
from stages.presets import Preset

log = logging.getLogger(__name__)


def tokenize(tokenizer: Any, texts: Sequence[str], context: int) -> Tensor:
    """(N, context) token ids, padded."""
    ids: Tensor = tokenizer(
        list(texts), padding="max_length", max_length=context, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


class TextEncoder:
    """A tokenizer and a CLIPTextModel."""

    def __init__(self, tokenizer: Any, model: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self.context = int(model.config.max_position_embeddings)

    @classmethod
    def load(cls, preset: Preset, device: str, dtype: torch.dtype) -> Self:
        """From the parts `tokenizer` and `text_encoder`.

        Raises:
            WeightsError: one of them is missing or broken.
        """
        return cls(
            load_tokenizer(preset, "tokenizer"), load_module(preset, "text_encoder", CLIPTextModel, device, dtype)
        )

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, L, C): the last hidden states."""
        for text in texts:
            if (length := len(self.tokenizer(text).input_ids)) > self.context:
                log.warning(
                    "The prompt has %d tokens, the text encoder reads %d; its end is not seen.", length, self.context
                )
        ids = tokenize(self.tokenizer, texts, self.context)
        states: Tensor = self.model(ids.to(self.model.device))[0]
        return states
