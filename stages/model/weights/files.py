"""Where a part's files are: embedded, in a local folder, under `MAGICVIDEO_WEIGHTS`, in the hub's cache, or to fetch.

`MAGICVIDEO_WEIGHTS` names a folder with copies of repositories as `<org>/<name>`, for machines without network; a copy
counts for a part only if it holds all that this part needs. Only that is fetched: configs, vocabularies and safetensors
of its subfolder and variant. Knows nothing of modules.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from stages.base import WeightsError
from stages.model.weights.commits import commit_of, moves, record_file, settle
from stages.model.weights.contents import (
    PICKLES,
    TEXTS,
    check_whole,
    has_pointer,
    refuse_pickle,
    refuse_pointers,
)
from stages.presets import WEIGHTS, Part

MIRROR_VARIABLE = "MAGICVIDEO_WEIGHTS"
_EMBEDDED = "embedded:"
STEMS = ("diffusion_pytorch_model", "model")  # as diffusers and transformers name a module's file
_STEMS_OF = {"diffusers": STEMS[:1], "transformers": STEMS[1:]}  # of another library: either
_SECOND_SET = f"text_encoder*/{STEMS[0]}*"  # LTX-2 has its language model a second time, under the other name

Index = Mapping[str, Any]  # a pipeline's model_index.json
State = Literal["embedded", "local", "partly local", "cached", "partly cached", "broken", "missing"]


def is_hub_id(part: Part) -> bool:
    """Whether the part is named by a repository of the hub."""
    return not part.source.startswith((_EMBEDDED, "/", "~", "."))


def is_pipeline(name: str) -> bool:
    """Whether the part of that name is a whole pipeline of diffusers."""
    return name == "t2i" or name.endswith("_pipeline")


def source_of(part: Part) -> str:
    """What `from_pretrained` takes: an existing folder, or a hub id.

    Raises:
        WeightsError: an embedded folder is not there.
    """
    if is_hub_id(part):
        copy = _mirror(part)
        return part.source if copy is None else str(copy)
    if not part.source.startswith(_EMBEDDED):
        return str(Path(part.source).expanduser())
    folder = WEIGHTS / part.source.removeprefix(_EMBEDDED)
    if not folder.is_dir():
        raise WeightsError(
            f"The embedded weights {part.source!r} are missing: there is no folder {folder}; "
            f"restore it from the repository or run `make train`."
        )
    return str(folder)


def patterns(name: str, part: Part, index: Index | None = None) -> list[str]:
    """The files of its repository that a part needs, as the hub's patterns; of a pipeline by its index, if given."""
    if part.weight_name:
        return [_inside(part, part.weight_name)]
    shards, variant = "-?????-of-?????", f".{part.variant}" if part.variant else ""
    middles = dict.fromkeys([variant, f"{variant}{shards}", f"{shards}{variant}"])  # both orders are in use
    files = [f"{stem}{middle}.safetensors" for stem in STEMS for middle in middles]
    if is_pipeline(name):
        homes = {"*": STEMS} if index is None else components(index)
        found = [(home, file) for home, stems in homes.items() for file in (*TEXTS, *files) if _is_of(file, stems)]
        return ["model_index.json", *(f"{home}/{file}" for home, file in found)]
    if "tokenizer" in name:
        return [_inside(part, text) for text in TEXTS]
    return [_inside(part, file) for file in (*TEXTS, *files)]


