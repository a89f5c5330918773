"""The open dialect: what other servers of videos call a field, and what is made of it here.

`WORDS` is the one table of it; `deployments/README.md` shows it. It only adds: the fields of `client.schema` keep their
names and meanings. Takes the fields of a body, JSON or form, where a number may be text; gives those of our own model
with the types that it has, and a sentence about what was done otherwise than asked. What nobody knows is refused, for a
typo must not cost minutes of a GPU. Pure.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, get_args

from pydantic import BaseModel

from client.schema import Reference
from client.single import SingleStages
from deployments.errors import InvalidRequestError
from deployments.jobs.shapes import length_for, sides_of, size_for, size_of
from stages.presets import Preset, RequestError

Parse = Callable[[str], dict[str, Any]]  # JSON text to its object; raises InvalidRequestError


@dataclass(frozen=True)
class Word:
    """What others call something, and what it is here."""

    names: str  # with spaces between them
    kind: Literal["renamed", "made", "merged", "idle", "refused"]
    means: str = ""  # the field of ours, or those that it is made into
    says: str = ""  # what the README and a refusal add


WORDS: Sequence[Word] = (
    Word("num_inference_steps inference_steps", "renamed", "steps"),
    Word("guidance_scale cfg_scale cfg", "renamed", "guidance"),
    Word("neg_prompt", "renamed", "negative_prompt"),
    Word("duration", "renamed", "seconds"),
    Word("callback_url", "renamed", "webhook_url"),
    Word(
        "image_reference reference_url image_url", "renamed", "input_reference", "an address alone is its `image_url`"
    ),
    Word(
        "video_reference video_url",
        "renamed",
        "input_video",
        "an address alone is its `video_url`, other text its `id`",
    ),
    Word("width height", "made", "size", "both of them"),
    Word("resolution short_edge aspect_ratio", "made", "size", 'like "720p" or "1280x720", like 720, like "16:9"'),
    Word("num_frames", "made", "seconds factor", "which give so many; seconds times rate is taken too"),
    Word("fps", "made", "factor", "or `until: v2v`, where it is the rate of keyframes"),
    Word("n num_outputs_per_prompt", "made", "candidates", "1, or with `pause_after: t2i` up to 8"),
    Word("frame_images", "made", "input_reference", "one, the `first_frame`"),
    Word("extra_body extra_params extra_args video_params", "merged", says="an object, or its JSON as text"),
    Word("user quality metadata safety_identifier provider", "idle"),
    Word("generator_device flow_shift shift boundary_ratio guidance_scale_2 true_cfg_scale", "idle"),
    Word("sampler sampler_name scheduler max_sequence_length diffusers_kwargs", "idle"),
    Word("enable_teacache cache_backend perf_dump_path return_stage_metrics profile", "idle"),
    Word("output_quality output_compression output_format output_path response_format save_output", "idle"),
    Word("enable_frame_interpolation frame_interpolation_exp frame_interpolation_scale", "idle"),
    Word("frame_interpolation_model_path enable_upscaling upscaling_model_path upscaling_scale", "idle"),
    Word("generate_sound sound_duration generate_audio", "idle"),
    Word("lora loras", "refused", says="adapters belong to a preset, not to a request"),
    Word("input_references", "refused", says="a video begins with one picture, input_reference"),
    Word("end_image last_frame last_image", "refused", says="a video is given its first picture, not its last"),
    Word("audio_reference control_reference mask characters", "refused", says="no stage takes it"),
)

_BY_NAME: Mapping[str, Word] = {name: word for word in WORDS for name in word.names.split()}
_NAMES: Mapping[str, Sequence[str]] = {
    kind: tuple(name for name, word in _BY_NAME.items() if word.kind == kind) for kind in ("made", "merged", "idle")
}
HOLD_OBJECTS = (*_NAMES["merged"], "image_reference", "video_reference", "stages", "metadata")  # `extra_body[steps]`
_ALIKE = {"short_edge": "resolution"}  # of those that something is made of, the same in other words
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,39})(\.\d{1,40})?([eE][+-]?\d{1,3})?")  # as JSON writes it
_SHOWN_CHARS = 80
_MAX_SAID = 256  # objects in JSON text within others would else hold a million
_HUGE = 10**9  # for sides, frames, seconds and rates


@dataclass
class Understood:
    """The fields of a request in our own words."""

    fields: dict[str, Any] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)  # what the request calls a field of ours, where it differs
    made: set[str] = field(default_factory=set)  # of those, the ones whose value is another than what was said
    note: str = ""


@dataclass(frozen=True)
class _Said:
    """One field as it came."""

    name: str
    value: Any
    within: str = ""  # the object that it came in, with a dot behind it

    @property
    def where(self) -> str:
        return f"{self.within}{self.name}"


def understand(
    given: Mapping[str, Any], model: type[BaseModel], preset: Preset, served_names: Sequence[str], parse: Parse
) -> Understood:
    """What a body says, in the words of `model`.

    Args:
        served_names: other names that `preset` may be asked for by.

    Raises:
        InvalidRequestError: a name that nobody knows, two that contradict each other, a value that cannot be had.
    """
    said = list(islice(_flat(given, parse), _MAX_SAID + 1))
    if len(said) > _MAX_SAID:
        raise InvalidRequestError(f"The body says more than {_MAX_SAID} things, the limit.", code="invalid_json")
    try:
        return _Request(model, preset, served_names, parse, said).understood()
    except RequestError as error:
        raise InvalidRequestError(str(error), param=error.param, code="invalid_field") from error


def names_for(model: type[BaseModel]) -> list[str]:
    """All that a request of that kind may say."""
    ours = model.model_fields
    return [*ours, *(name for name, word in _BY_NAME.items() if _fits(word, ours))]


def shown(value: Any) -> str:
    """A value as messages have it."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _fits(word: Word, ours: Mapping[str, Any]) -> bool:
    return "candidates" in word.means or all(name in ours for name in word.means.split())


