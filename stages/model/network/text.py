"""Prompts into what a UNet reads of them: a CLIP text encoder and its tokenizer.

Takes strings, gives a `Text`; `beside_time` makes of it what a UNet of SDXL's kind hears beside the time. Unknown words
become bytes, never an error; what is longer than the encoder's context is cut, with a warning. Knows nothing of
guidance.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Text:
    """What a text encoder makes of N prompts."""

    states: Tensor  # (N, L, C): the last hidden states, for cross-attention
    pooled: Tensor  # (N, C): the state where each prompt ends


def read(model: Any, tokenizer: Any, texts: Sequence[str]) -> Text:
    """`texts` by a CLIPTextModel; with gradients."""
    ids = tokenize(tokenizer, texts, int(model.config.max_position_embeddings))
    states, pooled = model(ids.to(model.device))[:2]
    return Text(states, pooled)


def beside_time(unet: Any, pooled: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """What `unet` hears beside the time, by the names of diffusers' `added_cond_kwargs`: nothing, or the pooled text
    (N, C) and the height and width in pixels of what it draws, as `stages.model.weights.fit` wants it.

    Args:
        size: (width, height) in pixels.
    """
    if unet.config.addition_embed_type != "text_time":
        return {}
    ids = torch.tensor([size[::-1]] * len(pooled), dtype=torch.float32, device=pooled.device)
    return {"text_embeds": pooled, "time_ids": ids}


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
    def encode(self, texts: Sequence[str]) -> Text:
        """Without gradients; warns of texts that are cut."""
        for text in texts:
            if (length := len(self.tokenizer(text).input_ids)) > self.context:
                log.warning(
                    "The prompt has %d tokens, the text encoder reads %d; its end is not seen.", length, self.context
                )
        return read(self.model, self.tokenizer, texts)