def components(index: Index) -> dict[str, tuple[str, ...]]:
    """The folders that a pipeline is made of, each with how the file of a network there may be called."""
    named = {key: entry[0] for key, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    return {key: _STEMS_OF.get(library, STEMS) for key, library in named.items() if library is not None}


def _is_of(file: str, stems: tuple[str, ...]) -> bool:
    return not file.endswith(".safetensors") or file.startswith(stems)


def hub_index(name: str, part: Part) -> Index | None:
    """The index of a pipeline on the hub, which is kept in its cache; None of another part.

    Raises:
        WeightsError: the repository holds no pipeline.
        Exception: those of the hub.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    if not is_pipeline(name):
        return None
    try:
        file = hf_hub_download(part.source, "model_index.json", revision=commit_of(part))
    except RemoteEntryNotFoundError as error:
        raise WeightsError(
            f"Part {name!r} needs model_index.json, which {part.source} does not have at revision {part.revision!r}: "
            f"it holds no pipeline of diffusers; choose another `source` in the preset."
        ) from error
    index: Index = json.loads(Path(file).read_text())
    return index


def weight_files(folder: Path, variant: str | None) -> tuple[Path, ...]:
    """The safetensors of the module in `folder`: one file, or all the shards of its index; empty if one is missing."""
    dot = f".{variant}" if variant else ""
    for stem in STEMS:
        whole = folder / f"{stem}{dot}.safetensors"
        if whole.is_file():
            return (whole,)
        for index in (folder / f"{stem}.safetensors.index{dot}.json", folder / f"{stem}{dot}.safetensors.index.json"):
            if index.is_file():
                try:
                    names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
                shards = tuple(folder / name for name in names)
                if all(shard.is_file() for shard in shards):
                    return shards
    return ()


def find_folder(name: str, part: Part) -> Path:
    """The folder of the part on this machine, fetched if it is not there.

    Raises:
        WeightsError: it is not there and cannot be fetched.
    """
    if not is_hub_id(part):
        return Path(source_of(part)) / part.subfolder
    return (local_folder(name, part) or fetch(name, part)) / part.subfolder


def local_folder(name: str, part: Part) -> Path | None:
    """Where its repository is on this machine with all that the part needs; None where it is not."""
    roots = [_mirror(part), cached_folder(part)] if is_hub_id(part) else [Path(source_of(part))]
    return next((root for root in roots if root is not None and root.is_dir() and _complete(name, part, root)), None)


def fetch_file(name: str, part: Part, file_name: str) -> Path:
    """One file of the part on this machine.

    Raises:
        WeightsError: there is none, and it cannot be fetched.
    """
    file = find_folder(name, replace(part, weight_name=file_name)) / file_name
    if not file.is_file():
        raise WeightsError(
            f"Part {name!r} cannot be loaded from {part.source}: there is no file {file}; "
            f"check `weight_name` in the preset, or fetch it again."
        )
    return file


def check_files(name: str, part: Part, folder: Path) -> None:
    """That the folder holds a config and whole safetensors, before anything is built.

    Raises:
        WeightsError: one sentence on what is wrong.
    """
    if not folder.is_dir():
        raise WeightsError(f"Part {name!r} cannot be loaded: there is no folder {folder}; check {part.source!r}.")
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"Part {name!r} cannot be loaded from {folder}: it has no config.json; "
            f"copy the whole folder of the hub, not the weights alone."
        )
    refuse_pointers(name, folder)
    files = weight_files(folder, part.variant)
    if not files:
        _refuse_pickles(name, folder)
        raise WeightsError(f"Part {name!r} cannot be loaded from {folder}: {_what_is_there(part, folder)}.")
    for file in files:
        refuse_pickle(name, part, file)
        check_whole(name, file)


def _refuse_pickles(name: str, folder: Path) -> None:
    pickles = sorted(file.name for file in folder.glob("[!.]*") if file.suffix in PICKLES) if folder.is_dir() else []
    if pickles:
        raise WeightsError(
            f"Part {name!r} from {folder} has {pickles[0]}, a pickle, where a .safetensors file belongs; a pickle "
            f"can run code and is never read here: `python -m stages weights --convert {folder}` makes the "
            f"safetensors file, if you trust where it comes from."
        )


def _what_is_there(part: Part, folder: Path) -> str:
    """Why the folder has no weights of the part's variant, and what to do."""
    if sorted(folder.glob("[!.]*.safetensors.index*.json")):
        return "not all of the .safetensors files of its index are there; fetch it again"
    others = sorted(file.name for file in folder.glob("[!.]*.safetensors"))
    if others:
        wanted = " or ".join(f"{stem}{f'.{part.variant}' if part.variant else ''}.safetensors" for stem in STEMS)
        return f"it has no {wanted}, only {others[0]}; choose that by `variant` in the preset, or fetch it again"
    return "it has no .safetensors file; fetch it again"


def local_state(name: str, part: Part) -> State:
    """Whether the part is on this machine; nothing is fetched. "broken" is one that git-lfs has only pointers of."""
    if part.source.startswith(_EMBEDDED):
        folder = WEIGHTS / part.source.removeprefix(_EMBEDDED)
        return "missing" if not folder.is_dir() else "broken" if has_pointer(folder) else "embedded"
    copy = _mirror(part) if is_hub_id(part) else Path(part.source).expanduser()
    if copy is not None and _complete(name, part, copy):
        return "broken" if has_pointer(copy / part.subfolder) else "local"
    cached = cached_folder(part) if is_hub_id(part) else None
    if cached is not None:
        if _complete(name, part, cached):
            return "broken" if has_pointer(cached / part.subfolder) else "cached"
        return "partly cached"
    if copy is None or not (copy / part.subfolder).is_dir():
        return "missing"
    return "broken" if has_pointer(copy / part.subfolder) else "partly local"


def fetch(name: str, part: Part) -> Path:
    """Fetch what the hub's cache does not have yet, with its progress bars; goes on where it stopped.

    Raises:
        WeightsError: the hub cannot be reached, or its repository holds no safetensors for this part.
    """
    from huggingface_hub import HfApi, snapshot_download  # only for public weights
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit = settle(part)
        HfApi().model_info(part.source, revision=commit)  # fails at once where a download would try for half a minute
        wanted = patterns(name, part, hub_index(name, part))
        folder = Path(snapshot_download(part.source, revision=commit, allow_patterns=wanted))
        if _complete(name, part, folder):
            return folder
    except WeightsError:
        raise
    except RevisionNotFoundError as error:
        raise WeightsError(no_revision(name, part)) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(no_repository(name, part)) from error
    except Exception as error:  # offline mode, no route, no room
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise WeightsError(f"Part {name!r}: {no_room(part.source)}") from error
        copy = _mirror(part)
        if copy is not None:
            _refuse_pickles(name, copy / part.subfolder)
        reason = " ".join(str(error).split())[:100].rstrip(".") or type(error).__name__
        raise WeightsError(no_network(name, part, reason)) from error
    raise WeightsError(no_safetensors(name, part))


def no_network(name: str, part: Part, reason: str) -> str:
    """One sentence: the repository, the command to run elsewhere, the folder to copy."""
    include = " ".join(f"--include '{pattern}'" for pattern in patterns(name, part))
    include += f" --exclude '{_SECOND_SET}'" if is_pipeline(name) else ""
    target = os.environ.get(MIRROR_VARIABLE) or "/models"
    return (
        f"Part {name!r} is not on this machine and {part.source} cannot be reached ({reason}): where there is network, "
        f"run `hf download {part.source}{_at(part)} {include} --local-dir {part.source}`, copy the folder "
        f"{part.source} to {target}/{part.source} here, and set {MIRROR_VARIABLE}={target}."
    )


def no_revision(name: str, part: Part) -> str:
    """One sentence for a commit that its repository does not have."""
    if moves(part) and (commit := commit_of(part)) != part.revision:
        return (
            f"Part {name!r} was fetched at commit {commit} of {part.source}, which is not there any more; take its "
            f"line out of {record_file()} to fetch what {part.revision!r} is now."
        )
    return (
        f"Part {name!r} wants revision {part.revision!r} of {part.source}, which has none of that name; take a commit "
        f"that https://huggingface.co/{part.source}/commits lists, or 'main', as the part's `revision` in the preset."
    )


def no_repository(name: str, part: Part) -> str:
    """One sentence for a repository that is not there, or that wants consent first."""
    return (
        f"Part {name!r}: the hub shows you no repository {part.source}; check `source` in the preset or, if it wants "
        f"consent first, give that on https://huggingface.co/{part.source} and run `hf auth login`."
    )


def no_room(what: str, needed: int = 0) -> str:
    """One sentence for a disk that is full, or would be with `needed` bytes more."""
    folder, free = cache_room()
    more = f"{needed / 1e9:.1f} GB more" if needed else "more room"
    return (
        f"{what} needs {more}, and {free / 1e9:.1f} GB are free at {folder}; make room there, or set HF_HUB_CACHE to a "
        f"folder on a larger disk."
    )


def cache_room() -> tuple[Path, int]:
    """The hub's cache and the bytes that are free there."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return folder, shutil.disk_usage(there).free


def _at(part: Part) -> str:
    return "" if (commit := commit_of(part)) == "main" else f" --revision {commit}"


def no_safetensors(name: str, part: Part) -> str:
    """One sentence for a repository that publishes a pickle alone."""
    target, place = os.environ.get(MIRROR_VARIABLE) or "/models", _inside(part, "*.bin")
    folder = "/".join(filter(None, (target, part.source, part.subfolder)))
    return (
        f"Part {name!r} needs one of {', '.join(patterns(name, part)[-2:])}, and {part.source} publishes none of them: "
        f"if you trust its pickle, run `hf download {part.source}{_at(part)} --include '{_inside(part, '*.json')}' "
        f"--include '{place}' --local-dir {target}/{part.source}` and `python -m stages weights --convert {folder}`, "
        f"and set {MIRROR_VARIABLE}={target}."
    )


def _mirror(part: Part) -> Path | None:
    root = os.environ.get(MIRROR_VARIABLE)
    copy = Path(root).expanduser() / part.source if root else None
    return copy if copy is not None and copy.is_dir() else None


def cached_folder(part: Part) -> Path | None:
    """Where its repository is in the hub's cache, whole or not."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(part.source, revision=commit_of(part), local_files_only=True))
    except Exception as error:  # the hub's own kinds: nothing of the repository is in the cache, or not all of it
        found = getattr(error, "snapshot_path", None)  # which is enough: parts are some of its files
        return None if found is None else Path(found)


def _complete(name: str, part: Part, folder: Path) -> bool:
    root = folder / part.subfolder
    if part.weight_name:
        return (root / part.weight_name).is_file()
    if is_pipeline(name):
        return (root / "model_index.json").is_file() and _components(root, part.variant)
    if "tokenizer" in name:
        return any((root / file).is_file() for file in ("vocab.json", "tokenizer.json"))
    return (root / "config.json").is_file() and bool(weight_files(root, part.variant))


def _components(folder: Path, variant: str | None) -> bool:
    try:
        index = json.loads((folder / "model_index.json").read_text())
    except ValueError:
        return False
    for name, entry in index.items():
        if isinstance(entry, list) and entry[0] is not None:
            own = folder / name
            if not own.is_dir() or not any(own.iterdir()):
                return False
            if (own / "config.json").is_file() and not weight_files(own, variant):
                return False
    return True


def _inside(part: Part, name: str) -> str:
    return f"{part.subfolder}/{name}" if part.subfolder else name
