"""The one table: everything that differs between the laptop and the paper, and the parameters that follow from it.

`tiny` is embedded: trained here, committed, good for a CPU. `paper` has the published sizes and public hub weights;
`paper-fast` is the same with AnimateLCM, in six steps. `modern`, `kandinsky-6` and `ltx-2` put models of today, whole
pipelines of the hub, in the place of T2I, I2V and V2V. All run through the same classes; a part is replaced by one
line: `replace(PAPER, parts=...)`. `plan()` turns a request into the frozen parameters of each stage, and is the only
place where a request is judged against a preset; every message names the value and what is allowed.

Takes and gives plain frozen dataclasses (`stages.settings`). Knows nothing of torch, Ray or HTTP.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from stages.modern import KANDINSKY_6, LTX_2, MODERN
from stages.paper import PAPER, PAPER_FAST
from stages.settings import (
    Asked,
    Control,
    Denoising,
    DTypeName,
    Guide,
    I2VParams,
    Lora,
    Part,
    Plan,
    Preset,
    Prior,
    RequestError,
    SchedulerName,
    Sizes,
    StageParams,
    T2IParams,
    V2VParams,
    VFIParams,
    Windows,
)
from stages.types import StageName
from stages.words import cut_prompt, load_vocabulary, read_prompt

__all__ = [
    "DRAWN_SEEDS",
    "KANDINSKY_6",
    "LTX_2",
    "MAX_PROMPT_CHARS",
    "MAX_SEED",
    "MODERN",
    "PAPER",
    "PAPER_FAST",
    "PRESETS",
    "TINY",
    "WEIGHTS",
    "Control",
    "DTypeName",
    "Denoising",
    "Guide",
    "I2VParams",
    "Lora",
    "Part",
    "Plan",
    "Preset",
    "Prior",
    "RequestError",
    "SchedulerName",
    "Sizes",
    "StageParams",
    "T2IParams",
    "V2VParams",
    "VFIParams",
    "Windows",
    "check_prompt",
    "check_subject",
    "get_preset",
    "plan",
]

WEIGHTS = Path(__file__).resolve().parent / "weights"  # the committed ones, `embedded:` in a part's source
MAX_PROMPT_CHARS = 1000
_SHOWN_CHARS = 120  # of a prompt, in a message
MAX_FACTOR = 8
MAX_SEED = 2**63 - 1
DRAWN_SEEDS = 2**31  # those that nobody gave stay below, so that JavaScript and 32-bit tools can hold them


def _embedded(folder: str) -> Part:
    return Part(f"embedded:tiny/{folder}", "Apache-2.0")


_TINY_NOISE = Denoising(
    scheduler="dpmpp_2m", steps=14, guidance=3.0, beta_schedule="scaled_linear", prediction_type="v_prediction"
)
TINY = Preset(
    name="tiny",
    dtype="float32",
    parts=MappingProxyType(
        {
            "vae": _embedded("vae"),
            "text_encoder": _embedded("text_encoder"),
            "tokenizer": _embedded("tokenizer"),
            "unet": _embedded("unet"),
            "unet_video": _embedded("unet_video"),
            "motion": _embedded("motion"),
            "motion_v2v": _embedded("motion_v2v"),
            "image_encoder": _embedded("image_encoder"),
            "appearance": _embedded("appearance"),
            "control": _embedded("control"),
            "control_v2v": _embedded("control_v2v"),
            "flow": Part("embedded:rife", "MIT"),
            "gan": Part("embedded:gan", "Apache-2.0"),
        }
    ),
    sizes=MappingProxyType({"256x256": Sizes(t2i=(256, 256), i2v=(128, 128), v2v=(256, 256))}),
    keyframes=MappingProxyType({"2": 16, "1": 8, "4": 32, "8": 64}),
    keyframe_fps=8.0,
    vfi_factor=3,
    t2i=_TINY_NOISE,
    i2v=replace(_TINY_NOISE, steps=12, guidance=2.0),
    v2v=replace(_TINY_NOISE, steps=12, guidance=2.0),
    prior=Prior(weight=1.0, decay=0.0, shared=0.0),
    i2v_guide=Guide(image_scale=0.0, controls=(Control("control"),)),  # these weights' appearance encoder is dead
    v2v_guide=Guide(image_scale=0.0, controls=(Control("control_v2v"),)),
    strength=0.3,
    i2v_windows=Windows(length=16, overlap=5),
    v2v_windows=Windows(length=10, overlap=3),
    reads=30,
    vocabulary="tiny/words.json",
)
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for preset in (TINY, PAPER, PAPER_FAST, MODERN, KANDINSKY_6, LTX_2)}
)


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in PRESETS:
        raise RequestError("model", f"Unknown preset {name!r}; choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


def check_prompt(prompt: str) -> str:
    """The prompt without surrounding space.

    Raises:
        RequestError: it is empty or longer than `MAX_PROMPT_CHARS`.
    """
    text = prompt.strip()
    if not text:
        raise RequestError("prompt", "The prompt is empty; say in a few words what the video shows.")
    if len(text) > MAX_PROMPT_CHARS:
        raise RequestError(
            "prompt", f"The prompt has {len(text)} characters, the limit is {MAX_PROMPT_CHARS}; shorten it."
        )
    return text


def check_subject(preset: Preset, prompt: str) -> None:
    """Refuse a prompt of which T2I would draw noise.

    Raises:
        RequestError: the preset has a vocabulary, and the prompt names no subject of it.
    """
    if not preset.vocabulary:
        return
    reading = read_prompt(WEIGHTS / preset.vocabulary, prompt.strip())
    if reading.without_subject:
        near = "".join(
            f" Like {theirs!r} it knows {' and '.join(map(repr, ours))}." for theirs, ours in reading.near[:2]
        )
        examples = " or ".join(map(repr, load_vocabulary(WEIGHTS / preset.vocabulary).examples))
        raise RequestError(
            "prompt",
            f"Preset {preset.name!r} knows nothing to draw of {_shortened(prompt.strip())!r}.{near} "
            f"Name one thing, in English, as in {examples}.",
        )


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS].rstrip()} ..."


def _cut(preset: Preset, text: str, of: str = "") -> tuple[str, str]:
    """What the text encoder has room for, and what is said of the rest; `of` names a text that is not the prompt."""
    if not preset.reads:
        return text, ""
    text, behind = cut_prompt(text, preset.reads)
    said = f"{of}This model reads only the first {preset.reads} words and signs; behind them stands {behind!r}."
    return text, said if behind else ""


def _check_noise(preset: Preset, of: str, steps: int | None, guidance: float | None) -> None:
    """`of` stands before the name of a value that is one stage's."""
    if steps is not None and not 1 <= steps <= preset.max_steps:
        told = f"{of}steps is {steps}; it must be between 1 and {preset.max_steps}."
        raise RequestError("stages" if of else "steps", told)
    if guidance is not None and not 1.0 <= guidance <= 30.0:
        told = f"{of}guidance is {guidance:g}; it must be between 1 and 30."
        raise RequestError("stages" if of else "guidance", told)


