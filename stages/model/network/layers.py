"""The layers of diffusers' video UNets and ControlNets, each piece of work done once.

Takes the modules as they are, and `Frames`: features in which copies and frames that are still equal stand only once.
The two halves of classifier-free guidance are equal until they first hear the text, frames without a picture of
SparseCtrl until the first motion module. Keys and values of text and reference are made once a request (`Tokens`). On a
CPU attention and feed-forward run in chunks that stay in the cache. Every row is computed by the operations that the
modules' own `forward` uses, so the results are theirs. Knows nothing of steps, requests or schedules.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_VALUES = 524_288  # numbers in the features of one chunk on a CPU, 2 MB in float32
FEED_VALUES = 65_536  # the same for the feed-forward, whose inside is eight times wider
FEED_ROWS = 512  # the least of a feed-forward's chunk: fewer rows cost more than the cache saves


COUNTED_AS: ContextVar[str] = ContextVar("COUNTED_AS", default="")  # the device that meta tensors stand for


def on_cpu(states: Tensor) -> bool:
    """Whether a CPU computes with them, or is asked about."""
    return states.device.type == "cpu" or (states.is_meta and COUNTED_AS.get() == "cpu")


@dataclass(frozen=True)
class Frames:
    """(copies·B·f, C, h, w): `copies` of B requests of f frames, as far as they differ by now.

    `places` says where each of the F frames stands among the f; empty: all of them stand.
    """

    states: Tensor
    copies: int
    places: tuple[int, ...] = ()

    def apart(self, copies: int) -> "Frames":
        """With the text's copies standing apart."""
        if self.copies == copies:
            return self
        return replace(self, states=self.states.repeat(copies, 1, 1, 1), copies=copies)

    def every(self) -> "Frames":
        """With every frame standing for itself."""
        if not self.places:
            return self
        count = max(self.places) + 1
        return Frames(torch.unflatten(self.states, 0, (-1, count))[:, self.places].flatten(0, 1), self.copies)

    def __add__(self, other: "Frames") -> "Frames":
        copies = max(self.copies, other.copies)
        one, two = self.apart(copies), other.apart(copies)
        if one.places != two.places:
            one, two = one.every(), two.every()
        return replace(one, states=one.states + two.states)

    def map(self, layer: Callable[[Tensor], Tensor]) -> "Frames":
        """After `layer`, which treats every row alone."""
        return replace(self, states=layer(self.states))

    def map_whole(self, layer: Callable[[Tensor], Tensor], copies: int) -> "Frames":
        """The same for a layer that rounds by the number of its rows, as a CPU's 1x1 convolutions do."""
        if not on_cpu(self.states) or (self.copies == copies and not self.places):
            return self.map(layer)
        made = layer(self.every().apart(copies).states)
        made = made[: len(made) * self.copies // copies]
        if self.places:
            firsts = [self.places.index(place) for place in range(max(self.places) + 1)]
            made = torch.unflatten(made, 0, (-1, len(self.places)))[:, firsts].flatten(0, 1)
        return replace(self, states=made)


class Tokens:
    """What text (k·B, L, C) and reference tell each cross-attention, computed when it first asks."""

    def __init__(self, text: Tensor, image: list[Tensor] | None) -> None:
        self._text = text
        self._image = image or []
        self._told: dict[Any, list[tuple[Tensor, Tensor]]] = {}

    def of(self, attention: Any) -> list[tuple[Tensor, Tensor]]:
        """Keys and values, (k·B, heads, L, d) each: the text's, then every reference's."""
        if attention not in self._told:
            sources = [(self._text, attention.to_k, attention.to_v)]
            if reads_pictures(attention):
                processor = attention.processor
                sources += zip(self._image, processor.to_k_ip, processor.to_v_ip, strict=True)
            self._told[attention] = [
                (_heads(attention, to_k(tokens)), _heads(attention, to_v(tokens))) for tokens, to_k, to_v in sources
            ]
        return self._told[attention]

    def forget(self) -> list[Any]:
        """Drop all keys and values; gives the attentions that had asked for them."""
        asked, self._told = list(self._told), {}
        return asked


@dataclass(frozen=True)
class Call:
    """What all layers of one network share at one step, for k copies of B requests of F frames."""

    copies: int
    frames: int
    time: Tensor  # the embedded timestep: (1, D), or (k·B, D) where text is told beside it
    tokens: Tokens
    motion: bool = True

    def times(self, rows: int) -> Tensor:
        """(rows, D) for the rows of `Frames` whose copies stand as far apart as their times do."""
        return self.time.repeat_interleave(rows // len(self.time), 0)


def reads_pictures(attention: Any) -> bool:
    """Whether an attention is decoupled: one part for the text, one for the reference."""
    return hasattr(attention.processor, "to_k_ip")


def resnet(layer: Any, frames: Frames, call: Call) -> Frames:
    """A ResnetBlock2D; where text is told beside the time, the copies stand apart afterwards."""
    if len(call.time) > 1:
        frames = frames.apart(call.copies)

    def run(states: Tensor) -> Tensor:
        made: Tensor = layer(states, call.times(len(states)))
        return made

    return frames.map(run) if layer.conv_shortcut is None else frames.map_whole(run, call.copies)


def spatial(layer: Any, frames: Frames, call: Call) -> Frames:
    """A Transformer2DModel; the copies stand apart afterwards."""
    height, width = frames.states.shape[2:]
    opened = frames.map(layer.norm)
    if layer.use_linear_projection:
        states = layer.proj_in(opened.states.permute(0, 2, 3, 1).flatten(1, 2))
    else:
        states = opened.map_whole(layer.proj_in, call.copies).states.permute(0, 2, 3, 1).flatten(1, 2)  # (rows, h·w, C)
    frames = frames.apart(call.copies)
    each = max(frames.places) + 1 if frames.places else call.frames
    for block in layer.transformer_blocks:
        states = _cat([_attend_self(block, part) for part in _chunks(states)])
        if len(states) < len(frames.states):
            states = states.repeat(len(frames.states) // len(states), 1, 1)
        owners = torch.arange(len(states), device=states.device) // each
        parts = zip(_chunks(states), owners.tensor_split(_count(states, CHUNK_VALUES)), strict=True)
        states = _cat([_feed(block, _attend_told(block, part, owner, call.tokens)) for part, owner in parts])
    if layer.use_linear_projection:
        states = layer.proj_out(states).unflatten(1, (height, width)).permute(0, 3, 1, 2).contiguous()
    else:
        states = layer.proj_out(states.unflatten(1, (height, width)).permute(0, 3, 1, 2).contiguous())
    return replace(frames, states=states.add_(frames.states))


def temporal(layer: Any, frames: Frames, call: Call) -> Frames:
    """An AnimateDiffTransformer3D: each pixel looks along time. Every frame stands for itself afterwards."""
    frames = frames.every()
    if not call.motion:
        return frames
    clips = torch.unflatten(frames.states, 0, (-1, call.frames)).permute(0, 2, 1, 3, 4)  # (B, C, F, h, w)
    batch, channels, count, height, width = clips.shape
    normed = layer.norm(clips).permute(0, 3, 4, 2, 1).reshape(-1, count, channels)
    done = []
    for part in _chunks(normed):
        states = layer.proj_in(part)
        for block in layer.transformer_blocks:
            states = _attend_self(block, states)
            if block.attn2 is not None:
                states = _attend_again(block, states)
            states = _feed(block, states)
        done.append(layer.proj_out(states))
    moved = _cat(done).view(batch, height, width, count, channels).permute(0, 3, 4, 1, 2)
    return replace(frames, states=moved.contiguous().flatten(0, 1).add_(frames.states))


def _attend_self(block: Any, states: Tensor) -> Tensor:
    return _attention(block.attn1, _positioned(block, block.norm1(states))).add_(states)


def _attend_again(block: Any, states: Tensor) -> Tensor:
    return _attention(block.attn2, _positioned(block, block.norm2(states))).add_(states)


def _attend_told(block: Any, states: Tensor, owners: Tensor, tokens: Tokens) -> Tensor:
    """`owners` says for each row of `states` (rows, h·w, C) which of the k·B texts it reads."""
    attention = block.attn2
    query = _heads(attention, attention.to_q(block.norm2(states)))
    (key, value), *pictures = tokens.of(attention)
    mixed = _join(F.scaled_dot_product_attention(query, key[owners], value[owners]))
    for (key, value), scale in zip(pictures, attention.processor.scale if pictures else (), strict=True):
        if scale:
            mixed = mixed + scale * _join(F.scaled_dot_product_attention(query, key[owners], value[owners]))
    told: Tensor = attention.to_out[0](mixed)
    return told.add_(states)


def _feed(block: Any, states: Tensor) -> Tensor:
    rows = block.norm3(states).flatten(0, 1)
    count = min(_count(rows, FEED_VALUES), max(1, len(rows) // FEED_ROWS))
    fed = _cat([block.ff(part) for part in rows.tensor_split(count)])
    return fed.view(states.shape).add_(states)


def _attention(attention: Any, states: Tensor) -> Tensor:
    query, key, value = (_heads(attention, to(states)) for to in (attention.to_q, attention.to_k, attention.to_v))
    mixed: Tensor = attention.to_out[0](_join(F.scaled_dot_product_attention(query, key, value)))
    return mixed


def _positioned(block: Any, states: Tensor) -> Tensor:
    placed: Tensor = states if block.pos_embed is None else block.pos_embed(states)
    return placed


def _heads(attention: Any, states: Tensor) -> Tensor:
    """(rows, ..., heads·d) -> (rows, heads, positions, d)."""
    return states.reshape(len(states), -1, attention.heads, states.shape[-1] // attention.heads).transpose(1, 2)


def _join(states: Tensor) -> Tensor:
    """(rows, heads, positions, d) -> (rows, positions, heads·d)."""
    return states.transpose(1, 2).flatten(2)


def _count(states: Tensor, values: int) -> int:
    """Into how many chunks of about `values` numbers to cut the rows; only a CPU's cache asks for more than one."""
    return min(len(states), -(-states.numel() // values)) if on_cpu(states) else 1


def _chunks(states: Tensor) -> tuple[Tensor, ...]:
    return states.tensor_split(_count(states, CHUNK_VALUES))


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
