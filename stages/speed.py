"""What one stage gives up for time or memory: a frozen `Speed`, exact and unchanged by default.

A preset has one for each stage; a configuration or a command changes single knobs of it (`changed`). A value that
contradicts itself cannot be made; what the kind of a stage does not have is refused by `judge`, what a class
of diffusers or this machine does not have by `stages.model.hub.knobs`: before memory is taken. Knows nothing of torch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from stages.types import STAGE_NAMES, StageName

Offload = Literal["none", "model", "groups", "layers"]
OFFLOADS: tuple[Offload, ...] = ("none", "model", "layers")  # that every denoising stage has, the fastest first
Cache = Literal["none", "first_block", "mag", "taylorseer", "pyramid", "faster"]
Weights = Literal["as_published", "int8", "float8", "bnb8", "bnb4"]

PACKAGES: Mapping[str, str] = {
    "int8": "torchao",
    "float8": "torchao",
    "bnb8": "bitsandbytes",
    "bnb4": "bitsandbytes",
}  # that weights need
BITS: Mapping[str, int] = {"int8": 8, "float8": 8, "bnb8": 8, "bnb4": 4}  # of such a weight, beside a few scales
_TELLS_ALIKE = ("first_block", "mag")  # caches that skip where little changes; the others skip by count


class SpeedError(ValueError):
    """A `Speed` that cannot be: one sentence with both values and the next step."""


@dataclass(frozen=True)
class Speed:
    """Of one stage. All but `offload` change its bytes, and so are part of the digest of what it makes."""

    offload: Offload = (
        "none"  # where weights wait: whole models, groups of layers that come while others compute, layers
    )
    reuse_every: int = 1  # of the built-in video network: its deep layers are computed at every n-th step only
    cache: Cache = "none"  # of a pipeline: what its transformer need not compute anew at a step
    cache_threshold: float | None = None  # of first_block and mag: how much of a change is skipped; None: diffusers'
    cache_every: int | None = None  # of the other caches: how many steps share what was computed; None: diffusers'
    mag_ratios: tuple[float, ...] = ()  # of mag: how residuals shrink from step to step, measured for the weights
    compile: bool = False  # the repeated blocks of a pipeline's networks, by torch.compile
    attention: str = ""  # the backend of diffusers that computes attention; empty: its own choice
    weights: Weights = "as_published"  # of a pipeline's denoising networks, by torchao or bitsandbytes (bnb)
    gpus: int = 1  # that share one call of a pipeline, each a part of the sequence (context parallel, Ulysses)

    def __post_init__(self) -> None:
        if (told := _contradiction(self)) is not None:
            raise SpeedError(told)

    @property
    def turned(self) -> dict[str, Any]:
        """The knobs that are not where they are by default, as plain values: what `changed` takes."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    @property
    def inexact(self) -> dict[str, Any]:
        """Of them, those that change what a stage makes: without any, its bytes are those of `EXACT`."""
        return {name: value for name, value in self.turned.items() if name != "offload"}


def _contradiction(speed: Speed) -> str | None:
    turned = speed.turned
    least = {"reuse_every": (speed.reuse_every, 1), "cache_every": (speed.cache_every, 2), "gpus": (speed.gpus, 1)}
    for name, (value, allowed) in least.items():
        if value is not None and value < allowed:
            return f"{name} is {value}; it must be {allowed} or more, or left out"
    if speed.cache_threshold is not None:
        if speed.cache not in _TELLS_ALIKE:
            return f"cache_threshold is {speed.cache_threshold:g}, and cache {speed.cache!r} has none: leave it out"
        if not 0 < speed.cache_threshold < math.inf:
            return f"cache_threshold is {speed.cache_threshold:g}; it must be above 0, or cache 'none'"
    if speed.cache_every is not None and speed.cache in ("none", *_TELLS_ALIKE):
        return f"cache_every is {speed.cache_every}, and cache {speed.cache!r} has none: leave it out"
    if speed.cache == "mag" and not speed.mag_ratios:
        how = "measure them with `python -m benchmarks.speed --ratios`"
        return f"cache is 'mag' and mag_ratios has 0 numbers, which belong to the weights: {how}, or take another cache"
    if (odd := next((ratio for ratio in speed.mag_ratios if not 0 < ratio < math.inf), None)) is not None:
        return f"mag_ratios has {odd:g}; each must be above 0"
    if speed.mag_ratios and speed.cache != "mag":
        return f"mag_ratios has {len(speed.mag_ratios)} numbers, and cache {speed.cache!r} has none: leave them out"
    alone = next((name for name in turned if name not in ("gpus", "attention")), None)
    if speed.gpus > 1 and alone is not None:
        return f"gpus is {speed.gpus} and {alone} is {turned[alone]!r}; several GPUs share exact steps: leave out one"
    alone = next((name for name in ("compile", "weights", "reuse_every") if name in turned), None)
    if speed.offload == "groups" and speed.cache != "none":  # groups come in the order of a pass that skips nothing
        alone = "cache"
    if speed.offload in ("groups", "layers") and alone is not None:
        return f"offload is {speed.offload!r} and {alone} is {turned[alone]!r}; take offload 'model' or 'none' with it"
    return None


