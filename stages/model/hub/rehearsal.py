"""What a stage with a pipeline of the hub would compute, without weights, without numbers and without a GPU.

Builds the pipeline on the meta device from its configurations (a folder's own, or the published ones), runs one call of
the stage through it, and gives every pass of a network with the shapes of its inputs and how often it runs: the cost
model runs each once under its meters and multiplies. Repeated passes are not computed, and numbers that a pipeline
looks at (timesteps) stay on the CPU, so the largest models take seconds. Prompts count with the length they are padded
to. Knows nothing of FLOPs or bytes.
"""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from stages.model.hub.knobs import check_classes
from stages.model.hub.layout import (
    assemble,
    component_classes,
    dtype_of,
    empty,
    part_of,
    read_index,
    reads_text,
    stage_of,
)
from stages.model.hub.published import PUBLISHED
from stages.model.hub.runner import Runner
from stages.model.weights.loading import find_part, source_of
from stages.presets import Denoising, Part, Preset

_METHODS = {"vae": ("encode", "decode")}  # what pipelines call of a component; `forward` of all others
_WORDS, _ENDLESS = 77, 1e6  # where a tokenizer does not say how long its sequences are; what it says for "any"


@dataclass
class Call:
    """One pass of a network: everything in it is on the meta device."""

    component: str
    method: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    times: int = 0
    result: Any = None

    def run(self) -> Any:
        """Once; under whatever meters the caller has switched on."""
        with OnMeta(), torch.no_grad():
            return self.function(*self.arguments, **self.options)


@dataclass
class Rehearsal:
    """Every different pass of one call of a stage, in order, and the networks that take part."""

    modules: dict[str, nn.Module]
    calls: list[Call] = field(default_factory=list)
    held: int = 0  # bytes that the pipeline holds beside every pass


class Maker(Protocol):
    """What makes pictures or frames with a pipeline: `HubAnimator`, `HubRedrawer`, T2I's `Pipeline`."""

    runner: Runner


class _Finished(Exception):  # noqa: N818 - it ends the rehearsal where only pixels would follow
    pass


class OnMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tensors of the CPU go to meta where they meet one there; a number read from meta is 1.

    `outermost`: no meter is outside of it, which could not see what is looked up here (`_shaped`).
    """

    def __init__(self, *, outermost: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._outermost = outermost

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        there = {tensor.is_meta for tensor in tensors_in((args, kwargs))}
        if True not in there:
            return func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], [_whole(index) for index in args[1]])
        if False in there:
            args, kwargs = _to_meta((args, kwargs or {}))
        return _shaped(func, args, kwargs or {}) if self._outermost else func(*args, **(kwargs or {}))


@functools.cache
def _is_pure(func: Any) -> bool:
    """Whether an operation says that it changes nothing and gives nothing that it was given."""
    schema = func._schema
    return all(value.alias_info is None for value in (*schema.arguments, *schema.returns))


_Made = tuple[torch.Size, tuple[int, ...], torch.dtype]
_made: dict[Any, tuple[type | None, list[_Made]]] = {}  # what operations give, by what they are given


def _shaped(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation's result on meta. Most are those of layers before, of the same shapes, and torch's own way to find
    a shape takes twenty times as long as to look it up.
    """
    if not _is_pure(func):
        return func(*args, **kwargs)
    key = (func, _about(args), _about(tuple(kwargs.items())))
    if (known := _made.get(key)) is not None:
        kind, about = known
        tensors = [torch.empty_strided(size, steps, dtype=dtype, device="meta") for size, steps, dtype in about]
        return tensors[0] if kind is None else kind(tensors)
    result = func(*args, **kwargs)
    tensors = [result] if isinstance(result, Tensor) else result
    if isinstance(tensors, (tuple, list)) and _are_new(tensors, [*tensors_in((args, kwargs))]):
        kind = None if tensors is not result else type(result)
        _made[key] = kind, [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
    return result


def _about(value: Any) -> Any:
    """All that a result's shape depends on; 1 and 1.0 are not the same."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, (tuple, list)):
        return tuple(_about(one) for one in value)
    return type(value), value


def _are_new(tensors: Any, given: list[Tensor]) -> bool:
    """Whether these are tensors on meta that fill storages of their own."""
    if not all(isinstance(tensor, Tensor) and tensor.is_meta for tensor in tensors):
        return False
    storages = {tensor.untyped_storage()._cdata for tensor in (*tensors, *given)}
    own = len({tensor.untyped_storage()._cdata for tensor in given}) + len(tensors) == len(storages)
    return own and all(
        tensor.storage_offset() == 0
        and torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        .untyped_storage()
        .nbytes()
        == tensor.untyped_storage().nbytes()
        for tensor in tensors
    )


def _whole(index: Any) -> Any:
    """A mask as if all of it were there: nobody knows how much, and prompts count as they are padded."""
    return torch.arange(len(index)) if isinstance(index, Tensor) and index.dtype is torch.bool else index


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All in what an operation takes or gives; torch's own walk over any tree takes longer than the operation."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(tuple(values.values()))


def _to_meta(values: Any) -> Any:
    return tree_map(lambda value: value.to("meta") if isinstance(value, Tensor) else value, values)


def sketch_pipeline(preset: Preset, name: str, choose: Callable[[str], type], device: str = "meta") -> Any:
    """Part `name` as a pipeline on the meta device, in the dtype of `device`: "meta" stands for any GPU.

    Raises:
        WeightsError: it is neither published here, nor in a folder, nor reachable.
        SpeedError: its class lacks a knob of the stage's `Speed`.
    """
    part = find_part(preset, name)
    known = PUBLISHED.get(part.source, {})
    index = known.get("model_index") or read_index(name, part, source_of(part))
    cls = choose(str(index["_class_name"]))
    kinds = component_classes(name, part, index, cls)
    check_classes(preset.speed(stage_of(name)), stage_of(name), cls, kinds)

    def make(component: str, kind: type[Any]) -> Any:
        own = part_of(preset, name, component)[1]
        if "Tokenizer" in kind.__name__ or reads_text(kind):
            return _Words(_longest(own))
        if not issubclass(kind, nn.Module):
            return _small(own, kind, known.get(component))
        with OnMeta():
            module = empty(kind, source_of(own), own.subfolder, PUBLISHED.get(own.source, {}).get(component))
        module = module.to("meta")  # what is made of plain numbers is on the CPU until here
        _cast(module, dtype_of(preset, own, device))
        return module.eval().requires_grad_(False)

    return assemble(cls, index, kinds, make)


def _longest(part: Part) -> int:
    """How many words the tokenizer of a folder pads to; CLIP's number where nothing says it."""
    file = Path(source_of(part)) / part.subfolder / "tokenizer_config.json"
    known = json.loads(file.read_text()).get("model_max_length", _WORDS) if file.is_file() else _WORDS
    return int(known) if known < _ENDLESS else _WORDS


def _small(part: Part, kind: type[Any], published: Any) -> Any:
    """A scheduler or an image processor."""
    return kind.from_pretrained(source_of(part), subfolder=part.subfolder) if published is None else kind(**published)


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """To `dtype`, but for the layers that the libraries keep in float32 when they load the weights."""
    diffusers_own = type(module).__module__.startswith("diffusers")
    keep = (
        set(getattr(module, "_keep_in_fp32_modules", None) or ()) if diffusers_own or dtype is torch.float16 else set()
    )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and not keep & set(name.split(".")):
            tensor.data = tensor.data.to(dtype)


class _Words(dict[str, Tensor]):
    """A tokenizer that knows how long its sequences are, and nothing else."""

    pad_token = eos_token = ""

    def __init__(self, longest: int, **tensors: Tensor) -> None:
        super().__init__(**tensors)
        self.model_max_length = longest

    def __call__(self, text: Any, **options: Any) -> "_Words":
        """Of one text, or of several: padded all the same."""
        count = 1 if isinstance(text, str) else len(text)
        self.model_max_length = int(options.get("max_length") or self.model_max_length)
        ids = torch.ones((count, self.model_max_length), dtype=torch.long)
        return _Words(self.model_max_length, input_ids=ids, attention_mask=ids)

    def to(self, device: Any) -> "_Words":
        """Where numbers are; meta has none."""
        moved = self if str(device) == "meta" else {name: tensor.to(device) for name, tensor in self.items()}
        return _Words(self.model_max_length, **moved)

    def apply_chat_template(self, messages: Any, *, tokenize: bool = True, **options: Any) -> Any:
        """Of one message, or of several: padded all the same."""
        return self("x", **options) if tokenize else "x"

    def tokenize(self, text: str) -> list[str]:
        """None that textual inversion has added."""
        return []

    @property
    def input_ids(self) -> Tensor:
        return self["input_ids"]

    @property
    def attention_mask(self) -> Tensor:
        return self["attention_mask"]


class _Rehearser(Runner):
    """A runner whose schedulers count steps and compute nothing."""

    def _renew_scheduler(self, denoising: Denoising) -> None:
        super()._renew_scheduler(denoising)
        scheduler = self.pipeline.scheduler
        for method, instead in (
            ("set_timesteps", _on_cpu), ("step", _stepped), ("add_noise", _first), ("scale_noise", _first),
            ("scale_model_input", _first),
        ):  # fmt: skip
            if hasattr(scheduler, method):
                setattr(scheduler, method, instead(getattr(scheduler, method)))


def _on_cpu(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **{**options, **({"device": "cpu"} if "device" in options else {})})

    return wrapped


class _Step(tuple[Tensor, Tensor]):
    @property
    def prev_sample(self) -> Tensor:
        return self[0]


def _stepped(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*arguments: Any, **options: Any) -> _Step:
        sample = [value for value in arguments if isinstance(value, Tensor) and value.ndim > 1][-1]
        return _Step((sample, sample))

    return wrapped


def _first(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(sample: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return sample

    return wrapped


def rehearse(maker: Maker, call: Callable[[], object]) -> Rehearsal:
    """What `call` makes `maker`'s pipeline compute; the pipeline must be one of `sketch_pipeline`."""
    pipeline = maker.runner.pipeline
    maker.runner = _Rehearser(pipeline)
    rehearsal = Rehearsal(dict(maker.runner.modules))
    with _recording(pipeline, rehearsal), OnMeta(outermost=True), torch.no_grad():
        try:
            call()
        except _Finished:
            return rehearsal
    raise RuntimeError(f"{maker.runner.name} came to its end without processing pixels; tell the authors.")


@contextmanager
def _recording(pipeline: Any, rehearsal: Rehearsal) -> Iterator[None]:
    seen: dict[Any, Call] = {}

    def recorded(component: str, method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            given = _to_meta((arguments, options))
            key = (component, method, str(tree_map(_shape, given)))
            if key not in seen:
                seen[key] = Call(component, method, original, *given)
                seen[key].result = seen[key].run()
                rehearsal.calls.append(seen[key])
            seen[key].times += 1
            return seen[key].result

        return wrapped

    def finish(*_: Any, **__: Any) -> None:
        raise _Finished

    for component, module in rehearsal.modules.items():
        for method in _METHODS.get(component, ("forward",)):
            setattr(module, method, recorded(component, method, getattr(module, method)))
    for processor, method in (("video_processor", "postprocess_video"), ("image_processor", "postprocess")):
        if hasattr(getattr(pipeline, processor, None), method):
            setattr(getattr(pipeline, processor), method, finish)
    try:
        yield
    finally:
        for component, module in rehearsal.modules.items():
            for method in _METHODS.get(component, ("forward",)):
                delattr(module, method)


def _shape(value: Any) -> Any:
    return (tuple(value.shape), str(value.dtype)) if isinstance(value, Tensor) else value
