"""A pipeline in the layout of the hub: which class it is, and all of its components with every tensor in place.

Takes a part of a preset: a folder or a hub id with a `model_index.json`, as `save_pretrained` writes it. Gives the
pipeline on its device, or spread as `Speed` says. Weights come from safetensors alone, classes from diffusers
and transformers alone: code that a repository brings is never run. Components are loaded one by one on the CPU, so that
a gap is one sentence and a GPU's memory is not touched before everything fits. Knows nothing of what a pipeline does.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from stages.base import WeightsError
from stages.model.hub.knobs import Kinds, check, prepare, turn
from stages.model.hub.lora import check_loras, merge_into_pipeline
from stages.model.weights.contents import refuse_pointers
from stages.model.weights.files import check_files, find_folder
from stages.model.weights.loading import check_device, compute_dtype, find_part
from stages.model.weights.offload import offload_on
from stages.presets import Part, Preset
from stages.speed import Speed
from stages.types import StageName

Choice = Callable[[type], bool]  # does a pipeline class do what the stage needs?

_LEAST_WORDS = 10


def choose_class(
    part_name: str,
    part: Part,
    own: str,
    fits: Choice,
    relatives: tuple[str, ...],
    need: str,
    why_not: Callable[[str], str | None] = lambda _: None,
) -> type:
    """The class `own` that a repository names for itself or, where that does something else, its relative that fits.

    Repositories of text-to-video models name the class for text alone; the same weights also run in the family's other
    classes: `WanPipeline` in `WanVideoToVideoPipeline`.

    Args:
        relatives: what to put between the family's name and "Pipeline".
        need: what the stage needs, for the error.
        why_not: what is known to be wrong with a class.

    Raises:
        WeightsError: there is no such class, or none that fits.
    """
    family = own.removesuffix("Pipeline")
    for name in (own, *(f"{family}{middle}Pipeline" for middle in relatives)):
        cls = getattr(diffusers, name, None)
        if isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline):
            if fits(cls) and why_not(name) is None:
                return cls
        elif name == own:
            raise WeightsError(
                f"Part {part_name!r} from {part.source} is a {own!r}, which diffusers {diffusers.__version__} does not "
                f"have; code of a repository is never run, so take a pipeline of diffusers or upgrade it."
            )
    if (reason := why_not(own)) is not None:
        raise WeightsError(
            f"Part {part_name!r} from {part.source} is a {own}, which {reason}; name another pipeline in the preset."
        )
    raise WeightsError(
        f"Part {part_name!r} from {part.source} is a {own}, and neither it nor its family {need}; "
        f"name another pipeline in the preset."
    )


def read_index(name: str, part: Part, place: str) -> Mapping[str, Any]:
    """The `model_index.json` of a pipeline at `place`: a folder, or a hub id.

    Raises:
        WeightsError: it is missing or broken.
    """
    try:
        index = diffusers.DiffusionPipeline.load_config(place)
        if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
            raise ValueError("its model_index.json names no pipeline class of diffusers")
    except Exception as error:  # the hub's loaders raise a dozen kinds; to a user they are one
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise WeightsError(
            f"Part {name!r} cannot be loaded from {part.source} ({reason}); check the folder or fetch it again."
        ) from error
    return MappingProxyType(index)


def load_pipeline(
    preset: Preset, name: str, device: str, choose: Callable[[str], type], judge: Callable[[Any], None]
) -> Any:
    """Part `name` as a pipeline on `device`.

    The part `<stage>_vae` (`t2i_vae` beside `t2i`, `i2v_vae` beside `i2v_pipeline`), if there is one, replaces its VAE.

    Args:
        choose: from the class that the repository names to the one to build.
        judge: raises where the loaded pipeline cannot do what the preset asks; called before the device is touched.

    Raises:
        WeightsError: a part is missing, broken, a pickle, or does not fit.
        SpeedError: the class or this machine lacks a knob of the stage's `Speed`.
    """
    part, speed = find_part(preset, name), preset.speed(stage_of(name))
    root, index, cls, kinds = look_up(preset, name, device, choose)
    other, vae = part_of(preset, name, "vae")
    if other != name and vae.device not in (None, part.device):
        raise WeightsError(
            f"Part {other!r} is to be on {vae.device}, its pipeline {name!r} on {part.device or device}; a pipeline "
            f"is on one device: leave `device` out, or use the preset's `offload`."
        )
    folders = {component: root / component for component in kinds}
    if other != name:
        folders["vae"] = find_folder(other, vae)
    networks = {key: kind for key, kind in kinds.items() if kind is not None and issubclass(kind, nn.Module)}
    for component, kind in kinds.items():
        if component in networks:
            check_files(*part_of(preset, name, component), folders[component])
        elif kind is not None:
            refuse_pointers(name, folders[component])
    check_loras(preset, name, cls, networks, lambda place: empty(networks[place], folders[place]))

    def make(component: str, kind: type[Any]) -> Any:
        owner, own = part_of(preset, name, component)
        return _load_component(owner, own, folders[component], kind, dtype_of(preset, own, part.device or device))

    pipeline = assemble(cls, index, kinds, make)
    merge_into_pipeline(pipeline, preset, name)
    judge(pipeline)
    prepare(pipeline, speed, stage_of(name))
    pipeline = _place(pipeline, speed, part.device or device)
    turn(pipeline, speed)
    return pipeline


def look_up(
    preset: Preset, name: str, device: str, choose: Callable[[str], type]
) -> tuple[Path, Mapping[str, Any], type, Kinds]:
    """Of part `name`: its folder, its index, the class to build and those of its components. No weights are read.

    Raises:
        WeightsError: a part is missing, or names a class that cannot be had.
        SpeedError: the class or this machine lacks a knob of the stage's `Speed`.
    """
    part = find_part(preset, name)
    root = find_folder(name, part)
    refuse_pointers(name, root)
    index = read_index(name, part, str(root))
    cls = choose(str(index["_class_name"]))
    kinds = component_classes(name, part, index, cls)
    check_device(preset, part.device or device)
    check(preset.speed(stage_of(name)), stage_of(name), cls, kinds, part.device or device)
    return root, index, cls, kinds


def stage_of(name: str) -> StageName:
    """The stage that a pipeline's part is in the place of."""
    stages: dict[str, StageName] = {"t2i": "t2i", "i2v_pipeline": "i2v", "v2v_pipeline": "v2v"}
    return stages[name]


