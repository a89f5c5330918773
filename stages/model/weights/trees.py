"""What fetching a part would bring, judged by the list of files of its repository, and of a pipeline by its index.

Takes a part and a tree, path to bytes, as the hub lists it at the part's revision. A file that is not there, a shard of
a set that is not whole, a pickle alone: told before gigabytes move. What else lies in the repository is no matter.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch

from stages.base import WeightsError
from stages.model.weights.commits import commit_of
from stages.model.weights.files import (
    STEMS,
    Index,
    cached_folder,
    components,
    hub_index,
    is_pipeline,
    no_network,
    no_repository,
    no_revision,
    no_safetensors,
    patterns,
)
from stages.presets import Part

Tree = Mapping[str, int]  # path in the repository -> bytes; 0 where the hub does not say

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


def hub_tree(name: str, part: Part) -> tuple[dict[str, int], Index | None]:
    """The repository's files at the part's revision, and the index if it is a pipeline.

    Raises:
        WeightsError: the hub cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(part.source, revision=commit_of(part), files_metadata=True)
        index = hub_index(name, part)
    except WeightsError:
        raise
    except RevisionNotFoundError as error:
        raise WeightsError(no_revision(name, part)) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(no_repository(name, part)) from error
    except Exception as error:  # the hub's own kinds
        reason = " ".join(str(error).split())[:100].rstrip(".") or type(error).__name__
        raise WeightsError(no_network(name, part, reason)) from error
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}, index


def to_fetch(name: str, part: Part, tree: Tree, index: Index | None = None) -> dict[str, int]:
    """What `files.fetch` would bring of the tree.

    Raises:
        WeightsError: it would not be all that the part needs.
    """
    gap = next(_gaps(name, part, tree, index), None)
    if gap is None:
        likes = patterns(name, part, index)
        return {path: size for path, size in tree.items() if any(fnmatch(path, like) for like in likes)}
    beside = [path for path in tree if path.rpartition("/")[0] == gap.rpartition("/")[0]]
    if gap.endswith(".safetensors") and any(path.endswith(".bin") for path in beside) and not part.weight_name:
        raise WeightsError(no_safetensors(name, part))
    raise WeightsError(
        f"Part {name!r} needs {gap}, which {part.source} does not have at revision {part.revision!r}; check subfolder, "
        f"variant, weight_name and revision in the preset."
    )


def lacking(part: Part, wanted: Tree) -> dict[str, int]:
    """Of the files of a part those that the hub's cache has not, each with the bytes that are still to come."""
    folder = cached_folder(part)
    if folder is None:
        return dict(wanted)
    absent = {path: size for path, size in wanted.items() if not (folder / path).is_file()}
    begun = sum(file.stat().st_size for file in (folder.parents[1] / "blobs").glob("*.incomplete"))
    for path in sorted(absent, key=lambda own: -absent[own]):  # nobody says whose a file is that has begun to come
        taken = min(begun, absent[path])
        absent[path], begun = absent[path] - taken, begun - taken
    return absent


def _gaps(name: str, part: Part, tree: Tree, index: Index | None) -> Iterator[str]:
    inside = f"{part.subfolder}/" if part.subfolder else ""
    if part.weight_name:
        if inside + part.weight_name not in tree:
            yield inside + part.weight_name
    elif is_pipeline(name):
        if "model_index.json" not in tree or index is None:
            yield "model_index.json"
        for home, stems in components(index or {}).items():
            if not any(path.startswith(f"{home}/") for path in tree):
                yield f"{home}/*.json"
            elif f"{home}/config.json" in tree and not _is_whole(tree, f"{home}/", part.variant, stems):
                yield _file(f"{home}/", part.variant, stems)
    elif "tokenizer" in name:
        if not {f"{inside}vocab.json", f"{inside}tokenizer.json"} & set(tree):
            yield f"{inside}vocab.json"
    else:
        if f"{inside}config.json" not in tree:
            yield f"{inside}config.json"
        if not _is_whole(tree, inside, part.variant, STEMS):
            yield _file(inside, part.variant, STEMS)


def _file(home: str, variant: str | None, stems: Sequence[str]) -> str:
    return f"{home}{stems[0]}{f'.{variant}' if variant else ''}.safetensors"


def _is_whole(tree: Tree, home: str, variant: str | None, stems: Sequence[str]) -> bool:
    dot = f".{variant}" if variant else ""
    names = {path.removeprefix(home) for path in tree if path.startswith(home) and path.endswith(".safetensors")}
    for stem in stems:
        if f"{stem}{dot}.safetensors" in names:
            return True
        for name in names:
            shard = _SHARD.search(name)
            if shard and _SHARD.sub("", name) == f"{stem}{dot}.safetensors":
                count = int(shard[2])
                whole = [_SHARD.sub(f"-{number:05}-of-{shard[2]}", name) for number in range(1, count + 1)]
                if set(whole) <= names:
                    return True
    return False