def _flat(given: Mapping[str, Any], parse: Parse, within: str = "") -> Iterator[_Said]:
    """Every field, those of merged objects too; null is as good as nothing."""
    for name, value in given.items():
        if value is None:
            continue
        if name not in _NAMES["merged"]:
            yield _Said(name, value, within)
            continue
        inner = _object(name, value, parse)
        yield from _flat(inner, parse, f"{within}{name}.")


def _object(name: str, value: Any, parse: Parse) -> Mapping[str, Any]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return parse(value)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"In {name}: {error.message}", param=name, code="invalid_field") from error
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object, or its JSON as text")
    return value


class _Request:
    """One request on its way to our own words."""

    def __init__(
        self,
        model: type[BaseModel],
        preset: Preset,
        served_names: Sequence[str],
        parse: Parse,
        given: Sequence[_Said],
    ) -> None:
        self._model, self._preset, self._served, self._parse = model, preset, served_names, parse
        self._given: dict[str, list[_Said]] = {}
        self._notes: list[str] = []
        self._ours = Understood()
        for said in given:
            target = self._target(said.name)
            self._given.setdefault(target, []).append(_Said(said.name, self._plain(target, said.value), said.within))

    def understood(self) -> Understood:
        for name in self._model.model_fields:
            self._take(name, self._given.get(name, ()))
        self._take_model()
        self._take_first_frame()
        self._take_size()
        self._take_length()
        self._take_number()
        idle = [name for name in _NAMES["idle"] if self._one(name) not in (None, False, "", [], {})]
        if idle:
            self._notes.append(f"Known elsewhere and without effect here: {', '.join(idle)}.")
        self._ours.note = " ".join(self._notes)
        return self._ours

    def _target(self, name: str) -> str:
        """The field of ours, or the word of others that something is made of."""
        ours = self._model.model_fields
        if name in ours or name == "model":
            return name
        word, fields = _BY_NAME.get(name), f"fields are {', '.join(ours)}."
        if word is None:
            near = difflib.get_close_matches(name[:_SHOWN_CHARS].lower(), names_for(self._model), 1)
            meant = f"did you mean {near[0]!r}? The" if near else "the"
            raise _refused(name, f"Unknown field {shown(name)}; {meant} {fields}")
        if word.kind == "refused":
            raise _refused(name, f"Field {name} is known elsewhere, but not here: {word.says}; leave it out.")
        if not _fits(word, ours):
            raise _refused(name, f"Field {name}, which is {word.means}, has no place in this request; the {fields}")
        return word.means if word.kind == "renamed" else _ALIKE.get(name, name)

    def _plain(self, target: str, value: Any) -> Any:
        """A value as the field's type has it, where text and a number say the same."""
        found = self._model.model_fields.get(target)
        types = set(get_args(found.annotation) or (found.annotation,)) if found is not None else set()
        if isinstance(value, str) and types & {Reference, SingleStages} and value.lstrip().startswith("{"):
            return _object(target, value, self._parse)
        if Reference in types and isinstance(value, str):
            if target == "input_reference":
                return {"image_url": value}
            return {"video_url" if ":" in value else "id": value}
        if bool in types:
            return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        if types & {int, float}:
            return _number(value, whole=int in types)
        if target == "resolution":
            number = _number(value, whole=True)
            return f"{number}p" if isinstance(number, int) and not isinstance(number, bool) else value
        if target == "seconds":
            number = _number(value, whole=False)
            is_one = isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < _HUGE
            return f"{number:.12g}" if is_one else value
        return value

    def _take(self, name: str, said: Sequence[_Said]) -> None:
        if said:
            one = _agreed(said)
            self._ours.fields[name] = one.value
            if one.where != name:
                self._ours.called[name] = one.where

    def _one(self, name: str) -> Any:
        """The value of a word of others, if it was said."""
        said = self._given.get(name)
        return _agreed(said).value if said else None

    def _make(self, name: str, value: Any, of: str, shows: str) -> None:
        """A field of ours out of words of others: `of` names them and `shows` them with their values."""
        fields = self._ours.fields
        if name in fields and fields[name] != value:
            ours = self._ours.called.get(name, name)
            raise RequestError(
                name, f"{ours} is {shown(fields[name])} and {shows}, which is {name} {shown(value)}; send one of them."
            )
        fields[name] = value
        if self._ours.called.setdefault(name, of) == of:
            self._ours.made.add(name)

    def _take_model(self) -> None:
        name = self._one("model")
        if not isinstance(name, str):
            return
        if name not in (self._preset.name, *self._served):
            there = ", ".join((self._preset.name, *self._served))
            raise RequestError("model", f"Unknown model {shown(name)}; this server runs {there}, as without model.")
        if "model" in self._model.model_fields:
            self._ours.fields["model"] = self._preset.name

    def _take_first_frame(self) -> None:
        frames = self._one("frame_images")
        if frames is None:
            return
        match frames:
            case [{"image_url": {"url": str(url)} | str(url), "frame_type": "first_frame"}]:
                self._make("input_reference", {"image_url": url}, "frame_images", "frame_images has another picture")
            case _:
                wanted = 'one picture like [{"image_url": {"url": "..."}, "frame_type": "first_frame"}]'
                raise _wrong("frame_images", frames, wanted)

    def _take_size(self) -> None:
        fields, preset = self._ours.fields, self._preset
        size = fields.get("size")
        if isinstance(size, str) and sides_of(size) is not None:
            fields["size"] = size_of(preset, size, f"{self._ours.called.get('size', 'size')} is {size!r}")
        width, height = self._whole("width"), self._whole("height")
        if (width is None) is not (height is None):
            there, missing = ("width", "height") if height is None else ("height", "width")
            value = width if height is None else height
            raise RequestError(missing, f"{there} is {value} and {missing} is missing; send both, or size.")
        if width is not None:
            asked = f"width is {width} and height is {height}"
            self._make("size", size_of(preset, f"{width}x{height}", asked), "width", asked)
        resolution, ratio = self._text("resolution"), self._text("aspect_ratio")
        called = self._given["resolution"][0].where if resolution is not None else ""
        if resolution is not None and sides_of(resolution) is not None:
            asked = f"{called} is {resolution!r}"
            self._make("size", size_of(preset, resolution, asked), called, asked)
            resolution = None
        if resolution is not None or ratio is not None:
            size, note = size_for(preset, resolution, ratio, called=called, asked=fields.get("size"))
            given = {called: resolution, "aspect_ratio": ratio}
            said = " and ".join(f"{name} is {value!r}" for name, value in given.items() if value is not None)
            self._make("size", size, called if ratio is None else "aspect_ratio", said)
            self._notes += [note] if note else []

    def _take_length(self) -> None:
        frames, fps = self._whole("num_frames"), self._positive("fps")
        if frames is None and fps is None:
            return
        fields = self._ours.fields
        if "input_video" in fields:
            name = "fps" if frames is None else "num_frames"
            raise RequestError(name, f"{name} is given with input_video, whose own frames count; send factor alone.")
        factor, until = fields.get("factor"), fields.get("until")
        found, note = length_for(
            self._preset,
            frames=frames,
            fps=fps,
            seconds=fields.get("seconds"),
            factor=factor if isinstance(factor, int) else None,
            until=until if isinstance(until, str) else None,
        )
        self._notes += [note] if note else []
        if frames is not None:
            self._make("seconds", found.seconds, "num_frames", f"num_frames is {frames}")
        if found.factor > 1:
            if found.factor != self._preset.vfi_factor:
                self._make("factor", found.factor, "fps" if frames is None else "num_frames", f"fps is {found.fps:g}")
        elif until is None:
            self._make("until", "v2v", "fps", f"fps is {fps}")
            self._notes.append(f"The {found.fps:g} frames a second are V2V's own, so VFI adds none (until v2v).")

    def _take_number(self) -> None:
        for name in ("n", "num_outputs_per_prompt"):
            number = self._whole(name)
            if number is None or number == 1:
                continue
            if self._ours.fields.get("pause_after") != "t2i" or "candidates" not in self._model.model_fields:
                raise RequestError(
                    name,
                    f"{name} is {number} and a request makes 1 video; send it {number} times with other seeds, or "
                    "choose among pictures with pause_after=t2i and candidates.",
                )
            self._make("candidates", number, name, f"{name} is {number}")

    def _whole(self, name: str) -> int | None:
        value = _number(self._one(name), whole=True)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 < value < _HUGE):
            return value
        raise _wrong(name, value, "a whole number above 0")

    def _positive(self, name: str) -> float | None:
        value = _number(self._one(name), whole=False)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _HUGE):
            return value
        raise _wrong(name, value, "a number above 0")

    def _text(self, name: str) -> str | None:
        value = self._one(name)
        if value is None or isinstance(value, str):
            return value
        raise _wrong(name, value, "text")


def _number(value: Any, *, whole: bool) -> Any:
    """The number that a text says; anything else as it is."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value)
        if found is None:
            return value
        value = float(value) if any(found.groups()) else int(value)
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value


def _agreed(said: Sequence[_Said]) -> _Said:
    """What several names of one thing say, if it is the same."""
    first = said[0]
    for other in said[1:]:
        if other.value != first.value or isinstance(other.value, bool) is not isinstance(first.value, bool):
            raise InvalidRequestError(
                f"{first.where} is {shown(first.value)} and {other.where} is {shown(other.value)}, and both mean the "
                "same thing; send one of them.",
                param=other.name,
                code="repeated_field",
            )
    return first


def _wrong(name: str, value: Any, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Field {name} is {shown(value)}; it must be {wanted}.", param=name, code="invalid_field"
    )


def _refused(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=name[:_SHOWN_CHARS], code="unknown_field")