def part_of(preset: Preset, name: str, component: str) -> tuple[str, Part]:
    """The part that a component of pipeline `name` comes from, with its own folder: its name and where it is."""
    own = f"{name.removesuffix('_pipeline')}_vae"
    if component == "vae" and own in preset.parts:
        return own, preset.parts[own]
    part = find_part(preset, name)
    return name, replace(part, subfolder=str(PurePosixPath(part.subfolder) / component))


def component_classes(name: str, part: Part, index: Mapping[str, Any], cls: type) -> dict[str, type[Any] | None]:
    """The class of every component that `cls` is built from, None where the repository has none.

    Raises:
        WeightsError: a component is missing, or its class is not one of diffusers or transformers.
    """
    wanted = _wanted(name, part, index, cls)
    return {key: _component_class(name, part, key, *entry) if entry else None for key, entry in wanted.items()}


def assemble(
    cls: type, index: Mapping[str, Any], kinds: Mapping[str, type[Any] | None], make: Callable[[str, type[Any]], Any]
) -> Any:
    """A `cls` with the settings of the index and the components that `make` gives for (name, class)."""
    arguments = _plain_settings(index, cls)
    arguments |= {component: None if kind is None else make(component, kind) for component, kind in kinds.items()}
    pipeline = cls(**arguments)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def empty(kind: type[Any], place: str | Path, subfolder: str = "", published: Mapping[str, Any] | None = None) -> Any:
    """A network without weights, of the configuration that is published here or stands in a folder."""
    with torch.device("meta"):
        if hasattr(kind, "config_class") and kind.__module__.startswith("transformers"):
            settings = kind.config_class
            if published is None:
                return kind(settings.from_pretrained(str(place), subfolder=subfolder))
            return kind(settings(**published))
        known = kind.load_config(str(place), subfolder=subfolder) if published is None else dict(published)
        return kind.from_config(known)


def reads_text(kind: type[Any]) -> bool:
    """Whether a component is a processor of texts and pictures, of which pipelines here use the tokenizer alone."""
    return issubclass(kind, transformers.ProcessorMixin)


def dtype_of(preset: Preset, part: Part, device: str) -> torch.dtype:
    """What a part computes in on `device`."""
    return compute_dtype(preset if part.dtype is None else replace(preset, dtype=part.dtype), device)