def plan(
    preset: Preset,
    prompt: str,
    *,
    seed: int = 0,
    negative_prompt: str = "",
    size: str | None = None,
    seconds: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    stages: Mapping[StageName, Asked] | None = None,
    factor: int | None = None,
) -> Plan:
    """Judge a request against `preset` and derive every stage's parameters.

    `stages` says steps and guidance of single stages, before those of all.

    Raises:
        RequestError: a field that the preset cannot serve; `.param` names it.
    """
    if len(negative_prompt) > MAX_PROMPT_CHARS:
        raise RequestError(
            "negative_prompt",
            f"The negative prompt has {len(negative_prompt)} characters, the limit is {MAX_PROMPT_CHARS}; shorten it.",
        )
    text, note, negative_prompt = check_prompt(prompt), "", negative_prompt.strip() or preset.negative_prompt
    if preset.vocabulary:
        vocabulary = load_vocabulary(WEIGHTS / preset.vocabulary)
        reading = read_prompt(WEIGHTS / preset.vocabulary, text)
        known, unknown = vocabulary.absent(negative_prompt)
        text, note, negative_prompt = reading.text, reading.note, ", ".join(dict.fromkeys((*known, *reading.negative)))
        if unknown:
            note = f"{note} Of the negative prompt it leaves out {', '.join(map(repr, unknown))}.".strip()
    text, behind = _cut(preset, preset.prompt_style.format(prompt=text))
    negative_prompt, unread = _cut(preset, negative_prompt, "Of the negative prompt: ")
    note = " ".join(part for part in (note, behind, unread) if part)
    if not 0 <= seed <= MAX_SEED:
        raise RequestError("seed", f"The seed is {seed}; it must be between 0 and {MAX_SEED}.")
    wanted_size = preset.default_size if size is None else size
    if wanted_size not in preset.sizes:
        raise RequestError(
            "size",
            f"Size {wanted_size!r} is not allowed with preset {preset.name!r}; choose one of: "
            f"{', '.join(preset.sizes)}.",
        )
    wanted_seconds = preset.default_seconds if seconds is None else seconds
    if wanted_seconds not in preset.keyframes:
        raise RequestError(
            "seconds",
            f"{wanted_seconds!r} seconds is not allowed with preset {preset.name!r}; choose one of: "
            f"{', '.join(preset.keyframes)}.",
        )
    for name, value in (("steps", steps), ("guidance", guidance)):
        if value is not None and not preset.built_in:
            raise RequestError(
                name,
                f"{name} is {value:g} for every stage, but each of preset {preset.name!r} has a model with a schedule "
                f'of its own; say it of one: "stages": {{"i2v": {{"{name}": {value:g}}}}}.',
            )
    _check_noise(preset, "", steps, guidance)
    for stage, asked in (stages or {}).items():
        if stage == "vfi":
            raise RequestError("stages", "VFI denoises nothing and has no steps and no guidance; leave it out.")
        _check_noise(preset, f"stages.{stage}.", asked.steps, asked.guidance)
        learnt = len({"t2i": preset.t2i, "i2v": preset.i2v, "v2v": preset.v2v}[stage].sigmas)
        if learnt and asked.steps not in (None, learnt):
            raise RequestError(
                "stages",
                f"stages.{stage}.steps is {asked.steps}; preset {preset.name!r} has a model there that is distilled to "
                f"{learnt} noise levels of its own: leave it out.",
            )
    if factor is not None and not 2 <= factor <= MAX_FACTOR:
        raise RequestError("factor", f"factor is {factor}; it must be between 2 and {MAX_FACTOR}.")

    def noise(stage: StageName, default: Denoising) -> Denoising:
        own = (stages or {}).get(stage)
        many, strong = (own.steps, own.guidance) if own else (None, None)
        many, strong = (steps if many is None else many), (guidance if strong is None else strong)
        return replace(
            default,
            steps=default.steps if many is None else many,
            guidance=default.guidance if strong is None else strong,
        )

    sizes = preset.sizes[wanted_size]
    return Plan(
        t2i=T2IParams(text, negative_prompt, sizes.t2i, noise("t2i", preset.t2i)),
        i2v=I2VParams(
            text,
            negative_prompt,
            sizes.i2v,
            preset.keyframes[wanted_seconds],
            preset.keyframe_fps,
            noise("i2v", preset.i2v),
            preset.prior,
            preset.i2v_guide,
            preset.i2v_windows,
            preset.motion,
            preset.image_mode,
        ),
        v2v=V2VParams(
            text,
            negative_prompt,
            sizes.v2v,
            noise("v2v", preset.v2v),
            preset.strength if sizes.strength is None else sizes.strength,
            preset.v2v_guide,
            preset.v2v_windows,
            preset.motion,
            preset.image_mode,
        ),
        vfi=VFIParams(preset.vfi_factor if factor is None else factor, preset.gan),
        note=note,
    )