EXACT = Speed()


def judge(speed: Speed, stage: StageName, pipeline: str | None) -> None:
    """Whether the kind of the stage has these knobs. `pipeline`: the part that puts one in the stage's place, if any.

    Raises:
        SpeedError: it has not.
    """
    if stage == "vfi":
        has, what, more = {"offload"}, "interpolates", "leave it out"
    elif pipeline is not None:
        has, what = {field.name for field in fields(Speed)} - {"reuse_every"}, f"is the pipeline of part {pipeline!r}"
        more = "take a cache of diffusers"
    else:
        has = {"offload", "reuse_every"} if stage != "t2i" else {"offload"}
        what, more = "has a built-in network", "leave it out, or name a pipeline of diffusers in the preset"
    for field in fields(Speed):
        value = getattr(speed, field.name)
        if field.name not in has and value != field.default:
            raise SpeedError(f"speed of {stage}: {field.name} is {value!r}, and the stage {what} without that: {more}.")
    if pipeline is None and stage != "vfi" and speed.offload == "groups":
        raise SpeedError(
            f"speed of {stage}: offload is 'groups', and the stage {what}, which has 'model' and 'layers': take one."
        )


def changed(speed: Speed, told: Mapping[str, Any], where: str = "speed") -> Speed:
    """The same with other knobs, as a file or a command says them.

    Raises:
        SpeedError: an unknown knob, a value that it does not have, or a contradiction.
    """
    known = {field.name: field for field in fields(Speed)}
    read: dict[str, Any] = {}
    for name, value in told.items():
        if name not in known:
            raise SpeedError(f"{where} has {name!r}, which is no knob of it: choose from {', '.join(known)}.")
        read[name] = _read(f"{where}.{name}", name, value)
    try:
        return replace(speed, **read)
    except SpeedError as error:
        raise SpeedError(f"{where}: {error}.") from None


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "offload": get_args(Offload),
    "cache": get_args(Cache),
    "weights": get_args(Weights),
}


def _read(where: str, name: str, value: Any) -> Any:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise SpeedError(f"{where} is {value!r}; choose one of: {', '.join(_CHOICES[name])}.")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits, what = {
        "attention": (isinstance(value, str), "a name"),
        "compile": (isinstance(value, bool), "true or false"),
        "cache_threshold": (number or value is None, "a number"),
        "mag_ratios": (isinstance(value, list | tuple) and all(type(one) in (int, float) for one in value), "numbers"),
        "cache_every": (type(value) is int or value is None, "a whole number"),
    }.get(name, (type(value) is int, "a whole number"))
    if not fits:
        raise SpeedError(f"{where} is {value!r}; it must be {what}.")
    return tuple(float(one) for one in value) if name == "mag_ratios" else value


def from_words(words: Sequence[str]) -> dict[StageName, dict[str, Any]]:
    """What a command says: `i2v.cache=first_block` of one stage, `offload=model` of every.

    Raises:
        SpeedError: words of another form.
    """
    told: dict[StageName, dict[str, Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        stage, dot, knob = name.rpartition(".")
        if not equals or (dot and stage not in STAGE_NAMES):
            raise SpeedError(f"--speed {word} is not of the form i2v.cache=first_block or offload=model.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        for one in STAGE_NAMES:
            if not dot or one == stage:
                told.setdefault(one, {})[knob] = value
    return told
