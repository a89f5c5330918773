"""The knobs of `stages.speed.Speed` that a pipeline of diffusers has: judged before anything is loaded, then turned.

`check` takes the classes of a pipeline and of its components and says what they (`check_classes`), or this machine, do
not have. `prepare` makes the weights smaller on the CPU, `turn` sets what lasts, `Caching` what lasts for one call: a
cache begins empty at every call and leaves nothing, however the call ends. Knows nothing of presets or of loading.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from diffusers.models import attention_dispatch
from torch import nn

from stages.base import InputError
from stages.model.hub.skipping import runs_each_step
from stages.speed import PACKAGES, Cache, Speed, SpeedError

Kinds = Mapping[str, type[Any] | None]  # of a pipeline's components

# Pipelines whose transformer may be asked for less, and by what. A cache needs to know the branch of guidance that a
# pass belongs to: from the pipeline's own `cache_context`, or from both being in one pass ("pyramid", "faster"). Each
# is held to it by tests/stages/modern/test_caches.py; of another it is not known.
_IN_TURNS: tuple[Cache, ...] = ("first_block", "mag", "taylorseer")
_TOGETHER: tuple[Cache, ...] = (*_IN_TURNS, "pyramid")
CACHES: Mapping[str, tuple[Cache, ...]] = MappingProxyType(
    {
        "CogVideoXImageToVideoPipeline": (*_TOGETHER, "faster"),
        "CogVideoXVideoToVideoPipeline": (*_TOGETHER, "faster"),
        "FluxPipeline": _IN_TURNS,
        "LTXConditionPipeline": _TOGETHER,
        "LTXImageToVideoPipeline": _TOGETHER,
        "WanImageToVideoPipeline": _IN_TURNS,
        "WanVACEPipeline": (
            "taylorseer",
        ),  # between its blocks it adds what it sees, which a block left out would double
    }
)
_ATTENTIONS = r"(\w+_)?blocks\.\d+\.attn\d?"  # of all these classes; diffusers' own pattern fits Flux alone
_LEAST_CAPABILITY = {"float8": (8, 9), "bnb8": (7, 5), "bnb4": (7, 5)}  # of a CUDA device; int8 runs anywhere


def check(speed: Speed, stage: str, pipeline: type, kinds: Kinds, device: str) -> None:
    """Whether the pipeline and this machine have what `speed` asks for, before anything is loaded.

    Raises:
        SpeedError: a knob that they do not have.
    """
    check_classes(speed, stage, pipeline, kinds)
    told, target = _Told(f"speed of {stage}", pipeline.__name__), torch.device(device)
    if speed.compile:
        _check_compiler(told, target)
    if speed.attention:
        _check_attention(told, speed)
    if speed.weights != "as_published":
        _check_weights(told, speed, target)
    if speed.gpus > 1:
        _check_gpus(told, speed, target)


def check_classes(speed: Speed, stage: str, pipeline: type, kinds: Kinds) -> None:
    """Whether the pipeline has what `speed` asks for, on whatever machine.

    Raises:
        SpeedError: a knob that it does not have.
    """
    told = _Told(f"speed of {stage}", pipeline.__name__)
    networks = {name: kind for name, kind in kinds.items() if runs_each_step(name) and kind is not None}
    if speed.cache != "none":
        _check_cache(told, speed, pipeline.__name__, networks)
    for name, kind in networks.items():
        who = f"{name} of {told.pipeline}, a {getattr(kind, '__name__', kind)},"
        if speed.compile and not getattr(kind, "_repeated_blocks", None):
            raise told.no("compile", True, f"{who} names no blocks that repeat: leave it out")
        if speed.gpus > 1 and not getattr(kind, "_cp_plan", None):
            why = f"{who} has no plan to be shared by: set it to 1, or take Wan, LTX, Flux or Qwen-Image"
            raise told.no("gpus", speed.gpus, why)


class _Told:
    """The beginning of every sentence."""

    def __init__(self, where: str, pipeline: str) -> None:
        self.where, self.pipeline = where, pipeline

    def no(self, knob: str, value: Any, why: str) -> SpeedError:
        return SpeedError(f"{self.where}: {knob} is {value!r}, and {why}.")


def _check_cache(told: _Told, speed: Speed, pipeline: str, networks: Kinds) -> None:
    has = CACHES.get(pipeline, ())
    if speed.cache not in has:
        those = f"has only {', '.join(has)}" if has else "has none that was tried here"
        raise told.no("cache", speed.cache, f"{pipeline} {those}: take {'one of these or ' if has else ''}'none'")
    if speed.cache == "mag" and len(networks) > 1:
        why = f"{pipeline} denoises with {' and '.join(networks)} here, which mag_ratios cannot tell apart"
        raise told.no("cache", speed.cache, f"{why}: take one of {', '.join(one for one in has if one != 'mag')}")


def _check_compiler(told: _Told, target: torch.device) -> None:
    if target.type == "cpu" and not any(map(shutil.which, ("g++", "clang++"))):
        raise told.no("compile", True, "on a CPU that needs g++ or clang++, of which there is none: install one")
    if target.type == "cuda" and find_spec("triton") is None:
        raise told.no("compile", True, "on a GPU that needs the package triton, which is not installed: install it")


def _check_attention(told: _Told, speed: Speed) -> None:
    names = sorted(backend.value for backend in attention_dispatch.AttentionBackendName)
    if speed.attention not in names:
        raise told.no("attention", speed.attention, f"diffusers has {', '.join(names)}: choose one, or leave it out")
    if speed.attention.endswith("_hub"):
        raise told.no(
            "attention", speed.attention, "code of a repository is never run: install the package and leave `_hub` out"
        )
    backend = attention_dispatch.AttentionBackendName(speed.attention)
    try:
        attention_dispatch._check_attention_backend_requirements(backend)
    except RuntimeError as error:
        raise told.no("attention", speed.attention, f"it cannot run here ({str(error).strip().rstrip('.')})") from error
    known = attention_dispatch._AttentionBackendRegistry._supports_context_parallel
    shared = [name for name in sorted(known) if not name.endswith("_hub")]
    if speed.gpus > 1 and backend.value not in shared:
        raise told.no("attention", speed.attention, f"{speed.gpus} GPUs can share only {', '.join(shared)}: take one")


def _check_weights(told: _Told, speed: Speed, target: torch.device) -> None:
    package = PACKAGES[speed.weights]
    if find_spec(package) is None:
        raise told.no("weights", speed.weights, f"the package {package} is not installed: `pip install {package}`")
    least = _LEAST_CAPABILITY.get(speed.weights)
    if least is None:
        return
    need = f"needs a CUDA device of capability {least[0]}.{least[1]}"
    if target.type != "cuda":
        raise told.no("weights", speed.weights, f"it {need}, the stage is on {target}: take 'int8' or 'as_published'")
    if torch.cuda.get_device_capability(target) < least:
        name, have = torch.cuda.get_device_name(target), ".".join(map(str, torch.cuda.get_device_capability(target)))
        raise told.no("weights", speed.weights, f"it {need}, {name} has {have}: take 'int8' or 'as_published'")


def _check_gpus(told: _Told, speed: Speed, target: torch.device) -> None:
    if target.type == "cuda":
        there = torch.cuda.device_count() - (target.index or 0)
        if there < speed.gpus:
            raise told.no(
                "gpus", speed.gpus, f"the stage can see {there} from {target} on: set it to that, or num_gpus"
            )


def prepare(pipeline: Any, speed: Speed, stage: str) -> None:
    """The weights of the denoising networks in fewer bits; they are on the CPU, and any LoRA is merged.

    Raises:
        SpeedError: a network has no attention that the backend could compute.
    """
    for name, network in denoisers(pipeline).items() if speed.attention else ():
        if not any(hasattr(getattr(module, "processor", None), "_attention_backend") for module in network.modules()):
            why = f"{name} of {type(pipeline).__name__} computes attention by itself, in no backend: leave it out"
            raise _Told(f"speed of {stage}", "").no("attention", speed.attention, why)
    if speed.weights == "as_published":
        return
    for network in denoisers(pipeline).values():
        _LIGHTER[speed.weights](network)


def linear_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """Those whose weights may have fewer bits, by name: not what is always computed in single precision."""
    keep = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    return {name: module for name, module in layers.items() if not keep & set(name.split("."))}


def _with_torchao(setting: str) -> Callable[[nn.Module], None]:
    def quantise(network: nn.Module) -> None:
        from torchao import quantization

        chosen = {id(layer) for layer in linear_layers(network).values()}
        quantization.quantize_(network, getattr(quantization, setting)(), lambda layer, _: id(layer) in chosen)

    return quantise


def _with_bitsandbytes(**settings: Any) -> Callable[[nn.Module], None]:
    """Its layers take their numbers as they are; they become small when they come to a GPU."""

    def quantise(network: nn.Module) -> None:
        from bitsandbytes import nn as small

        for name, module in linear_layers(network).items():
            sizes = (module.in_features, module.out_features, module.bias is not None)
            if "quant_type" in settings:
                made = small.Linear4bit(*sizes, compute_dtype=module.weight.dtype, **settings)
                made.weight = small.Params4bit(module.weight.data, requires_grad=False, **settings)
            else:
                made = small.Linear8bitLt(*sizes, **settings)
                made.weight = small.Int8Params(module.weight.data, requires_grad=False, has_fp16_weights=False)
            made.bias = module.bias
            owner, _, last = name.rpartition(".")
            setattr(network.get_submodule(owner), last, made)

    return quantise


_LIGHTER: Mapping[str, Callable[[nn.Module], None]] = {
    "int8": _with_torchao("Int8WeightOnlyConfig"),
    "float8": _with_torchao("Float8WeightOnlyConfig"),
    "bnb8": _with_bitsandbytes(has_fp16_weights=False),
    "bnb4": _with_bitsandbytes(quant_type="nf4"),
}


def turn(pipeline: Any, speed: Speed) -> None:
    """What lasts as long as the pipeline. It is where it computes."""
    if speed.attention:
        registry = attention_dispatch._AttentionBackendRegistry
        others = registry._active_backend  # of every other pipeline in this process: diffusers sets it, too
        try:
            for network in denoisers(pipeline).values():
                network.set_attention_backend(speed.attention)
        finally:
            registry.set_active_backend(others)
    if speed.compile:
        for network in denoisers(pipeline).values():
            network.compile_repeated_blocks()


def denoisers(pipeline: Any) -> dict[str, Any]:
    """The networks of a pipeline that run at every step, by the names of its components."""
    parts = pipeline.components.items()
    return {name: part for name, part in parts if runs_each_step(name) and isinstance(part, nn.Module)}


class Caching:
    """The cache of one pipeline."""

    def __init__(self, pipeline: Any, speed: Speed) -> None:
        self._pipeline, self._speed = pipeline, speed
        self._set_for: int | None = None

    @contextmanager
    def on(self, steps: int, guidance: float) -> Iterator[None]:
        """For one call of so many steps: the cache is empty before and after.

        Raises:
            InputError: there is nothing that the cache could leave out.
        """
        if self._speed.cache == "none":
            yield
            return
        if self._speed.cache == "faster" and guidance <= 1:
            raise InputError(
                f"Cache 'faster' skips the half of a step that guidance needs, and guidance is {guidance:g}: ask for "
                "more than 1, or take cache 'pyramid'."
            )
        networks = list(denoisers(self._pipeline).values())
        if self._set_for != steps:
            for network in networks:
                if network.is_cache_enabled:
                    network.disable_cache()
                network.enable_cache(self._config(network, steps))
            self._set_for = steps
        for network in networks:
            network._reset_stateful_cache()
        try:
            yield
        finally:
            for network in networks:
                network._reset_stateful_cache()

    def _config(self, network: Any, steps: int) -> Any:
        speed, every = self._speed, self._speed.cache_every
        by_threshold = {} if speed.cache_threshold is None else {"threshold": speed.cache_threshold}

        def now() -> float:
            return float(self._pipeline.current_timestep)

        if speed.cache == "first_block":
            return diffusers.FirstBlockCacheConfig(**by_threshold)
        if speed.cache == "mag":
            return diffusers.MagCacheConfig(
                mag_ratios=list(speed.mag_ratios), num_inference_steps=steps, **by_threshold
            )
        if speed.cache == "taylorseer":
            own = {} if every is None else {"cache_interval": every}
            return diffusers.TaylorSeerCacheConfig(
                taylor_factors_dtype=network.dtype, cache_identifiers=[_ATTENTIONS], **own
            )
        if speed.cache == "pyramid":
            return diffusers.PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=every or 2,
                cross_attention_block_skip_range=every or 2,
                current_timestep_callback=now,
            )
        return diffusers.FasterCacheConfig(
            spatial_attention_block_skip_range=every or 2,
            tensor_format="BFCHW",  # CogVideoX, the one kind of pipeline that has it here
            current_timestep_callback=now,
        )