def _plain_settings(index: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """What the index says beside the components: `boundary_ratio`, `expand_timesteps` and the like."""
    known = inspect.signature(cls).parameters
    return {key: value for key, value in index.items() if key in known and not isinstance(value, list)}


def _wanted(name: str, part: Part, index: Mapping[str, Any], cls: type) -> dict[str, tuple[str, str] | None]:
    """(library, class) of every component that `cls` is built from, None where the repository has none."""
    result: dict[str, tuple[str, str] | None] = {}
    optional = set(getattr(cls, "_optional_components", ()))
    for component, parameter in inspect.signature(cls).parameters.items():
        entry = index.get(component)
        if isinstance(entry, list | tuple) and len(entry) == 2:
            result[component] = None if entry[0] is None else (str(entry[0]), str(entry[1]))
        elif component in optional and parameter.default is inspect.Parameter.empty:
            result[component] = None
        elif component not in index and parameter.default is inspect.Parameter.empty:
            raise WeightsError(
                f"Part {name!r} from {part.source} has no {component!r}, which a {cls.__name__} needs; "
                f"it belongs to another pipeline ({index['_class_name']}), or is incomplete: fetch it again."
            )
    return result


def _component_class(name: str, part: Part, component: str, library: str, kind: str) -> type[Any]:
    """The class of one component, from diffusers or transformers alone."""
    homes: dict[str, Any] = {"diffusers": diffusers, "transformers": transformers}
    home = homes.get(library) or getattr(diffusers.pipelines, library, None)
    cls = getattr(home, kind, None) or getattr(home, kind.replace("FeatureExtractor", "ImageProcessor"), None)
    if home is None or not isinstance(cls, type):
        raise WeightsError(
            f"Part {name!r} from {part.source} wants {component!r} from {library}.{kind}, which is not in diffusers "
            f"{diffusers.__version__} or transformers {transformers.__version__}; code of a repository is never run, "
            f"so take another pipeline or upgrade them."
        )
    return cls


def _load_component(name: str, part: Part, folder: Path, kind: type[Any], dtype: torch.dtype) -> Any:
    """From its folder, on the CPU."""
    network = issubclass(kind, nn.Module)
    options: dict[str, Any] = {}
    if network:
        options = {"use_safetensors": True, "output_loading_info": True, "variant": part.variant}
        if kind.__module__.startswith("transformers"):
            options |= {"dtype": dtype, "ignore_mismatched_sizes": True}  # told below
        else:
            options |= {"torch_dtype": dtype}
    try:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        if reads_text(kind):  # its pictures need torchvision, and no stage shows it one
            kind = transformers.AutoTokenizer
        made = kind.from_pretrained(str(folder), **options)
        if isinstance(made, transformers.PreTrainedTokenizerBase):
            words = sum(not token.startswith("<") for token in made.get_vocab())
            if words < _LEAST_WORDS:  # transformers makes an empty one where the files are missing
                raise ValueError(f"it holds no vocabulary, only {words} words")
    except Exception as error:  # the libraries' loaders raise a dozen kinds; to a user they are one
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise WeightsError(
            f"Part {name!r} cannot be loaded from {part.source} {part.subfolder} ({reason}); "
            f"check the folder or fetch it again."
        ) from error
    if not network:
        return made
    module, info = made
    wrong = [f"{key} is {tuple(had)}, not {tuple(wanted)}" for key, had, wanted in info["mismatched_keys"]]
    for found, what in ((sorted(info["missing_keys"]), "lacks the tensors"), (sorted(wrong), "has misshapen tensors")):
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise WeightsError(
                f"Part {name!r} from {part.source} {part.subfolder} {what} {', '.join(found[:3])}{more} of a "
                f"{kind.__name__}; it belongs to another model, or is incomplete: fetch it again."
            )
    return module.eval().requires_grad_(False)


def _place(pipeline: Any, speed: Speed, device: str) -> Any:
    """On the device; or on the CPU, from where models, groups of layers or layers visit the device to compute."""
    target = torch.device(device)
    offload = offload_on(target, speed.offload)
    if offload == "none":
        return pipeline.to(target)
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=target)
    elif offload == "groups":
        streams = target.type == "cuda"  # the next group comes while one computes
        pipeline.enable_group_offload(onload_device=target, offload_type="leaf_level", use_stream=streams)
    else:
        pipeline.enable_sequential_cpu_offload(device=target)
    return pipeline
